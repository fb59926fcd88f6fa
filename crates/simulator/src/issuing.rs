//! The temporary credentials that the simulated cloud hands out and later
//! checks: how it is set to hand them out, which it handed out, and which of
//! them are good. Who may have them is decided in `sts` and `metadata`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alibaba_cloud::signing::timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::AccessKey;
use super::gateway::Refusal;

/// So many credentials are remembered; whoever asks for more meanwhile loses
/// the oldest.
const KEPT: usize = 10_000;

/// So many tokens of the metadata service are remembered.
const METADATA_TOKENS: usize = 1_000;

/// Which dialects the simulated metadata service speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metadata {
    /// Answers with a token and without; a token that comes along must be good.
    #[default]
    TokenOptional,
    /// Answers 403 without a good token: the "security hardening mode".
    TokenRequired,
    /// Knows no tokens: a PUT is answered 405, a token that comes along is ignored.
    WithoutTokens,
    /// Answers 404 to everything.
    Off,
}

/// How temporary credentials are handed out.
#[derive(Clone, Debug)]
pub struct Issuing {
    /// How long they live, whatever was asked for. Without it: what STS was
    /// asked for (an hour otherwise), six hours from the metadata service, an
    /// hour from the credentials URI.
    pub lifetime: Option<Duration>,
    /// The shortest `DurationSeconds` that STS accepts.
    pub min_duration: Duration,
    /// The `ExternalId` that a role (by its ARN) asks for. Other roles take any.
    pub external_ids: BTreeMap<String, String>,
    /// The OIDC tokens that STS accepts.
    pub oidc_tokens: Vec<String>,
    /// Accepts an OIDC token in the URL of a GET, where it ends in access logs.
    /// The vendor's Python library sends it there.
    pub oidc_token_in_url: bool,
    /// The dialect of the metadata service.
    pub metadata: Metadata,
    /// The RAM role of the simulated machine, if it has one.
    pub role_name: Option<String>,
    /// Whether the credentials URI exists.
    pub uri: bool,
}

impl Default for Issuing {
    fn default() -> Self {
        Self {
            lifetime: None,
            min_duration: Duration::from_secs(900),
            external_ids: BTreeMap::new(),
            oidc_tokens: vec![super::demo::OIDC_TOKEN.to_owned()],
            oidc_token_in_url: false,
            metadata: Metadata::default(),
            role_name: Some(super::demo::ROLE_NAME.to_owned()),
            uri: true,
        }
    }
}

/// Credentials that were handed out.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The access key; it always has a token.
    pub key: AccessKey,
    /// When they end, Unix milliseconds, always a whole second.
    pub expires: i64,
    /// Whether they were ended early.
    pub revoked: bool,
    /// Who handed them out: the name in the log of requests.
    pub action: &'static str,
    /// What was asked for, such as `RoleArn`; the OIDC token is not kept.
    pub inputs: BTreeMap<&'static str, String>,
    /// The access key id that signed for them.
    pub signed_by: Option<String>,
}

impl Issued {
    pub(super) fn expiration(&self) -> String {
        timestamp(self.expires)
    }

    pub(super) fn token(&self) -> &str {
        self.key.token.as_deref().unwrap_or_default()
    }
}

#[derive(Default)]
pub(super) struct Issuer {
    pub(super) settings: Issuing,
    issued: VecDeque<Issued>,
    /// With the time of their end.
    metadata_tokens: VecDeque<(String, i64)>,
}

impl Issuer {
    pub(super) fn new(settings: Issuing) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Hands out credentials that live as long as set, else for `lifetime`.
    pub(super) fn issue(
        &mut self,
        action: &'static str,
        lifetime: Duration,
        now: i64,
    ) -> &mut Issued {
        let lifetime = self.settings.lifetime.unwrap_or(lifetime);
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let ends = now.saturating_add(lifetime);
        if self.issued.len() == KEPT {
            self.issued.pop_front();
        }
        self.issued.push_back(Issued {
            key: AccessKey {
                id: format!("STS.{}", alphanumeric(24)),
                secret: alphanumeric(44),
                token: Some(security_token()),
            },
            // What is told has whole seconds only, and what is told is true.
            expires: ends - ends.rem_euclid(1000),
            revoked: false,
            action,
            inputs: BTreeMap::new(),
            signed_by: None,
        });
        let newest = self.issued.len() - 1;
        &mut self.issued[newest]
    }

    pub(super) fn issued(&self) -> Vec<Issued> {
        self.issued.iter().cloned().collect()
    }

    /// Ends credentials early; false where there are none with this id.
    pub(super) fn revoke(&mut self, key_id: &str) -> bool {
        let found = self.issued.iter_mut().find(|one| one.key.id == key_id);
        found.is_some_and(|issued| {
            issued.revoked = true;
            true
        })
    }

