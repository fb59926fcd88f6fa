//! A page in pieces is the page, wherever the pieces end.

use super::*;
use crate::exposition::PIECE;

proptest! {
    #[test]
    fn the_size_of_the_pieces_does_not_matter(
        tasks in proptest::collection::vec(any_entry(), 0..5),
        subscription in any_subscription(),
        full in prop_oneof![1_usize..200, 1_usize..5_000],
        open in any::<bool>(),
    ) {
        let format = if open { Format::OpenMetrics } else { Format::Text };
        let store = Store::new(LIMITS, tasks);
        store.update_subscription(subscription);
        let content = Arc::new(Content::new(store.snapshot(), 1_700_000_200_000));
        let whole: Vec<u8> = Writer::new(Arc::clone(&content), format, Names::Every)
            .flatten()
            .collect();

        let mut writer = Writer::new(content, format, Names::Every);
        let mut joined = Vec::new();
        loop {
            let mut piece = Vec::new();
            writer.write_until(full, &mut piece);
            if piece.is_empty() {
                break;
            }
            prop_assert_eq!(piece.last(), Some(&b'\n'));
            prop_assert!(piece.len() >= full - full / 3 || writer.is_done());
            joined.extend(piece);
        }
        prop_assert!(writer.is_done());
        prop_assert_eq!(String::from_utf8(joined), String::from_utf8(whole));
    }
}

#[test]
fn a_large_page_comes_in_pieces_and_each_artifact_once() {
    let rows = |repo: &str, count: u32| {
        (0..count)
            .map(|tag| row(repo, &tag.to_string(), "SUCCESS", 1_000, 2_000))
            .collect::<Vec<_>>()
    };
    let limits = Limits {
        artifacts_per_task: 5_000,
        ..LIMITS
    };
    let entries = [
        polled(target("crast-1", "a"), None, rows("a", 3_000)),
        polled(target("crast-2", "b"), None, rows("b", 7)),
        polled(target("crast-3", "c"), None, rows("c", 2_000)),
    ];
    let snapshot = Store::new(limits, entries).snapshot();
    let content = Arc::new(Content::new(snapshot, 1_700_000_100_250));
    let pieces: Vec<_> = Writer::new(Arc::clone(&content), Format::Text, Names::Every).collect();

    let (last, full) = pieces.split_last().unwrap();
    assert!(full.len() > 20, "{}", full.len());
    for piece in full {
        // A row here is one line, the first rows of a task aside.
        assert!(
            (PIECE - PIECE / 3..PIECE + 2_000).contains(&piece.len()),
            "{}",
            piece.len()
        );
    }
    assert!(last.len() < PIECE + 2_000);

    let page = String::from_utf8(pieces.concat()).unwrap();
    assert_eq!(read(&page).len(), content.view().series);
    let tags = |repo: &str| {
        let repo = format!("repo_name=\"{repo}\",tag=\"");
        page.lines()
            .filter(|line| line.starts_with("aliyun_acr_subscription_artifact_sync"))
            .filter_map(|line| line.split_once(&repo)?.1.split('"').next())
            .collect::<Vec<_>>()
    };
    // The order of the rows is the order of their tags as text.
    let sorted = |count: u32| {
        let mut tags: Vec<_> = (0..count).map(|tag| tag.to_string()).collect();
        tags.sort();
        tags
    };
    assert_eq!(tags("a"), sorted(3_000));
    assert_eq!(tags("b"), sorted(7));
    assert_eq!(tags("c"), sorted(2_000));
}
