//! A key written in the configuration, or in files beside it. Files are read at
//! every use: they are tiny, and a rotated key counts at once, whatever the file
//! system says of modification times. While one cannot be read, or is empty as
//! in the midst of a rotation, the last key stays in use, and the files are read
//! again once they have changed, else every 10 s.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::files::{self, KeyFiles, Stamp, unreadable};
use super::{Context, Credentials, Error, ProvideCredentials, clean};
use crate::observer::Observer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::Secret;

/// `type: access_key`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "AccessKeySettings", deny_unknown_fields)]
pub struct Settings {
    /// The id of the key.
    #[serde(alias = "access_key_id_file")]
    pub access_key_id: Secret,
    /// The secret of the key.
    #[serde(alias = "access_key_secret_file")]
    pub access_key_secret: Secret,
    /// The token of a temporary key.
    #[serde(default, alias = "security_token_file")]
    pub security_token: Option<Secret>,
}

const PROVIDER: &str = "access_key";
const PAUSE: Duration = Duration::from_secs(10);

/// Where one part of the key stands.
#[derive(Clone, Debug)]
pub enum Setting {
    /// The value itself.
    Inline(SecretString),
    /// A file that holds the value alone; surrounding white space is cut off.
    File(PathBuf),
}

impl From<&Secret> for Setting {
    fn from(secret: &Secret) -> Self {
        match secret {
            Secret::Inline(value) => Self::Inline(value.clone().into()),
            Secret::File(path) => Self::File(path.clone()),
        }
    }
}

/// The provider.
pub struct StaticKey {
    id: Setting,
    secret: Setting,
    token: Option<Setting>,
    key_files: KeyFiles,
    name: Option<String>,
    observer: Arc<dyn Observer>,
    has_key: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last key that could be read.
    good: Option<Credentials>,
    /// Why it is not the newest.
    failed: Option<Failed>,
}

struct Failed {
    at: Instant,
    error: Error,
    stamps: Vec<Option<Stamp>>,
}

