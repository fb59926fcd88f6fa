//! Reads files that hold keys, so that no file can hold up the exporter: regular
//! ones alone, of at most 64 KiB, within 5 s. Tells once of each that others can
//! read it; no more than a warning, since Kubernetes mounts secrets for everybody
//! in the pod.

use std::collections::HashSet;
use std::fs::{File, FileType, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

const MAX_BYTES: u64 = 64 * 1024;
/// A network file system that is gone keeps a thread for ever.
const LIMIT: Duration = Duration::from_secs(5);

/// The files on which a thread hangs, alive as long as it does. They are the
/// process's, not a provider's, so that each file costs few threads however
/// often it is asked for.
static HANGING: Mutex<Vec<(PathBuf, Weak<()>)>> = Mutex::new(Vec::new());

/// The files that were told of.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyFiles(Arc<Mutex<HashSet<PathBuf>>>);

impl KeyFiles {
    /// The file's text, wiped from memory when it is dropped.
    pub(super) async fn read(&self, path: &Path) -> io::Result<SecretString> {
        let (text, metadata) = bounded(path, LIMIT, read_now).await?;
        self.warn(path, &metadata);
        Ok(text)
    }

    /// As [`KeyFiles::read`]. The inner `Err` says why there is no file, unless it is
    /// `expected`: also where a directory on the way to it is closed, as another user's home is.
    /// A file system that hangs is no absent file.
    pub(super) async fn find(
        &self,
        path: &Path,
        expected: bool,
    ) -> io::Result<Result<SecretString, io::Error>> {
        if expected {
            return self.read(path).await.map(Ok);
        }
        match bounded(path, LIMIT, |path| std::fs::metadata(path).map(drop)).await {
            Err(error) if error.kind() != ErrorKind::TimedOut => return Ok(Err(error)),
            _ => {}
        }
        match self.read(path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Err(error)),
            read => read.map(Ok),
        }
    }

    fn warn(&self, path: &Path, metadata: &Metadata) {
        let mode = metadata.permissions().mode() & 0o777;
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if mode & 0o044 != 0 && told.insert(path.to_owned()) {
            tracing::warn!(
                file = %path.display(),
                mode = format_args!("{mode:04o}"),
                "a file with keys can be read by others than its owner; chmod 0600 would be right"
            );
        }
    }
}

/// The text of a file whose permissions are somebody else's business.
pub(super) async fn read(path: &Path) -> io::Result<SecretString> {
    let (text, _) = bounded(path, LIMIT, read_now).await?;
    Ok(text)
}

/// What changes when a file is replaced or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    device_and_inode: (u64, u64),
}

/// The file's stamp; `None` where it cannot be looked at.
pub(super) async fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = bounded(path, LIMIT, |path| std::fs::metadata(path)).await;
    metadata.ok().map(|metadata| Stamp {
        len: metadata.len(),
        modified: metadata.modified().ok(),
        device_and_inode: (metadata.dev(), metadata.ino()),
    })
}

/// Whether the file could be read now, told without opening it. `Err` names it
/// and says what it is and what would be right.
pub async fn check(path: &Path) -> Result<(), String> {
    let looked = bounded(path, LIMIT, |path| {
        fitting(&std::fs::metadata(path)?)?;
        rustix::fs::access(path, rustix::fs::Access::READ_OK)?;
        Ok(())
    });
    looked.await.map_err(|error| unreadable(path, &error))
}

/// How a file that cannot be read is told of.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("{shown} does not exist"),
        // Our own: the system's hold nothing.
        _ if error.get_ref().is_some() => format!("{shown} {error}"),
        _ => format!("{shown} cannot be read: {error}"),
    }
}

/// Does `work` on a thread that nobody waits for after `limit`.
async fn bounded<T: Send + 'static>(
    path: &Path,
    limit: Duration,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let hanging = || HANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let late = || {
        let problem =
            format!("gave no answer within {limit:?}; it should be on a file system that answers");
        io::Error::new(ErrorKind::TimedOut, problem)
    };
    {
        let mut hanging = hanging();
        hanging.retain(|(_, thread)| thread.strong_count() > 0);
        if hanging.iter().any(|(hung, _)| hung == path) {
            return Err(late());
        }
    }
    let alive = Arc::new(());
    let thread = Arc::downgrade(&alive);
    let owned = path.to_owned();
    let working = spawn_blocking(move || {
        let done = work(&owned);
        drop(alive);
        done
    });
    if let Ok(done) = timeout(limit, working).await {
        return done?;
    }
    hanging().push((path.to_owned(), thread));
    Err(late())
}

