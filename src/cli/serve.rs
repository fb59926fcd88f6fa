//! `serve`, the daemon.

use std::sync::Arc;

use alibaba_cloud::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::app::reload::Origin;
use crate::app::{Daemon, Web};
use crate::config::Config;
use crate::metrics::own::Own;
use crate::shard::Shard;

use super::{Error, Flags, block_on, both};

pub(super) fn serve(flags: &Flags, own: Arc<Own>) -> Result<(), Error> {
    // Both files may be wrong.
    let ((config, origin), web) = both(flags.load_origin(), web(flags))?;
    let shard = flags.shard()?;
    own.shard_index.set(i64::from(shard.index()));
    own.shards.set(i64::from(shard.total()));
    block_on(async {
        let daemon = bind(web, own).await?;
        run(daemon, config, Some(origin), shard).await
    })?
}

pub(super) async fn bind(web: Web, own: Arc<Own>) -> Result<Daemon, Error> {
    Daemon::bind(web, own, Clock::system())
        .await
        .map_err(|error| Error::failed(&error))
}

pub(super) async fn run(
    daemon: Daemon,
    config: Config,
    origin: Option<Origin>,
    shard: Shard,
) -> Result<(), Error> {
    daemon
        .run(config, origin, shard, CancellationToken::new())
        .await
        .map_err(|error| Error::failed(&error))
}

pub(super) fn web(flags: &Flags) -> Result<Web, Error> {
    let path = &flags.web_telemetry_path;
    let plain = path.len() > 1
        && path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#%".contains(&byte));
    if !plain {
        return Err(Error::Usage(format!(
            "--web.telemetry-path {path:?} is no path; write one such as /metrics"
        )));
    }
    if crate::server::is_reserved(path) {
        return Err(Error::Usage(format!(
            "--web.telemetry-path {path:?} is the path of something else; choose another, such as /metrics"
        )));
    }
    Ok(Web {
        listen: flags.listen_addresses()?.to_vec(),
        telemetry_path: path.clone(),
        max_requests: usize::try_from(flags.web_max_requests).unwrap_or(usize::MAX),
        lifecycle: flags.web_enable_lifecycle,
        source: Arc::new(flags.web_source()?),
    })
}
