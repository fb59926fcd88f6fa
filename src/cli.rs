//! The command line: what was typed, turned into calls of `app`. Each command
//! is a file; results go to standard output, everything for people to
//! standard error.

mod check_config;
#[cfg(feature = "demo")]
mod demo;
mod discover;
mod healthcheck;
mod place;
mod query;
mod serve;
mod shard;
#[cfg(feature = "demo")]
mod simulate;
mod table;

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, Resettable, TypedValueParser};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use exporter_web::WebSource;
use tracing::Level;

use crate::api;
use crate::app::reload::Origin;
use crate::app::signals;
use crate::config;
use crate::metrics::own::{Build, Own};
use crate::shard::Shard;
use crate::telemetry;

/// Wrong usage or configuration.
const USAGE: u8 = 2;
/// Anything else that failed.
const FAILED: u8 = 1;

/// A Prometheus exporter for artifact subscriptions of Alibaba Cloud
/// Container Registry Enterprise Edition.
#[derive(Debug, Parser)]
#[command(version, long_version = long_version(), about)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags in Prometheus' spelling, each with an environment variable.
#[derive(Args, Clone, Debug)]
struct Flags {
    /// The configuration file [default: config.yaml]
    #[arg(
        long = "config.file",
        env = "ALIYUN_ACR_EXPORTER_CONFIG_FILE",
        global = true,
        value_name = "FILE"
    )]
    config_file: Option<PathBuf>,

    /// Address to listen on; repeatable; port 0 picks a free one and the log tells it
    #[arg(
        long = "web.listen-address",
        env = "ALIYUN_ACR_EXPORTER_WEB_LISTEN_ADDRESS",
        global = true,
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = ":10980"
    )]
    web_listen_address: Vec<String>,

    /// Path of the metrics
    #[arg(
        long = "web.telemetry-path",
        env = "ALIYUN_ACR_EXPORTER_WEB_TELEMETRY_PATH",
        global = true,
        value_name = "PATH",
        default_value = "/metrics"
    )]
    web_telemetry_path: String,

    /// Scrapes answered at once, 0 for no limit; further ones get 503
    #[arg(
        long = "web.max-requests",
        env = "ALIYUN_ACR_EXPORTER_WEB_MAX_REQUESTS",
        global = true,
        value_name = "N",
        default_value = "40"
    )]
    web_max_requests: u32,

    /// The web configuration: TLS, client certificates, passwords, headers, rate limit
    #[arg(
        long = "web.config.file",
        env = "ALIYUN_ACR_EXPORTER_WEB_CONFIG_FILE",
        global = true,
        value_name = "FILE"
    )]
    web_config_file: Option<PathBuf>,

    /// Allow POST and PUT of /-/reload
    #[arg(
        long = "web.enable-lifecycle",
        env = "ALIYUN_ACR_EXPORTER_WEB_ENABLE_LIFECYCLE",
        global = true,
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    web_enable_lifecycle: bool,

    /// Which of several daemons this one is, from 0; `auto` is the number at the end of the
    /// host name, as a pod of a stateful set has it
    #[arg(
        long = "shard.index",
        env = "ALIYUN_ACR_EXPORTER_SHARD_INDEX",
        global = true,
        value_name = "N|auto"
    )]
    shard_index: Option<String>,

    /// How many daemons share the work of the configuration
    #[arg(
        long = "shard.total",
        env = "ALIYUN_ACR_EXPORTER_SHARD_TOTAL",
        global = true,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    shard_total: Option<u32>,

    /// Least severe messages to log [default: info, and warn for commands that end]
    #[arg(
        long = "log.level",
        env = "ALIYUN_ACR_EXPORTER_LOG_LEVEL",
        global = true,
        value_name = "LEVEL",
        value_parser = log_level(),
        ignore_case = true
    )]
    log_level: Option<Level>,

    /// How log messages are written
    #[arg(
        long = "log.format",
        env = "ALIYUN_ACR_EXPORTER_LOG_FORMAT",
        global = true,
        value_name = "FORMAT",
        default_value = "logfmt",
        ignore_case = true
    )]
    log_format: telemetry::Format,
}