    pub(super) fn revoke_all(&mut self) {
        for issued in &mut self.issued {
            issued.revoked = true;
        }
    }

    /// The secret of credentials that are good now and come with their token.
    pub(super) fn secret(
        &self,
        key_id: &str,
        token: Option<&str>,
        now: i64,
    ) -> Result<String, Refusal> {
        let refuse = |status, code, message: &str| Err(Refusal::new(status, code, message));
        // The newest are asked for most.
        let mut issued = self.issued.iter().rev();
        let Some(issued) = issued.find(|one| one.key.id == key_id) else {
            let message = "Specified access key is not found.";
            return refuse(404, "InvalidAccessKeyId.NotFound", message);
        };
        match token {
            None | Some("") => {
                let message = "SecurityToken is mandatory for this action.";
                refuse(400, "MissingSecurityToken", message)
            }
            Some(token) if token != issued.token() => {
                if self.issued.iter().any(|other| other.token() == token) {
                    let message = "Specified SecurityToken mismatches with the AccessKey.";
                    refuse(400, "InvalidSecurityToken.MismatchWithAccessKey", message)
                } else {
                    let message = "Specified SecurityToken is malformed.";
                    refuse(400, "InvalidSecurityToken.Malformed", message)
                }
            }
            Some(_) if issued.revoked || now >= issued.expires => {
                let message = "Specified SecurityToken is expired.";
                refuse(400, "InvalidSecurityToken.Expired", message)
            }
            Some(_) => Ok(issued.key.secret.clone()),
        }
    }

    /// A token for the metadata service that ends at `expires`.
    pub(super) fn metadata_token(&mut self, expires: i64) -> String {
        if self.metadata_tokens.len() == METADATA_TOKENS {
            self.metadata_tokens.pop_front();
        }
        let token = alphanumeric(56);
        self.metadata_tokens.push_back((token.clone(), expires));
        token
    }

    pub(super) fn is_metadata_token(&self, token: &str, now: i64) -> bool {
        let mut tokens = self.metadata_tokens.iter();
        tokens.any(|(known, expires)| known == token && now < *expires)
    }
}

fn alphanumeric(length: usize) -> String {
    (0..length).map(|_| fastrand::alphanumeric()).collect()
}

/// As long as the original's, and with each character that must be encoded.
fn security_token() -> String {
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(480)
        .collect();
    format!("CAIS{}+/==", STANDARD.encode(noise))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-02T03:04:05.678Z
    const NOW: i64 = 1_767_323_045_678;

    #[test]
    fn what_is_told_of_the_end_is_exactly_the_end() {
        let mut issuer = Issuer::default();
        let key = issuer
            .issue("AssumeRole", Duration::from_secs(60), NOW)
            .clone();
        assert_eq!(key.expiration(), "2026-01-02T03:05:05Z");
        let ask = |now| issuer.secret(&key.key.id, Some(key.token()), now);
        assert_eq!(ask(1_767_323_104_999), Ok(key.key.secret.clone()));
        let refusal = ask(1_767_323_105_000).expect_err("over");
        assert_eq!(refusal.code, "InvalidSecurityToken.Expired");
    }

    #[test]
    fn a_lifetime_that_is_set_counts_more_than_what_was_asked_for() {
        let mut issuer = Issuer::new(Issuing {
            lifetime: Some(Duration::from_secs(2)),
            ..Issuing::default()
        });
        let granted = issuer.issue("AssumeRole", Duration::from_secs(3600), NOW);
        assert_eq!(granted.expiration(), "2026-01-02T03:04:07Z");
    }

    #[test]
    fn no_two_credentials_share_anything_and_the_oldest_go_first() {
        let mut issuer = Issuer::default();
        let first = issuer
            .issue("AssumeRole", Duration::from_secs(60), NOW)
            .clone();
        for _ in 0..KEPT {
            issuer.issue("AssumeRole", Duration::from_secs(60), NOW);
        }
        let refusal = issuer.secret(&first.key.id, Some(first.token()), NOW);
        assert_eq!(
            refusal.expect_err("forgotten").code,
            "InvalidAccessKeyId.NotFound"
        );
        let all = issuer.issued();
        assert_eq!(all.len(), KEPT);
        let ids: std::collections::HashSet<_> = all.iter().map(|one| &one.key.id).collect();
        assert_eq!(ids.len(), KEPT);
    }

    #[test]
    fn a_metadata_token_ends() {
        let mut issuer = Issuer::default();
        let token = issuer.metadata_token(NOW + 1_000);
        assert!(issuer.is_metadata_token(&token, NOW + 999));
        assert!(!issuer.is_metadata_token(&token, NOW + 1_000));
        assert!(!issuer.is_metadata_token("other", NOW));
    }
}