impl StaticKey {
    /// A key of these parts; with a token it is a temporary one whose end is
    /// not known.
    pub fn new(id: Setting, secret: Setting, token: Option<Setting>) -> Self {
        Self {
            id,
            secret,
            token,
            key_files: KeyFiles::default(),
            name: None,
            observer: Arc::new(()),
            has_key: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// The same, and what goes wrong while an old key is in use is counted for
    /// the entry of `context`.
    #[must_use]
    pub fn counted(mut self, context: &Context) -> Self {
        self.name = Some(context.name.clone());
        self.observer = Arc::clone(&context.observer);
        self
    }

    /// The key as it stands now.
    async fn read(&self) -> Result<Credentials, Error> {
        let read = async |key: &str, setting: &Setting| {
            let read = setting.read(key, &self.key_files).await;
            read.map_err(|problem| Error::broken(PROVIDER, problem))
        };
        let id = read("access_key_id", &self.id).await?;
        Ok(Credentials {
            access_key_id: id.expose_secret().to_owned(),
            access_key_secret: read("access_key_secret", &self.secret).await?,
            security_token: match &self.token {
                Some(token) => Some(read("security_token", token).await?),
                None => None,
            },
            expires_at_ms: None,
            provider: PROVIDER,
        })
    }

    /// The key as it stands now, or the last one.
    async fn read_or_keep(&self) -> Result<Credentials, Error> {
        let mut state = self.state.lock().await;
        if let (Some(kept), Some(failed)) = (&state.good, &state.failed)
            && failed.at.elapsed() < PAUSE
            && failed.stamps == self.stamps().await
        {
            return Ok(kept.clone());
        }
        let mut read = self.read().await;
        let mut stamps = Vec::new();
        if read.is_err() && state.good.is_some() {
            // Looked at before it is read again, so that no change gets lost.
            stamps = self.stamps().await;
            read = self.read().await;
        }
        let name = self.name.as_deref();
        match (read, &state.good) {
            (Ok(key), _) => {
                if state.failed.take().is_some() {
                    tracing::info!(credentials = name, "the key can be read again");
                }
                state.good = Some(key.clone());
                self.has_key.store(true, Ordering::Relaxed);
                Ok(key)
            }
            (Err(error), Some(kept)) => {
                let kept = kept.clone();
                self.observer.credentials_failed();
                let before = state.failed.as_ref().map(|failed| &failed.error);
                if before != Some(&error) {
                    tracing::warn!(
                        credentials = name,
                        %error,
                        old_key_in_use = true,
                        "the key cannot be read; it is tried again"
                    );
                }
                state.failed = Some(Failed {
                    at: Instant::now(),
                    error,
                    stamps,
                });
                Ok(kept)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn stamps(&self) -> Vec<Option<Stamp>> {
        let mut stamps = Vec::new();
        for file in self.files() {
            stamps.push(files::stamp(file).await);
        }
        stamps
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let settings = [&self.id, &self.secret].into_iter().chain(&self.token);
        settings.filter_map(|setting| match setting {
            Setting::File(path) => Some(path),
            Setting::Inline(_) => None,
        })
    }
}

impl Setting {
    /// The value of `key`; `Err` is what is wrong with it.
    pub(super) async fn read(
        &self,
        key: &str,
        key_files: &KeyFiles,
    ) -> Result<SecretString, String> {
        match self {
            Self::Inline(value) => clean(value.expose_secret())
                .map(SecretString::from)
                .map_err(|wrong| format!("{key} {wrong}")),
            Self::File(path) => {
                let should = format!("it should hold the value of {key}");
                let text = key_files.read(path).await.map_err(|error| {
                    let wrong = unreadable(path, &error);
                    match error.kind() {
                        ErrorKind::NotFound => format!("{key}_file {wrong}; {should}"),
                        _ => format!("{key}_file {wrong}"),
                    }
                })?;
                let value = text.expose_secret();
                clean(value).map(SecretString::from).map_err(|wrong| {
                    let shown = path.display();
                    if value.trim().is_empty() {
                        format!("{key}_file {shown} {wrong}; {should}")
                    } else {
                        format!("{key}_file {shown} {wrong}")
                    }
                })
            }
        }
    }
}

impl ProvideCredentials for StaticKey {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(self.read_or_keep())
    }

    /// Files that have given no key yet are not read at every use.
    fn is_local(&self) -> bool {
        self.has_key.load(Ordering::Relaxed) || self.files().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use tokio::time::advance;

    use super::*;
    use crate::clock::Clock;
    use crate::credentials::Addresses;
    use crate::credentials::cached::Cached;
    use crate::http::Http;
    use crate::observer::testing::Recorder;

    fn inline(value: &str) -> Setting {
        Setting::Inline(value.into())
    }

    async fn problem(key: &StaticKey) -> String {
        key.provide()
            .await
            .expect_err("an unusable key")
            .to_string()
    }

    #[tokio::test]
    async fn files_are_trimmed_and_read_again_when_they_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        fs::write(&path, " first\r\n").expect("written");
        let key = StaticKey::new(
            inline(" id\n"),
            Setting::File(path.clone()),
            Some(inline("token")),
        );
        let provided = key.provide().await.expect("a key");
        assert_eq!(provided.access_key_id, "id");
        assert_eq!(provided.access_key_secret.expose_secret(), "first");
        let token = provided.security_token.expect("a token");
        assert_eq!(token.expose_secret(), "token");
        assert_eq!(provided.expires_at_ms, None);

        fs::write(&path, "again").expect("written");
        let provided = key.provide().await.expect("a key");
        assert_eq!(provided.access_key_secret.expose_secret(), "again");
    }

    #[tokio::test]
    async fn a_missing_or_empty_file_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("id");
        let key = StaticKey::new(Setting::File(path.clone()), inline("s"), None);
        let shown = path.display();
        assert_eq!(
            problem(&key).await,
            format!(
                "access_key: access_key_id_file {shown} does not exist; it should hold the value of access_key_id"
            )
        );
        fs::write(&path, "\n").expect("written");
        assert_eq!(
            problem(&key).await,
            format!(
                "access_key: access_key_id_file {shown} is empty; it should hold the value of access_key_id"
            )
        );
        fs::write(&path, [0xff, 0xfe]).expect("written");
        assert_eq!(
            problem(&key).await,
            format!(
                "access_key: access_key_id_file {shown} is not text; it should be text in UTF-8"
            )
        );
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_a_key_is_refused_unseen() {
        let key = StaticKey::new(inline("id"), inline("one\ntwo"), None);
        let told = problem(&key).await;
        assert!(
            told.starts_with("access_key: access_key_secret holds"),
            "{told}"
        );
        assert!(!told.contains("two"), "{told}");
        let key = StaticKey::new(inline("id"), inline("s"), Some(inline("  ")));
        assert_eq!(problem(&key).await, "access_key: security_token is empty");
    }

    struct Setup {
        folder: tempfile::TempDir,
        context: Context,
        recorder: Arc<Recorder>,
    }

    impl Setup {
        fn new() -> Self {
            let recorder = Arc::new(Recorder::default());
            Self {
                folder: tempfile::tempdir().expect("a folder"),
                context: Context {
                    name: "prod".to_owned(),
                    http: Http::with_roots("test", rustls::RootCertStore::empty()).expect("TLS"),
                    observer: Arc::clone(&recorder) as _,
                    clock: Clock::fixed(1_767_323_045_000),
                    addresses: Addresses::default(),
                    home: None,
                    session_name: "test".to_owned(),
                },
                recorder,
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("written");
        }

        fn key(&self) -> StaticKey {
            let file = |name| Setting::File(self.path(name));
            StaticKey::new(file("id"), file("secret"), None).counted(&self.context)
        }

        fn failures(&self) -> u64 {
            self.recorder.failures()
        }
    }

    async fn pair(provider: &dyn ProvideCredentials) -> (String, String) {
        let key = provider.provide().await.expect("a key");
        let secret = key.access_key_secret.expose_secret().to_owned();
        (key.access_key_id, secret)
    }

    fn shown(id: &str, secret: &str) -> (String, String) {
        (id.to_owned(), secret.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_key_serves_while_a_file_is_empty_or_gone() {
        let setup = Setup::new();
        setup.write("id", "old-id");
        setup.write("secret", "old-secret");
        let key = setup.key();
        let old = shown("old-id", "old-secret");
        assert_eq!(pair(&key).await, old);

        // Its id is new already, but a key is taken as a whole.
        setup.write("id", "new-id");
        setup.write("secret", "");
        for _ in 0..5 {
            assert_eq!(pair(&key).await, old);
        }
        assert_eq!(setup.failures(), 1, "one try");
        advance(PAUSE).await;
        for _ in 0..5 {
            assert_eq!(pair(&key).await, old);
        }
        assert_eq!(setup.failures(), 2, "one more try after the pause");
        fs::remove_file(setup.path("secret")).expect("removed");
        for _ in 0..5 {
            assert_eq!(pair(&key).await, old);
        }
        assert_eq!(setup.failures(), 3, "one more try after a change");

        // No time has to pass once it is there.
        setup.write("secret", "new-secret");
        assert_eq!(pair(&key).await, shown("new-id", "new-secret"));
        // And a good key is read at every use.
        setup.write("secret", "new-secreT");
        assert_eq!(pair(&key).await, shown("new-id", "new-secreT"));
        assert_eq!(setup.failures(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_first_key_the_files_are_tried_every_ten_seconds() {
        let setup = Setup::new();
        let cached = Cached::new(&setup.context, Arc::new(setup.key()));
        for _ in 0..5 {
            assert!(cached.provide().await.is_err());
        }
        assert_eq!(setup.failures(), 1);
        setup.write("id", "id");
        setup.write("secret", "first");
        assert!(cached.provide().await.is_err());
        advance(PAUSE).await;
        assert_eq!(pair(&cached).await, shown("id", "first"));
        // Read at every use from then on.
        setup.write("secret", "second");
        assert_eq!(pair(&cached).await, shown("id", "second"));
        assert_eq!(setup.failures(), 1);
    }
}
