//! One encoding a change, however many ask, and none for nobody.

use std::sync::Weak;

use futures_util::future::join_all;
use tokio::time::advance;

use super::*;
use crate::model::{Assessment, Folded, Row, Words};
use crate::store::{ArtifactSeries, Limits, Origin, Target, TaskEntry};

const NOW_MS: i64 = 1_700_000_000_000;

const PAGES: [(Format, Coding); 4] = [
    (Format::Text, Coding::Gzip),
    (Format::Text, Coding::Zstd),
    (Format::OpenMetrics, Coding::Gzip),
    (Format::OpenMetrics, Coding::Zstd),
];

fn entry(task_id: &str, artifacts: usize) -> TaskEntry {
    let target = Target {
        instance_id: "cri-a".into(),
        task_id: task_id.into(),
        task: task_id.into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    };
    let rows = (0..artifacts).map(|tag| Row {
        tag: tag.to_string(),
        result: "SUCCESS".into(),
        start_ms: Some(1_000),
        end_ms: Some(2_000),
        ..Row::default()
    });
    let words = Words::default();
    let folded = Folded::new(rows, &words);
    TaskEntry {
        data: Some(Assessment::new(folded, None, &words)),
        last_poll_ms: Some(NOW_MS),
        last_success_ms: Some(NOW_MS),
        ..TaskEntry::new(Arc::new(target), Duration::from_secs(60))
    }
}

fn store(artifacts: usize) -> Store {
    let limits = Limits {
        series: 1_000_000,
        artifacts_per_task: 1_000_000,
        stale_after: Duration::from_secs(300),
    };
    Store::new(limits, [entry("crast-1", artifacts)])
}

#[test]
fn a_generation_lasts_until_the_store_changes_or_data_turns_stale() {
    let store = store(1);
    let pages = Pages::default();
    let first = pages.generation(&store, NOW_MS);
    let is_first = |now_ms| Arc::ptr_eq(&first, &pages.generation(&store, now_ms));
    assert!(is_first(NOW_MS + 300_000), "the last moment of its data");
    // The clock may be set back: what was fresh then is fresh.
    assert!(is_first(NOW_MS - 86_400_000));
    assert!(!is_first(NOW_MS + 300_001));
    assert!(!is_first(NOW_MS), "one is kept");

    let stale = pages.generation(&store, NOW_MS + 300_001);
    assert!(Arc::ptr_eq(&stale, &pages.generation(&store, i64::MAX)));
    assert!(!Arc::ptr_eq(
        &stale,
        &pages.generation(&store, NOW_MS + 300_000)
    ));

    let before = pages.generation(&store, NOW_MS);
    store.update(entry("crast-2", 1));
    let after = pages.generation(&store, NOW_MS);
    assert!(!Arc::ptr_eq(&before, &after));
    let tasks = |of: &Generation| {
        of.content()
            .now_or_never()
            .unwrap()
            .unwrap()
            .view()
            .tasks()
            .len()
    };
    assert_eq!((tasks(&before), tasks(&after)), (1, 2));
}

async fn many_scrapes_are_one_encoding(artifacts: usize) {
    let store = store(artifacts);
    let pages = Arc::new(Pages::default());
    let generation = pages.generation(&store, NOW_MS);
    // A client that goes away before it has an answer takes nothing with it.
    let gone = generation.compressed(Format::Text, Coding::Gzip);
    let _ = tokio::time::timeout(Duration::ZERO, gone).await;

    let scrapes = (0..40).map(|scrape| {
        let generation = pages.generation(&store, NOW_MS);
        let (format, coding) = PAGES[scrape % PAGES.len()];
        tokio::spawn(async move {
            let content = generation.content().await.unwrap();
            (
                content,
                generation.compressed(format, coding).await.unwrap(),
            )
        })
    });
    let scrapes: Vec<_> = scrapes.collect();
    let answers: Vec<_> = join_all(scrapes)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for (scrape, (content, page)) in answers.iter().enumerate() {
        assert!(Arc::ptr_eq(content, &answers[0].0));
        assert!(Arc::ptr_eq(page, &answers[scrape % PAGES.len()].1));
    }
    // An encoding whose result is thrown away would be somebody's result.
    let (first, ..) = &answers[0];
    let expected = first.view().series;
    assert_eq!(expected, 19 + 2 * artifacts);

    store.update(entry("crast-1", artifacts));
    let next = pages.generation(&store, NOW_MS);
    let next = next.compressed(Format::Text, Coding::Gzip).await.unwrap();
    assert!(!Arc::ptr_eq(&next, &answers[0].1));
}

#[tokio::test]
async fn many_scrapes_of_a_small_page_are_one_encoding() {
    many_scrapes_are_one_encoding(10).await;
}

#[tokio::test]
async fn many_scrapes_of_a_large_page_are_one_encoding() {
    many_scrapes_are_one_encoding(60_000).await;
}

/// The runtime's one thread goes on while much is chosen or compressed.
#[tokio::test]
async fn a_large_page_holds_nothing_up() {
    // A first look hands over what is large and does what is small.
    let is_made_at_once = async |artifacts: usize, coding| {
        let store = store(artifacts);
        let generation = Pages::default().generation(&store, NOW_MS);
        let content = generation.content().now_or_never().is_some();
        generation.content().await.unwrap();
        let compressed = generation.compressed(Format::Text, coding);
        (content, compressed.now_or_never().is_some())
    };
    for coding in [Coding::Gzip, Coding::Zstd] {
        assert_eq!(is_made_at_once(60_000, coding).await, (false, false));
        assert_eq!(is_made_at_once(20_000, coding).await, (true, false));
        assert_eq!(is_made_at_once(100, coding).await, (true, true));
    }
}

