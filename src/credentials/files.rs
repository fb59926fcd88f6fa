//! Reads files that hold keys, and tells once of each that others can read it.
//! No more than a warning: Kubernetes mounts secrets for everybody in the pod.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;

/// The files that were told of.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyFiles(Arc<Mutex<HashSet<PathBuf>>>);

impl KeyFiles {
    /// The file's text, wiped from memory when it is dropped.
    pub(super) async fn read(&self, path: &Path) -> io::Result<SecretString> {
        let text = tokio::fs::read_to_string(path)
            .await
            .map(SecretString::from)?;
        self.warn(path).await;
        Ok(text)
    }

    #[cfg(unix)]
    async fn warn(&self, path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;

        let Ok(metadata) = tokio::fs::metadata(path).await else {
            return;
        };
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

    #[cfg(not(unix))]
    async fn warn(&self, _path: &Path) {}
}

/// How a file that cannot be read is told of.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("{shown} does not exist"),
        io::ErrorKind::InvalidData => format!("{shown} is not text"),
        _ => format!("{shown} cannot be read: {error}"),
    }
}
