//! The page against a plain writer of the same catalogue: no pieces, no prepared
//! labels, no number tricks, one `format!` a line. They must agree byte for
//! byte, whatever the store holds, also through gzip and zstd.

use std::io::Read as _;

use exporter_web::compress::{Coding, Compressed};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::metrics::catalog::{
    ARTIFACT_LABELS, CATALOG, Kind, SUBSCRIPTION_LABELS, Samples, TASK_LABELS,
};
use crate::store::{SubscriptionView, TaskView, View};

fn escaped(value: &str) -> String {
    // Cut as the contract says: to 1 024 bytes with the start of the hash behind.
    let mut value = value.to_owned();
    if value.len() > 1024 {
        let hash = Sha256::digest(&value);
        let hash = u32::from_be_bytes(hash[..4].try_into().expect("four bytes"));
        let mut kept = String::new();
        for letter in value.chars() {
            if kept.len() + letter.len_utf8() + "…".len() + 8 > 1024 {
                break;
            }
            kept.push(letter);
        }
        value = format!("{kept}…{hash:08x}");
    }
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn number(value: Value) -> String {
    let thousandths = i128::from(value.thousandths());
    let sign = if thousandths < 0 { "-" } else { "" };
    let (whole, part) = (thousandths.abs() / 1000, thousandths.abs() % 1000);
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let decimals = format!("{part:03}");
    format!("{sign}{whole}.{}", decimals.trim_end_matches('0'))
}

fn line<'a>(
    name: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    value: Value,
) -> String {
    let labels: Vec<_> = labels
        .into_iter()
        .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
        .collect();
    format!("{name}{{{}}} {}\n", labels.join(","), number(value))
}

fn of_task<'a>(task: &'a TaskView<'_>) -> [(&'static str, &'a str); 3] {
    let target = &task.entry.target;
    let values = [&*target.instance_id, &*target.task_id, &*target.task];
    std::array::from_fn(|place| (TASK_LABELS[place], values[place]))
}

fn of_subscription<'a>(subscription: &'a SubscriptionView<'_>) -> [(&'static str, &'a str); 5] {
    let (entry, of) = (subscription.entry, &subscription.entry.subscription);
    let values: [&str; 5] = [
        &entry.instance_id,
        &of.repo_namespace,
        &of.repo_name,
        &of.source_provider,
        &of.source_repository,
    ];
    std::array::from_fn(|place| (SUBSCRIPTION_LABELS[place], values[place]))
}

fn reference(snapshot: &Arc<Snapshot>, now_ms: i64, format: Format) -> String {
    let open = format == Format::OpenMetrics;
    let view = View::new(Arc::clone(snapshot), now_ms, SERIES);
    let mut page = String::new();
    for metric in CATALOG {
        let mut lines = String::new();
        match metric.samples {
            Samples::Task(samples) => {
                for task in view.tasks() {
                    samples(&task, &mut |values, value| {
                        let more = metric.labels.iter().copied().zip(values.iter().copied());
                        lines += &line(metric.name, of_task(&task).into_iter().chain(more), value);
                    });
                }
            }
            Samples::Artifact(samples) => {
                for task in view.tasks() {
                    for artifact in task.artifacts() {
                        let own = [artifact.repo_namespace, artifact.repo_name, artifact.tag];
                        samples(&artifact, &mut |values, value| {
                            let own = ARTIFACT_LABELS.into_iter().zip(own);
                            let more = metric.labels.iter().copied().zip(values.iter().copied());
                            let labels = of_task(&task).into_iter().chain(own).chain(more);
                            lines += &line(metric.name, labels, value);
                        });
                    }
                }
            }
            Samples::Subscription(samples) => {
                for subscription in view.subscriptions() {
                    samples(&subscription, &mut |values, value| {
                        let more = metric.labels.iter().copied().zip(values.iter().copied());
                        let labels = of_subscription(&subscription).into_iter().chain(more);
                        lines += &line(metric.name, labels, value);
                    });
                }
            }
            Samples::Durations(durations) => {
                for (instance_id, of_instance) in view.durations() {
                    let durations = durations(of_instance);
                    let mut sample = |suffix: &str, bound: Option<&str>, value| {
                        let labels = [("instance_id", &**instance_id)];
                        let labels = labels.into_iter().chain(bound.map(|bound| ("le", bound)));
                        lines += &line(&format!("{}{suffix}", metric.name), labels, value);
                    };
                    let mut below = 0;
                    for (place, count) in durations.buckets.iter().enumerate() {
                        below += count;
                        let bound = match Durations::BOUNDS.get(place) {
                            Some(bound) if open => format!("{bound}.0"),
                            Some(bound) => bound.to_string(),
                            None => "+Inf".to_owned(),
                        };
                        sample("_bucket", Some(&bound), Value::total(below));
                    }
                    sample("_sum", None, Value::millis(durations.sum_ms));
                    sample("_count", None, Value::total(below));
                }
            }
        }
        if lines.is_empty() {
            continue;
        }
        let family = match metric.kind {
            Kind::Counter if open => metric.name.trim_end_matches("_total"),
            _ => metric.name,
        };
        let help = if open {
            escaped(metric.help)
        } else {
            metric.help.replace('\\', "\\\\").replace('\n', "\\n")
        };
        page += &format!("# HELP {family} {help}\n");
        page += &format!("# TYPE {family} {}\n", metric.kind.as_str());
        if open && family.ends_with("_seconds") {
            page += &format!("# UNIT {family} seconds\n");
        }
        page += &lines;
    }
    page
}

proptest! {
    #[test]
    fn the_page_is_that_of_the_plain_writer(
        tasks in proptest::collection::vec(any_entry(), 0..6),
        subscriptions in proptest::collection::vec(any_subscription(), 0..4),
        listed_before_ms in proptest::sample::select(vec![0, 86_400_000]),
        series in proptest::sample::select(vec![0, 60, 200_000]),
        artifacts_per_task in proptest::sample::select(vec![0, 3, 500]),
        open in any::<bool>(),
        durations in any_durations(),
    ) {
        let now_ms = 1_700_000_200_000;
        let format = if open { Format::OpenMetrics } else { Format::Text };
        let store = Store::new(Limits { series, artifacts_per_task, ..LIMITS }, tasks);
        for instance_id in ["a", "b"] {
            store.update_listing(ListingEntry {
                instance_id: instance_id.into(),
                durations: Arc::clone(&durations),
                announced: instance_id == "a",
                ..listed_at(now_ms - listed_before_ms)
            });
        }
        for subscription in subscriptions {
            store.update_subscription(subscription);
        }
        let snapshot = store.snapshot();
        let expected = reference(&snapshot, now_ms, format);

        let content = Arc::new(Content::new(snapshot, now_ms));
        let writer = || Writer::new(Arc::clone(&content), format, Names::Every);
        let plain: Vec<u8> = writer().flatten().collect();
        prop_assert_eq!(&String::from_utf8(plain).unwrap(), &expected);

        let end = "# EOF\n";
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut writer = writer();
            let kept = Compressed::new(coding, |piece| writer.write_piece(piece));
            let mut sent = kept.pieces().concat();
            sent.extend_from_slice(&kept.end(end.as_bytes()));
            let mut read = String::new();
            match coding {
                Coding::Gzip => flate2::bufread::GzDecoder::new(&*sent).read_to_string(&mut read),
                Coding::Zstd => zstd::Decoder::new(&*sent).unwrap().read_to_string(&mut read),
            }
            .unwrap();
            prop_assert_eq!(&read, &format!("{expected}{end}"));
        }
    }
}
