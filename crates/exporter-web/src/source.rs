//! The web configuration in force, and how it is read again: for every new
//! connection and request it is looked at whether the file, or one that it names,
//! has changed. What is not valid does not replace what was.
//!
//! What the file means is `config`'s, TLS is `tls`'s.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use settings::{Mistake, Secret};

use crate::config::{self, Pem, TlsConfig, WebConfig};
use crate::rate::Limiter;
use crate::tls::{self, Tls};

/// Files that do not answer, on a network perhaps, are not waited for longer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// The times that a file system keeps are coarse: a file that changed so short
/// ago may change again without a trace.
const SETTLED: Duration = Duration::from_millis(100);

/// Larger files are no certificates.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// Larger files are no web configuration.
const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// Why a web configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is wrong with it or with a file that it names, one line each.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// Where the web configuration comes from, and what of it is in force.
pub struct WebSource {
    file: Option<PathBuf>,
    current: RwLock<Arc<Web>>,
    /// Held while the files are read.
    seen: Arc<Mutex<Seen>>,
    warnings: Vec<String>,
}

/// What is in force.
#[derive(Default)]
pub(crate) struct Web {
    /// Without it plain http is spoken.
    pub(crate) tls: Option<Tls>,
    /// For every answer.
    pub(crate) headers: HeaderMap,
    /// Users and the hashes of their passwords; nobody needs one where there is none.
    pub(crate) users: Arc<Users>,
    /// Of all requests.
    pub(crate) limiter: Option<Arc<Limiter>>,
}

/// Users and the bcrypt hashes of their passwords.
pub(crate) type Users = std::collections::BTreeMap<String, SecretString>;

/// What the files were when they were last read.
#[derive(Default)]
struct Seen {
    /// The web configuration first.
    files: Vec<(PathBuf, Stamp)>,
    since: Option<Instant>,
    /// The stamps did not change for long enough to be believed.
    settled: bool,
    /// Of all contents.
    fingerprint: [u8; 32],
    /// The contents are the configuration in use: they were neither invalid nor
    /// would they have taken protection away.
    is_used: bool,
}

/// What tells that a file has changed; `None` where there is no file.
type Stamp = Option<[i64; 7]>;

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    let number = |number: u64| i64::from_ne_bytes(number.to_ne_bytes());
    Some([
        number(metadata.dev()),
        number(metadata.ino()),
        number(metadata.size()),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ])
}

/// Plain http, and nobody needs a password.
impl Default for WebSource {
    fn default() -> Self {
        Self {
            file: None,
            current: RwLock::default(),
            seen: Arc::default(),
            warnings: Vec::new(),
        }
    }
}

/// Nothing of what the files say.
impl fmt::Debug for WebSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WebSource")
            .field("path", &self.file)
            .finish_non_exhaustive()
    }
}

impl WebSource {
    /// Reads the web configuration at `path` and the files that it names.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read or what it says cannot be used.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut read = Files::read(path);
        let (web, warnings) = read.web.and_then(|web| build(web, &read.contents))?;
        read.seen.is_used = true;
        Ok(Self {
            file: Some(path.to_owned()),
            current: RwLock::new(Arc::new(web)),
            seen: Arc::new(Mutex::new(read.seen)),
            warnings,
        })
    }

    /// Whether new connections speak TLS.
    pub fn is_tls(&self) -> bool {
        self.current().tls.is_some()
    }

    /// What was accepted at the start and is perhaps not meant, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Reads the files again and puts them in force, whatever they take away.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); what was in force stays so.
    pub async fn reload(self: &Arc<Self>) -> Result<(), Error> {
        let Some(path) = self.file.clone() else {
            return Ok(());
        };
        let mut seen = Arc::clone(&self.seen).lock_owned().await;
        let source = Arc::clone(self);
        let reading = spawn_blocking(move || {
            let read = Files::read(&path);
            *seen = read.seen;
            let (web, _) = read.web.and_then(|web| build(web, &read.contents))?;
            source.put_in_force(web);
            seen.is_used = true;
            Ok(())
        });
        reading.await.unwrap_or_else(|error| {
            Err(Error::Io {
                path: self.file.clone().unwrap_or_default(),
                source: io::Error::other(error),
            })
        })
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<Web> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is in force after a look at the files.
    pub(crate) async fn refreshed(self: &Arc<Self>) -> Arc<Web> {
        // Where it is not up to date, the last good one serves.
        let _ = self.is_up_to_date().await;
        self.current()
    }

    /// Looks at the files like every request does. Whether what they hold now is
    /// the configuration in use; `false` too where they do not answer.
    pub async fn is_up_to_date(self: &Arc<Self>) -> bool {
        let Some(path) = self.file.clone() else {
            return true;
        };
        let look = async {
            let seen = Arc::clone(&self.seen).lock_owned().await;
            let source = Arc::clone(self);
            spawn_blocking(move || source.look(&path, seen)).await
        };
        matches!(timeout(LOOK_TIMEOUT, look).await, Ok(Ok(true)))
    }

    /// Reads the files where they have changed, and says what came of it once a
    /// change. Whether what they hold is in use.
    fn look(&self, path: &Path, mut seen: OwnedMutexGuard<Seen>) -> bool {
        if seen.settled && seen.files.iter().all(|(path, seen)| stamp(path) == *seen) {
            return seen.is_used;
        }
        let mut read = Files::read(path);
        if read.seen.files == seen.files {
            read.seen.since = seen.since;
            read.seen.settled = seen.since.is_some_and(|since| since.elapsed() >= SETTLED);
        }
        let is_new = read.seen.fingerprint != seen.fingerprint;
        read.seen.is_used = !is_new && seen.is_used;
        *seen = read.seen;
        if !is_new {
            return seen.is_used;
        }
        let (web, warnings) = match read.web.and_then(|web| build(web, &read.contents)) {
            Ok(built) => built,
            Err(error) => {
                warn!(
                    error = one_line(&error),
                    "the changed web configuration is not valid: the last good one stays in force"
                );
                return false;
            }
        };
        if let Some(lost) = self.current().protection_lost_with(&web) {
            warn!(
                file = %path.display(),
                lost,
                "the changed web configuration takes protection away: the last one stays in force until a reload is asked for"
            );
            return false;
        }
        self.put_in_force(web);
        seen.is_used = true;
        info!(file = %path.display(), "the changed web configuration is in force");
        for warning in warnings {
            warn!("{warning}");
        }
        true
    }

    fn put_in_force(&self, mut web: Web) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever has used up the limit does not get it anew.
        if let (Some(new), Some(old)) = (&mut web.limiter, &current.limiter)
            && new.limit() == old.limit()
        {
            *new = Arc::clone(old);
        }
        *current = Arc::new(web);
    }
}