fn log_level() -> impl TypedValueParser<Value = Level> {
    let levels = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]);
    levels.map(|level| level.parse().expect("one of tracing's levels"))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Serve,
    /// Run a simulated cloud and the daemon in one process: no account, no files, no network
    #[cfg(feature = "demo")]
    Demo,
    /// Run the simulated cloud alone, for load and fault tests
    #[cfg(feature = "demo")]
    Simulate(simulate::Arguments),
    /// Validate the configuration and tell what will be polled and what it costs
    CheckConfig(check_config::Arguments),
    /// Show the results of one task, over all pages
    Query(query::Arguments),
    /// Show the rules and the newest tasks of an instance, or the configuration that follows them
    Discover(discover::Arguments),
    /// Ask a running daemon whether it is healthy
    Healthcheck,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Print a JSON Schema of the configuration file
    Schema,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// What was typed or configured is wrong.
    #[error("{0}")]
    Usage(String),
    /// Everything else.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Failed(telemetry::chain(error))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failed(&error)
    }
}

/// Runs the command that was typed; the exit code is 0, 1 (failed) or 2
/// (wrong usage or configuration).
pub fn main() -> ExitCode {
    let cli = Cli::typed();
    let own = Arc::new(Own::new(Build::CURRENT));
    let counters = Arc::clone(&own);
    telemetry::init(
        cli.log_level(),
        cli.flags.log_format,
        || alibaba_cloud::clock::Clock::system().now_millis(),
        move |level| counters.log_messages_total.with(&[level]).inc(),
    );
    match cli.run(own) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = match error {
                Error::Usage(_) => USAGE,
                Error::Failed(_) => FAILED,
            };
            tell(&error.to_string());
            ExitCode::from(code)
        }
    }
}

impl Cli {
    /// What was typed. A variable that is there and empty, as charts like to
    /// set them, is none.
    fn typed() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "flags come from the environment too"
        )]
        let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let command = Self::command().mut_args(|flag| match flag.get_env() {
            Some(name) if is_empty(name) => flag.env(Resettable::Reset),
            _ => flag,
        });
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// What was typed, or what fits the command; see [`telemetry::init`].
    fn log_level(&self) -> Option<Level> {
        let runs_on = match self.command {
            None | Some(Command::Serve) => true,
            #[cfg(feature = "demo")]
            Some(Command::Demo | Command::Simulate(_)) => true,
            _ => false,
        };
        self.flags.log_level.or(runs_on.then_some(Level::INFO))
    }

    fn run(self, own: Arc<Own>) -> Result<(), Error> {
        let flags = self.flags;
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => serve::serve(&flags, own),
            #[cfg(feature = "demo")]
            Command::Demo => demo::run(&flags, own),
            #[cfg(feature = "demo")]
            Command::Simulate(arguments) => simulate::run(&arguments),
            Command::CheckConfig(arguments) => check_config::run(&flags, &arguments, &own),
            Command::Query(arguments) => query::run(&flags, &arguments, &own),
            Command::Discover(arguments) => discover::run(&flags, &arguments, &own),
            Command::Healthcheck => healthcheck::run(&flags),
            Command::Completions { shell } => {
                let mut command = Self::command();
                let name = command.get_name().to_owned();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command, name, &mut script);
                print(&script)
            }
            Command::Schema => print(config::SCHEMA.as_bytes()),
            Command::Man => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Self::command()).render(&mut page)?;
                print(&page)
            }
        }
    }
}

impl Flags {
    /// The addresses to listen on, each of a form that can be bound.
    fn listen_addresses(&self) -> Result<&[String], Error> {
        match self.web_listen_address.iter().find(|one| !is_address(one)) {
            Some(wrong) => Err(Error::Usage(format!(
                "--web.listen-address {wrong:?} is no address; write :PORT, HOST:PORT or [IPV6]:PORT with a port up to 65535, such as :10980 or [::1]:10980"
            ))),
            None => Ok(&self.web_listen_address),
        }
    }

