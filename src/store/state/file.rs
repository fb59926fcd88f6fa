//! The file of a state: one process has it, it is replaced whole or not at all,
//! and what cannot be read is never overwritten. All of it blocks.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{HEADER, State, Unreadable, check_header, decode};

/// Only the user of the daemon reads it: it names repositories and errors.
const MODE: u32 = 0o600;

/// How long somebody else's lock may last before the file is taken for theirs,
/// and the time between two looks.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// Why there is no state file, or not the newest state in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two that count in one file would set each other's counters back.
    #[error("the state file {} is in use by another process, which holds {}", path.display(), lock.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// Its lock.
        lock: PathBuf,
    },
    /// It exists, could not be read at the start, and may still be worth something.
    #[error("the state file {} could not be read at the start and is left as it is", .0.display())]
    LeftAlone(PathBuf),
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// What there was when a [`StateFile`] was opened.
#[derive(Debug)]
pub enum Found {
    /// No file.
    Nothing,
    /// A state.
    State(State),
    /// Something else, which was moved.
    MovedAside {
        /// Why it is no state.
        why: Unreadable,
        /// Where it is now.
        to: PathBuf,
    },
    /// Something that can be neither read nor moved: nothing will be saved.
    LeftAlone(Error),
}

/// A state file that is this process's own as long as the value lives.
#[derive(Debug)]
pub struct StateFile {
    /// Without links: the file is replaced, a link to it stays.
    path: PathBuf,
    lock: Mutex<Option<File>>,
    writable: bool,
}

impl StateFile {
    /// Takes the file at `path` and reads it. The time, Unix milliseconds,
    /// becomes a part of the name of what is moved aside.
    ///
    /// The only error is [`Error::InUse`]: without its state the daemon can
    /// still watch and count. Where the lock cannot be had for another reason,
    /// each [`StateFile::save`] tries again.
    pub fn open(path: &Path, now_ms: i64) -> Result<(Self, Found), Error> {
        let mut file = Self {
            path: resolve(path),
            lock: Mutex::new(None),
            writable: true,
        };
        if let Err(error @ Error::InUse { .. }) = file.lock() {
            return Err(error);
        }
        let found = match file.read() {
            Ok(None) => Found::Nothing,
            Ok(Some(Ok(state))) => Found::State(state),
            Ok(Some(Err(why))) => match file.move_aside(now_ms.div_euclid(1_000)) {
                Ok(to) => Found::MovedAside { why, to },
                Err(error) => Found::LeftAlone(error),
            },
            Err(error) => Found::LeftAlone(error),
        };
        file.writable = !matches!(found, Found::LeftAlone(_));
        Ok((file, found))
    }

    /// Where the file is, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When it was last written, where the system tells.
    pub fn saved(&self) -> Option<SystemTime> {
        fs::metadata(&self.path).ok()?.modified().ok()
    }

    /// Replaces the content of the file, on the disk when this returns.
    pub fn save(&self, bytes: &[u8]) -> Result<(), Error> {
        if !self.writable {
            return Err(Error::LeftAlone(self.path.clone()));
        }
        self.lock()?;
        let suffix = format!("{TEMPORARY}{:016x}", fastrand::u64(..));
        let temporary = beside(&self.path, &suffix);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&temporary)
            .map_err(failed("write", &self.path))?;
        let replaced = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &self.path))
            .and_then(|()| {
                fs::rename(&temporary, &self.path).map_err(failed("replace", &self.path))
            });
        if replaced.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        replaced?;
        self.sync_folder()
    }

    /// Makes sure that no other process has the file.
    fn lock(&self) -> Result<(), Error> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(());
        }
        // A file of its own, because the state file itself is replaced. It
        // stays: to remove it would be a race with the next one to lock it.
        let path = beside(&self.path, ".lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(&path)
            .map_err(failed("open", &path))?;
        match lock_within(&file, LOCK_PATIENCE) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse {
                    path: self.path.clone(),
                    lock: path,
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        *held = Some(file);
        self.remove_leftovers();
        Ok(())
    }

    /// What saves of killed processes left; with the lock nobody is at work on
    /// it. One that stays does no harm.
    fn remove_leftovers(&self) {
        let Some(start) = self.path.file_name().map(|name| {
            let mut start = name.to_owned();
            start.push(TEMPORARY);
            start
        }) else {
            return;
        };
        for entry in fs::read_dir(self.folder()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let random = name
                .as_encoded_bytes()
                .strip_prefix(start.as_encoded_bytes());
            if random.is_some_and(|random| {
                random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit)
            }) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// `None` where there is no file.
    fn read(&self) -> Result<Option<Result<State, Unreadable>>, Error> {
        let read = || {
            // Before it is opened: a pipe would wait for its other end.
            let about = match fs::metadata(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                about => about?,
            };
            if !about.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            let mut file = File::open(&self.path)?;
            let mut bytes = Vec::new();
            (&mut file).take(HEADER as u64).read_to_end(&mut bytes)?;
            if let Err(why) = check_header(&bytes, about.len()) {
                return Ok(Some(Err(why)));
            }
            file.take(about.len()).read_to_end(&mut bytes)?;
            Ok(Some(decode(&bytes)))
        };
        read().map_err(failed("read", &self.path))
    }

    /// Under a name that nothing has.
    fn move_aside(&self, now: i64) -> Result<PathBuf, Error> {
        let mut to = beside(&self.path, &format!(".unreadable-{now}"));
        for number in 2.. {
            match fs::symlink_metadata(&to) {
                Ok(_) => to = beside(&self.path, &format!(".unreadable-{now}-{number}")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(failed("move aside", &self.path)(error)),
            }
        }
        fs::rename(&self.path, &to).map_err(failed("move aside", &self.path))?;
        Ok(to)
    }

    /// A rename is on the disk when its folder is.
    fn sync_folder(&self) -> Result<(), Error> {
        let folder = self.folder();
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            // Some network file systems know no such thing.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced.map_err(failed("write", folder)),
        }
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }
}

/// Between the file's name and sixteen hexadecimal digits.
const TEMPORARY: &str = ".tmp-";

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        doing,
        path,
        source,
    }
}

/// The absolute path of the file that `path` leads to, also where it does not exist yet.
fn resolve(path: &Path) -> PathBuf {
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MOST_LINKS {
        if let Ok(whole) = fs::canonicalize(&path) {
            return whole;
        }
        match (fs::read_link(&path), path.parent()) {
            (Ok(target), Some(folder)) => path = folder.join(target),
            _ => break,
        }
    }
    path
}

/// Takes the lock, if nobody keeps it for `patience`. A process that starts
/// another one shares its descriptors with it for the moment between fork and
/// exec, so a lock may outlive its owner a little; the system has no lock that
/// waits with a limit.
fn lock_within(file: &File, patience: Duration) -> Result<(), TryLockError> {
    let asked = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if asked.elapsed() < patience => {
                std::thread::sleep(LOCK_PAUSE);
            }
            locked => return locked,
        }
    }
}

#[cfg(test)]
mod tests;