fn read_now(path: &Path) -> io::Result<(SecretString, Metadata)> {
    // To open a device can do things, and to open a FIFO waits for its writer.
    fitting(&std::fs::metadata(path)?)?;
    let file = open(path)?;
    // It may be another file by now.
    let metadata = file.metadata()?;
    fitting(&metadata)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    // It may have grown, or have no size, as in /proc.
    small(bytes.len() as u64)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| unfit("is not text; it should be text in UTF-8".to_owned()))?;
    Ok((text.into(), metadata))
}

fn open(path: &Path) -> io::Result<File> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(nonblock).open(path)
}

/// A file that may be read: regular and small. Symbolic links were followed.
fn fitting(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        small(metadata.len())
    } else {
        let kind = kind(metadata.file_type());
        Err(unfit(format!(
            "is {kind}; it should be a regular file or a symbolic link to one"
        )))
    }
}

fn small(bytes: u64) -> io::Result<()> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(unfit(format!(
        "is larger than {} KiB; is it the right file?",
        MAX_BYTES / 1024
    )))
}

fn unfit(problem: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_dir() {
        "a directory"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;

    use secrecy::ExposeSecret as _;

    use super::*;

    async fn told(path: &Path) -> String {
        let error = read(path).await.expect_err("an unfit file");
        let told = unreadable(path, &error);
        assert_eq!(check(path).await, Err(told.clone()));
        told.strip_prefix(&format!("{} ", path.display()))
            .expect("the file's name")
            .to_owned()
    }

    #[tokio::test]
    async fn only_small_regular_files_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let should = "it should be a regular file or a symbolic link to one";

        let fifo = at("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo").success());
        assert_eq!(told(&fifo).await, format!("is a FIFO; {should}"));
        symlink(&fifo, at("link")).expect("a link");
        assert_eq!(told(&at("link")).await, format!("is a FIFO; {should}"));
        let told_of = told(folder.path()).await;
        assert_eq!(told_of, format!("is a directory; {should}"));
        let zero = Path::new("/dev/zero");
        assert_eq!(told(zero).await, format!("is a device; {should}"));
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        assert_eq!(told(&at("socket")).await, format!("is a socket; {should}"));

        std::fs::write(at("large"), "x".repeat(5_000_000)).expect("written");
        let large = "is larger than 64 KiB; is it the right file?";
        assert_eq!(told(&at("large")).await, large);
        std::fs::write(at("full"), "x".repeat(65536)).expect("written");
        let text = read(&at("full")).await.expect("just small enough");
        assert_eq!(text.expose_secret().len(), 65536);
        assert_eq!(check(&at("full")).await, Ok(()));

        // As Kubernetes mounts a secret.
        std::fs::create_dir(at("..1")).expect("a folder");
        std::fs::write(at("..1/key"), "value").expect("written");
        symlink("..1", at("..data")).expect("a link");
        symlink("..data/key", at("key")).expect("a link");
        let text = read(&at("key")).await.expect("readable");
        assert_eq!(text.expose_secret(), "value");
        assert_eq!(told(&at("nothing")).await, "does not exist");
    }

    /// As where a FIFO takes the file's place after it was looked at.
    #[test]
    fn to_open_a_fifo_waits_for_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo").success());
        let (opened, waited) = mpsc::channel();
        let path = fifo.clone();
        std::thread::spawn(move || {
            let file = open(&path).expect("opened");
            let _ = opened.send(fitting(&file.metadata().expect("metadata")).is_err());
        });
        assert_eq!(waited.recv_timeout(Duration::from_secs(60)), Ok(true));
    }

    #[tokio::test]
    async fn a_file_that_hangs_costs_one_thread_and_is_read_again_afterwards() {
        let path = Path::new("/a file on a hung file system");
        let (release, hung) = mpsc::channel::<()>();
        let read = bounded(path, Duration::from_millis(10), move |_| {
            let _ = hung.recv();
            Ok(())
        });
        let error = read.await.expect_err("late");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let told = unreadable(path, &error);
        let expected = "/a file on a hung file system gave no answer within 10ms; it should be on a file system that answers";
        assert_eq!(told, expected);

        let again = bounded(path, LIMIT, |_| -> io::Result<()> {
            panic!("a second thread would hang too")
        });
        assert_eq!(again.await.expect_err("hangs").kind(), ErrorKind::TimedOut);
        // No sign that it is absent, which would send a chain to somebody else's key.
        let found = KeyFiles::default().find(path, false).await;
        assert_eq!(found.expect_err("hangs").kind(), ErrorKind::TimedOut);

        drop(release);
        while bounded(path, LIMIT, |_| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
