//! Which part of the work `--shard.index` and `--shard.total` give to this process.

use crate::shard::Shard;

use super::Error;

/// The index is the number at the end of the host name.
const AUTO: &str = "auto";

/// The shard that was typed, the whole where none was.
pub(super) fn typed(index: Option<&str>, total: Option<u32>) -> Result<Shard, Error> {
    match (index, total) {
        (None, None) => Ok(Shard::WHOLE),
        (Some(AUTO), Some(total)) => of_host(&host_name()?, total),
        (Some(index), Some(total)) => {
            let number = index.parse().map_err(|_| {
                Error::Usage(format!(
                    "--shard.index {index:?} is no number; write one from 0 on, or auto"
                ))
            })?;
            Shard::new(number, total).ok_or_else(|| too_large(number, total))
        }
        _ => Err(Error::Usage(
            "--shard.index and --shard.total belong together; give both or neither".to_owned(),
        )),
    }
}

fn of_host(name: &str, total: u32) -> Result<Shard, Error> {
    let index = ordinal(name).ok_or_else(|| {
        Error::Usage(format!(
            "--shard.index=auto: the host name {name:?} does not end with a dash and a number, \
             as that of a StatefulSet's pod does (exporter-3); write the number instead"
        ))
    })?;
    Shard::new(index, total).ok_or_else(|| too_large(index, total))
}

fn too_large(index: u32, total: u32) -> Error {
    Error::Usage(format!(
        "--shard.index {index} is not less than --shard.total {total}; shards are counted from 0"
    ))
}

/// 3 of `exporter-3` and of `exporter-3.exporter.monitoring.svc`.
fn ordinal(host_name: &str) -> Option<u32> {
    let pod = host_name.split('.').next()?;
    let (_, number) = pod.rsplit_once('-')?;
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| digits)
}

/// As the container runtime says it, else as the kernel does.
fn host_name() -> Result<String, Error> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the name of a pod is in its environment"
    )]
    let told = std::env::var("HOSTNAME").unwrap_or_default();
    if !told.is_empty() {
        return Ok(told);
    }
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(name) => Ok(name.trim().to_owned()),
        Err(error) => Err(Error::Usage(format!(
            "--shard.index=auto: the host name cannot be read ({error}); write the number instead"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ordinal_stands_behind_the_last_dash_of_the_first_label() {
        for (name, expected) in [
            ("exporter-0", Some(0)),
            ("acr-exporter-12", Some(12)),
            ("exporter-3.exporter.monitoring.svc.cluster.local", Some(3)),
            ("exporter-007", Some(7)),
            ("exporter", None),
            ("exporter-", None),
            ("exporter3", None),
            ("exporter-+3", None),
            ("exporter-6d4cf56db6-x2x9z", None),
            ("exporter-99999999999", None),
            ("10.0.0.1-3", None),
            ("", None),
        ] {
            assert_eq!(ordinal(name), expected, "{name}");
        }
    }

    #[test]
    fn both_are_given_or_neither_and_the_index_is_less() {
        let shard = |index, total| typed(index, total).ok();
        assert_eq!(shard(None, None), Some(Shard::WHOLE));
        assert_eq!(shard(Some("2"), Some(3)), Shard::new(2, 3));
        for (index, total) in [
            (Some("3"), Some(3)),
            (Some("-1"), Some(3)),
            (Some("first"), Some(3)),
            (Some(""), Some(3)),
            (Some("0"), None),
            (Some("auto"), None),
            (None, Some(1)),
        ] {
            assert_eq!(shard(index, total), None, "{index:?} {total:?}");
        }
        assert_eq!(of_host("exporter-1", 2).ok(), Shard::new(1, 2));
        assert!(of_host("exporter-2", 2).is_err());
    }
}