    fn shard(&self) -> Result<Shard, Error> {
        shard::typed(self.shard_index.as_deref(), self.shard_total)
    }

    fn config_path(&self) -> PathBuf {
        self.config_file
            .clone()
            .unwrap_or_else(|| PathBuf::from("config.yaml"))
    }

    /// What the web configuration says; without one plain http for everybody.
    fn web_source(&self) -> Result<WebSource, Error> {
        let Some(path) = &self.web_config_file else {
            return Ok(WebSource::default());
        };
        WebSource::open(path).map_err(|error| Error::Usage(telemetry::chain(&error)))
    }

    fn load_config(&self) -> Result<config::Config, Error> {
        config::load(&self.config_path()).map_err(|error| self.unusable(&error))
    }

    fn load_origin(&self) -> Result<(config::Config, Origin), Error> {
        Origin::load(&self.config_path()).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &config::Error) -> Error {
        let mut text = telemetry::chain(error);
        let absent = matches!(error, config::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        if absent && self.config_file.is_none() {
            text.push_str("; --config.file names another one");
            if cfg!(feature = "demo") {
                text.push_str(", and `demo` needs none");
            }
        }
        Error::Usage(text)
    }
}

/// `:PORT`, `HOST:PORT` or `[IPV6]:PORT`. Whether a host exists is not asked.
fn is_address(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        !label.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    // A name; what has digits alone is an IPv4 address, and not a right one.
    let is_name = |host: &str| {
        let name = host.strip_suffix('.').unwrap_or(host);
        name.split('.').all(is_label) && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_port && (host.is_empty() || is_name(host))
}

fn long_version() -> &'static str {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " (revision ",
        env!("BUILD_REVISION"),
        ", rustc ",
        env!("BUILD_RUST_VERSION"),
        ", ",
        env!("BUILD_TARGET"),
        ")"
    )
}

/// Results go to standard output; a reader that has seen enough (`| head`) is no failure.
fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What is for people goes to standard error, a line each.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The task operation is denied or fails where the rows can be read: the daemon
/// goes on without it.
fn warn_without_task(instance_id: &str, error: &api::Error) {
    tell(&format!(
        "warning: {instance_id}: {}; without it the labels of the source, the task's own Message and verdict are missing, and failed artifacts that have no row are not seen",
        telemetry::chain(error)
    ));
}

/// An error, and whose key signed the request where the cloud answered it.
async fn with_signer(error: &api::Error, client: &api::Client) -> String {
    let mut text = telemetry::chain(error);
    if error.status().is_some()
        && let Some(signer) = client.signer().await
    {
        text.push_str(&format!("; asked with {signer}"));
    }
    text
}

/// Both, or what is wrong with either.
fn both<A, B>(one: Result<A, Error>, other: Result<B, Error>) -> Result<(A, B), Error> {
    match (one, other) {
        (Err(Error::Usage(one)), Err(Error::Usage(other))) => {
            Err(Error::Usage(format!("{one}\n{other}")))
        }
        (one, other) => Ok((one?, other?)),
    }
}

/// One thread is enough: a scrape reads memory, a poll waits for the network.
/// What hangs in the system's hands (a file, a name) is not waited for at the end.
fn block_on<F: Future>(future: F) -> Result<F::Output, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}

/// The same for a command that ends by itself: a signal ends it, and with it the
/// programs that it has started, which the signal does not reach.
fn block_on_or_signal<F: Future>(future: F) -> Result<F::Output, Error> {
    block_on(async {
        tokio::select! {
            output = future => Ok(output),
            signal = signals::first() => Err(Error::Failed(format!("ended by {}", signal?))),
        }
    })?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_hangs_does_not_keep_the_process() {
        let (release, hung) = mpsc::channel::<()>();
        let (ended, waited) = mpsc::channel();
        std::thread::spawn(move || {
            let output = block_on(async {
                tokio::task::spawn_blocking(move || hung.recv());
                "done"
            });
            let _ = ended.send(output.expect("a runtime"));
        });
        assert_eq!(waited.recv_timeout(Duration::from_secs(60)), Ok("done"));
        drop(release);
    }
}