/// Each page of the generation while it is kept.
async fn kept(generation: &Generation, pages: &[(Format, Coding)]) -> Vec<Weak<Compressed>> {
    let mut kept = Vec::new();
    for (format, coding) in pages {
        let page = generation.compressed(*format, *coding).await.unwrap();
        kept.push(Arc::downgrade(&page));
    }
    kept
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_in_5_minutes_is_dropped() {
    let store = store(1);
    let pages = Arc::new(Pages::default());
    let forgetting = tokio::spawn({
        let pages = Arc::clone(&pages);
        async move { pages.forget_unused().await }
    });
    let pass = async |seconds| {
        advance(Duration::from_secs(seconds)).await;
        // Time has passed for this task alone yet.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    };
    let is_there = |page: &Weak<_>| page.strong_count() > 0;
    // The first look finds nothing.
    pass(7).await;

    let generation = pages.generation(&store, NOW_MS);
    let of_generation = Arc::downgrade(&generation);
    let [gzip, zstd] = kept(&generation, &PAGES[..2]).await.try_into().unwrap();
    drop(generation);
    pass(200).await;
    // Asked for again.
    kept(&pages.generation(&store, NOW_MS), &PAGES[..1]).await;
    pass(99).await;
    assert!(is_there(&gzip) && is_there(&zstd));
    pass(1).await;
    assert!(is_there(&gzip) && !is_there(&zstd));
    pass(199).await;
    assert!(is_there(&gzip));
    // A plain scrape needs the content and no page.
    pages.generation(&store, NOW_MS);
    pass(1).await;
    assert!(!is_there(&gzip) && of_generation.strong_count() > 0);
    pass(298).await;
    assert!(of_generation.strong_count() > 0);
    pass(1).await;
    assert_eq!(of_generation.strong_count(), 0);

    // And it can be made again.
    let again = pages.generation(&store, NOW_MS);
    assert!(again.compressed(Format::Text, Coding::Gzip).await.is_some());
    assert!(!forgetting.is_finished());
    forgetting.abort();
}

#[tokio::test]
async fn the_pages_before_a_change_last_until_they_are_made_anew() {
    let store = store(1);
    let pages = Pages::default();
    let before = kept(&pages.generation(&store, NOW_MS), &PAGES).await;
    store.update(entry("crast-2", 1));
    pages.generation(&store, NOW_MS);
    store.update(entry("crast-3", 1));
    let generation = pages.generation(&store, NOW_MS);
    assert!(before.iter().all(|page| page.strong_count() == 1));

    let after = kept(&generation, &PAGES).await;
    assert!(before.iter().all(|page| page.strong_count() == 0));
    assert!(after.iter().all(|page| page.strong_count() == 1));
}

/// What one task changes leaves most of the page what it was.
#[tokio::test]
async fn what_has_not_changed_is_not_compressed_again() {
    let store = Store::new(
        Limits {
            series: 1_000_000,
            artifacts_per_task: 500,
            stale_after: Duration::from_secs(300),
        },
        (0..2_000).map(|number| entry(&format!("crast-{number:04}"), 1)),
    );
    let pages = Pages::default();
    let generation = pages.generation(&store, NOW_MS);
    let before = generation.compressed(Format::Text, Coding::Gzip).await;
    let before = before.unwrap();
    let mut polled = entry("crast-1000", 1);
    polled.last_poll_ms = Some(NOW_MS + 1);
    store.update(polled);
    let generation = pages.generation(&store, NOW_MS);
    let after = generation.compressed(Format::Text, Coding::Gzip).await;
    let after = after.unwrap();

    assert!(before.segments() > 100, "{}", before.segments());
    // The family of the last polls, where this task stands.
    assert_eq!(after.segments() - after.reused(), 1);
}

/// Whatever happens to the store, the page made from the one before is the page.
#[tokio::test]
async fn a_page_made_from_the_one_before_is_what_the_writer_writes() {
    let mut random = 1_u64;
    let mut below = |limit: u64| {
        // Knuth's multiplier: the same steps in each run.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % limit
    };
    let store = store(40);
    let pages = Pages::default();
    let mut copied = 0;
    for step in 0..60 {
        for _ in 0..=below(5) {
            let number = below(600);
            let task_id = format!("crast-{number:03}");
            if below(6) == 0 {
                store.remove(&"cri-a".into(), &task_id.into());
                continue;
            }
            let mut changed = entry(&task_id, usize::try_from(below(30)).unwrap());
            changed.last_poll_ms = Some(NOW_MS + i64::try_from(below(2_000)).unwrap());
            store.update(changed);
        }
        if step == 0 {
            (0..600).for_each(|number| store.update(entry(&format!("crast-{number:03}"), 9)));
        }
        let generation = pages.generation(&store, NOW_MS);
        let content = generation.content().await.unwrap();
        let written: Vec<u8> = Writer::new(content, Format::Text, Names::Every)
            .flatten()
            .collect();
        let page = generation.compressed(Format::Text, Coding::Gzip).await;
        let page = page.unwrap();
        let sent = [page.pieces().concat(), page.end(b"").to_vec()].concat();
        let mut read = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(&*sent);
        std::io::Read::read_to_end(&mut decoder, &mut read).expect("one sound member");
        assert!(read == written, "step {step}");
        copied += page.reused();
    }
    assert!(copied > 500, "{copied}");
}
