//! Whatever the parts are, readers that know nothing of parts read the whole.

use std::io::Read;

use flate2::bufread::GzDecoder;
use proptest::prelude::*;

use super::*;

fn compressed(coding: Coding, parts: &[Vec<u8>]) -> Compressed {
    compressed_after(None, coding, parts)
}

fn compressed_after(before: Option<&Compressed>, coding: Coding, parts: &[Vec<u8>]) -> Compressed {
    let mut parts = parts.iter();
    Compressed::after(before, coding, |piece| {
        if let Some(part) = parts.next() {
            piece.extend_from_slice(part);
        }
    })
}

fn with_end(page: &Compressed, tail: &[u8]) -> Vec<u8> {
    let mut whole = page.pieces().concat();
    whole.extend_from_slice(&page.end(tail));
    whole
}

/// The first member alone, which must be all there is.
fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = GzDecoder::new(bytes);
    let mut read = Vec::new();
    decoder
        .read_to_end(&mut read)
        .expect("a member, its checksum and its length");
    assert!(
        decoder.into_inner().is_empty(),
        "something follows the member"
    );
    read
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..200),
        ("[a-z]{1,8}", 1_usize..20_000).prop_map(|(text, times)| text.repeat(times).into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_beginning_reads_whole_with_each_of_its_ends(
        parts in proptest::collection::vec(part(), 0..6),
        tails in proptest::collection::vec(proptest::option::of(part()), 1..3),
    ) {
        let gzip = compressed(Coding::Gzip, &parts);
        let zstd = compressed(Coding::Zstd, &parts);
        for tail in tails {
            let tail = tail.unwrap_or_default();
            let expected = [parts.concat(), tail.clone()].concat();
            prop_assert_eq!(&gunzip(&with_end(&gzip, &tail)), &expected);
            let read = zstd::decode_all(&*with_end(&zstd, &tail)).unwrap();
            prop_assert_eq!(&read, &expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever of a page is on the next one, and wherever.
    #[test]
    fn a_page_made_from_another_reads_whole(
        parts in proptest::collection::vec(part(), 1..6),
        others in proptest::collection::vec(part(), 0..3),
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let pool: Vec<_> = parts.iter().chain(&others).cloned().collect();
        let next: Vec<_> = picks.iter().map(|pick| pick.get(&pool).clone()).collect();
        for coding in [Coding::Gzip, Coding::Zstd] {
            let first = compressed(coding, &parts);
            let second = compressed_after(Some(&first), coding, &next);
            // What was copied can be copied again.
            let third = compressed_after(Some(&second), coding, &next);
            for page in [&second, &third] {
                let sent = with_end(page, b"end");
                let read = match coding {
                    Coding::Gzip => gunzip(&sent),
                    Coding::Zstd => zstd::decode_all(&*sent).unwrap(),
                };
                prop_assert_eq!(&read, &[next.concat(), b"end".to_vec()].concat());
            }
            prop_assert_eq!(third.reused(), third.segments());
        }
    }
}

#[test]
fn what_does_not_shrink_comes_in_pieces() {
    // Digits of a multiplication chain: no encoder finds an order in them.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(5 * PIECE + 1)
    .collect();
    let parts: Vec<_> = noise.chunks(PIECE).map(<[u8]>::to_vec).collect();
    for coding in [Coding::Gzip, Coding::Zstd] {
        let page = compressed(coding, &parts);
        let (last, full) = page.pieces().split_last().unwrap();
        assert_eq!(full.len(), 5, "{coding:?}");
        assert!(full.iter().all(|piece| piece.len() == PIECE), "{coding:?}");
        assert!(last.len() < PIECE, "{coding:?}");
        let whole = with_end(&page, b"end");
        let read = match coding {
            Coding::Gzip => gunzip(&whole),
            Coding::Zstd => zstd::decode_all(&*whole).unwrap(),
        };
        assert_eq!(read, [&*noise, b"end"].concat());
    }
}

#[test]
fn a_changed_end_is_noticed() {
    let page = compressed(Coding::Gzip, &[b"kept".to_vec()]);
    let mut whole = with_end(&page, b"end");
    // The lowest byte of the checksum, which stands before the length.
    let at = whole.len() - 8;
    whole[at] ^= 1;
    let read = GzDecoder::new(&*whole).read_to_end(&mut Vec::new());
    assert!(read.is_err());
}