fn one_line(error: &Error) -> String {
    match error {
        Error::Io { source, .. } => format!("{error}: {source}"),
        Error::Invalid(lines) => lines.join("; "),
    }
}

impl Web {
    /// What protects now and would not with `other`. A file that is written in
    /// place is empty for a moment, which is valid; that must open nothing.
    fn protection_lost_with(&self, other: &Self) -> Option<&'static str> {
        let requires = |web: &Self| web.tls.as_ref().is_some_and(Tls::requires_certificate);
        if self.tls.is_some() && other.tls.is_none() {
            Some("TLS")
        } else if !self.users.is_empty() && other.users.is_empty() {
            Some("passwords")
        } else if requires(self) && !requires(other) {
            Some("client certificates")
        } else {
            None
        }
    }
}

/// The content of each material, in the order of [`materials`].
type Contents = Vec<Result<SecretSlice<u8>, io::Error>>;

/// The files as they were read.
struct Files {
    seen: Seen,
    web: Result<WebConfig, Error>,
    contents: Contents,
}

impl Files {
    fn read(path: &Path) -> Self {
        // Before the content: what changes in between is read again.
        let mut files = vec![(path.to_owned(), stamp(path))];
        let mut fingerprint = Sha256::new();
        let mut add = |bytes: &[u8]| {
            fingerprint.update((bytes.len() as u64).to_le_bytes());
            fingerprint.update(bytes);
        };
        let bytes = read_limited(path, MAX_CONFIG_BYTES);
        match &bytes {
            Ok(bytes) => add(bytes),
            Err(error) => add(error.to_string().as_bytes()),
        }
        let web = match bytes {
            Ok(bytes) => config::parse(&bytes, path).map_err(|mistakes| {
                Error::Invalid(mistakes.iter().map(Mistake::to_string).collect())
            }),
            Err(source) => Err(Error::Io {
                path: path.to_owned(),
                source,
            }),
        };
        let mut contents = Vec::new();
        if let Some(tls) = web.as_ref().ok().and_then(|web| web.tls.as_ref()) {
            for material in materials(tls) {
                if let Secret::File(path) = &material.source {
                    files.push((path.clone(), stamp(path)));
                }
                let content = content(&material.source);
                match &content {
                    Ok(content) => add(content.expose_secret()),
                    Err(error) => add(error.to_string().as_bytes()),
                }
                contents.push(content);
            }
        }
        Self {
            seen: Seen {
                files,
                since: Some(Instant::now()),
                settled: false,
                fingerprint: fingerprint.finalize().into(),
                is_used: false,
            },
            web,
            contents,
        }
    }
}

fn materials(tls: &TlsConfig) -> impl Iterator<Item = &Pem> {
    [&tls.certificate, &tls.key]
        .into_iter()
        .chain(&tls.client_ca)
}

fn content(source: &Secret) -> io::Result<SecretSlice<u8>> {
    match source {
        Secret::Inline(text) => Ok(text.expose_secret().as_bytes().to_vec().into()),
        Secret::File(path) => read_limited(path, MAX_PEM_BYTES).map(Into::into),
    }
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Makes of what was read what is used, and tells what is perhaps not meant.
fn build(web: WebConfig, contents: &Contents) -> Result<(Web, Vec<String>), Error> {
    let tls = match &web.tls {
        None => None,
        Some(tls) => Some(tls::build(tls, contents).map_err(Error::Invalid)?),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &web.http.headers {
        let name = HeaderName::try_from(name.as_str());
        // Both were judged.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.0.as_bytes())) {
            headers.insert(name, value);
        }
    }
    let built = Web {
        tls,
        headers,
        users: Arc::new(
            web.users
                .into_iter()
                .map(|(name, hash)| (name, hash.0))
                .collect(),
        ),
        limiter: web.rate_limit.map(Limiter::new).map(Arc::new),
    };
    let warnings = web.warnings.iter().map(Mistake::to_string).collect();
    Ok((built, warnings))
}
