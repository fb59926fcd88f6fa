//! A key written in the configuration, or in files beside it. Files are read at
//! every use: they are tiny, and a rotated key counts at once, whatever the file
//! system says of modification times.

use std::io::ErrorKind;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};

use super::files::{KeyFiles, unreadable};
use super::{Credentials, Error, ProvideCredentials, clean};

const PROVIDER: &str = "access_key";

/// Where one part of the key stands.
#[derive(Clone, Debug)]
pub enum Setting {
    /// The value itself.
    Inline(SecretString),
    /// A file that holds the value alone; surrounding white space is cut off.
    File(PathBuf),
}

/// The provider.
#[derive(Clone, Debug)]
pub struct StaticKey {
    id: Setting,
    secret: Setting,
    token: Option<Setting>,
    key_files: KeyFiles,
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
        }
    }

    async fn read(&self, key: &str, setting: &Setting) -> Result<SecretString, Error> {
        let read = setting.read(key, &self.key_files).await;
        read.map_err(|problem| Error::broken(PROVIDER, problem))
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
                let text = key_files.read(path).await.map_err(|error| {
                    let wrong = unreadable(path, &error);
                    let should = match error.kind() {
                        ErrorKind::NotFound => format!("; it should hold the value of {key}"),
                        _ => String::new(),
                    };
                    format!("{key}_file {wrong}{should}")
                })?;
                clean(text.expose_secret())
                    .map(SecretString::from)
                    .map_err(|wrong| format!("{key}_file {} {wrong}", path.display()))
            }
        }
    }
}

impl ProvideCredentials for StaticKey {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let id = self.read("access_key_id", &self.id).await?;
            Ok(Credentials {
                access_key_id: id.expose_secret().to_owned(),
                access_key_secret: self.read("access_key_secret", &self.secret).await?,
                security_token: match &self.token {
                    Some(token) => Some(self.read("security_token", token).await?),
                    None => None,
                },
                expires_at_ms: None,
                provider: PROVIDER,
            })
        })
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn inline(value: &str) -> Setting {
        Setting::Inline(value.into())
    }

    async fn problem(key: StaticKey) -> String {
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
            problem(key.clone()).await,
            format!(
                "access_key: access_key_id_file {shown} does not exist; it should hold the value of access_key_id"
            )
        );
        fs::write(&path, "\n").expect("written");
        assert_eq!(
            problem(key.clone()).await,
            format!("access_key: access_key_id_file {shown} is empty")
        );
        fs::write(&path, [0xff, 0xfe]).expect("written");
        assert_eq!(
            problem(key).await,
            format!(
                "access_key: access_key_id_file {shown} is not text; it should be text in UTF-8"
            )
        );
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_a_key_is_refused_unseen() {
        let key = StaticKey::new(inline("id"), inline("one\ntwo"), None);
        let told = problem(key).await;
        assert!(
            told.starts_with("access_key: access_key_secret holds"),
            "{told}"
        );
        assert!(!told.contains("two"), "{told}");
        let key = StaticKey::new(inline("id"), inline("s"), Some(inline("  ")));
        assert_eq!(problem(key).await, "access_key: security_token is empty");
    }
}
