//! From the mirror to a [`WebConfig`]: every value judged, every mistake collected.
//!
//! What the exporters' common file means is taken over, where it is silent the
//! safe reading: what would protect nothing is refused, not ignored.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use exporter_web::WebConfig;
use exporter_web::config::{
    CipherSuite, ClientAuth, Curve, Pem, PemSource, RateLimit, TlsConfig, TlsVersion,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::file::{self, Headers, Users};
use crate::config::Mistake;
use crate::config::file::{Amount, Mapping as _, Number, Placed};
use crate::config::mistake::Place;
use crate::config::values::{self, did_you_mean};

/// The headers that may be set, and what each may say where that is a closed set.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// A login with a higher cost would keep a processor busy for minutes.
const MAX_COST: u32 = 20;

const NO_CERT: &str = "NoClientCert";
const VERIFIED: &str = "RequireAndVerifyClientCert";

const CLIENT_AUTH: [(&str, ClientAuth); 5] = [
    (NO_CERT, ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    (VERIFIED, ClientAuth::RequireAndVerify),
];

/// An older name of `RequireAnyClientCert`.
const REQUIRE_ANY: &str = "RequireClientCert";

const VERSIONS: [(&str, TlsVersion); 2] =
    [("TLS12", TlsVersion::Tls12), ("TLS13", TlsVersion::Tls13)];

const OLD_VERSIONS: [&str; 2] = ["TLS10", "TLS11"];

/// Suites by Go's names; of those without one here only the name is known.
const SUITES: [(&str, Option<CipherSuite>); 13] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Some(CipherSuite::EcdsaAes128Gcm),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        Some(CipherSuite::RsaAes128Gcm),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Some(CipherSuite::EcdsaAes256Gcm),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        Some(CipherSuite::RsaAes256Gcm),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::EcdsaChaCha20),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::RsaChaCha20),
    ),
    ("TLS_AES_128_GCM_SHA256", None),
    ("TLS_AES_256_GCM_SHA384", None),
    ("TLS_CHACHA20_POLY1305_SHA256", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
];

/// Curves by Go's names; what has none here cannot be used.
const CURVES: [(&str, Option<Curve>); 4] = [
    ("CurveP256", Some(Curve::P256)),
    ("CurveP384", Some(Curve::P384)),
    ("CurveP521", None),
    ("X25519", Some(Curve::X25519)),
];

/// Units of Go's durations, in nanoseconds.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Judges the whole file at `path`; relative paths in it are relative to its folder.
pub(super) fn validate(
    file: file::File,
    file_name: &str,
    path: &Path,
) -> Result<WebConfig, Vec<Mistake>> {
    let mut check = Check {
        file_name,
        folder: path.parent().unwrap_or(Path::new("")),
        mistakes: Vec::new(),
        warnings: Vec::new(),
    };
    let http = file.http_server_config;
    let http = http.map(|placed| placed.value).unwrap_or_default();
    let web = WebConfig {
        tls: file.tls_server_config.and_then(|placed| check.tls(placed)),
        headers: check.headers(http.headers),
        users: check.users(file.basic_auth_users),
        rate_limit: file
            .rate_limit
            .and_then(|placed| check.rate_limit(placed.value)),
        warnings: check.warnings,
    };
    if check.mistakes.is_empty() {
        return Ok(web);
    }
    check
        .mistakes
        .sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(check.mistakes)
}

struct Check<'a> {
    file_name: &'a str,
    folder: &'a Path,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Check<'_> {
    fn refuse(&mut self, at: &Place, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(at, message));
    }

    fn warn(&mut self, at: &Place, message: impl Into<String>) {
        let mut warning = Mistake::new(at, message);
        self.file_name.clone_into(&mut warning.file);
        self.warnings.push(warning.to_string());
    }

    /// The value of that name.
    fn choice<T: Copy>(&mut self, text: &Placed<String>, choices: &[(&str, T)]) -> Option<T> {
        let Placed { value, at } = text;
        let found = choices.iter().find(|(name, _)| name == value);
        if found.is_none() {
            let meant = did_you_mean(value, choices.iter().map(|(name, _)| *name));
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            self.refuse(at, format!("must be one of {names}{meant}"));
        }
        found.map(|(_, choice)| *choice)
    }

    /// An empty text is none, as in the other exporters.
    fn tls(&mut self, placed: Placed<file::Tls>) -> Option<TlsConfig> {
        let Placed { value: file, at } = placed;
        let written = file.written().len();
        let blank = |text: &Option<Placed<String>>| {
            usize::from(text.as_ref().is_some_and(|text| text.value.is_empty()))
        };
        let blank_secret = |text: &Option<Placed<SecretString>>| {
            let blank = |text: &Placed<SecretString>| text.value.expose_secret().is_empty();
            usize::from(text.as_ref().is_some_and(blank))
        };
        let blanks = [
            &file.cert_file,
            &file.key_file,
            &file.client_ca_file,
            &file.client_auth_type,
        ]
        .map(blank)
        .into_iter()
        .sum::<usize>()
            + [&file.cert, &file.key, &file.client_ca]
                .map(blank_secret)
                .into_iter()
                .sum::<usize>();
        if written == blanks {
            return None;
        }
        let certificate = self.material("cert", file.cert, file.cert_file);
        let key = self.material("key", file.key, file.key_file);
        for (found, name, what) in [
            (&certificate, "cert_file", "certificate"),
            (&key, "key_file", "key"),
        ] {
            if matches!(found, Found::Nothing) {
                self.refuse(
                    &at.missing(name),
                    format!("is missing; TLS needs the server's {what} in PEM, here or inline"),
                );
            }
        }
        let client_ca = self.material("client_ca", file.client_ca, file.client_ca_file);
        let auth_type = file.client_auth_type.filter(|it| !it.value.is_empty());
        let client_auth = match &auth_type {
            Some(text) if text.value == REQUIRE_ANY => Some(ClientAuth::RequireAny),
            Some(text) => self.choice(text, &CLIENT_AUTH),
            None => Some(ClientAuth::None),
        };
        let client_allowed_sans = self.sans(file.client_allowed_sans, client_auth);
        if let Some(client_auth) = client_auth {
            let has_sans = !client_allowed_sans.is_empty();
            self.client_ca(&client_ca, client_auth, auth_type.as_ref(), has_sans);
        }
        let (min_version, max_version) =
            self.versions(file.min_version.as_ref(), file.max_version.as_ref());
        let cipher_suites = self.suites(file.cipher_suites, max_version);
        let curves = self.curves(file.curve_preferences);
        Some(TlsConfig {
            certificate: certificate.some()?,
            key: key.some()?,
            client_ca: client_ca.some(),
            client_auth: client_auth?,
            client_allowed_sans,
            min_version: min_version?,
            max_version: max_version?,
            cipher_suites,
            curves,
            prefer_server_cipher_suites: file
                .prefer_server_cipher_suites
                .is_none_or(|placed| placed.value),
        })
    }

    /// PEM under one of `name` and `name_file`.
    fn material(
        &mut self,
        name: &str,
        inline: Option<Placed<SecretString>>,
        file: Option<Placed<String>>,
    ) -> Found {
        let inline = inline.filter(|inline| !inline.value.expose_secret().is_empty());
        let file = file.filter(|file| !file.value.is_empty());
        let (source, at) = match (inline, file) {
            (None, None) => return Found::Nothing,
            (Some(_), Some(Placed { at, .. })) => {
                let message = format!("stands beside {name}; keep one of the two");
                self.refuse(&at, message);
                return Found::Mistake;
            }
            (Some(Placed { value, at }), None) => (PemSource::Inline(value), at),
            (None, Some(Placed { value, at })) => {
                if let Err(message) = values::path(&value) {
                    self.refuse(&at, message);
                    return Found::Mistake;
                }
                (PemSource::File(self.folder.join(value)), at)
            }
        };
        let place = format!("{}:{}:{}: {}", self.file_name, at.line, at.column, at.path);
        Found::Pem(Pem { source, place }, at)
    }

    fn sans(
        &mut self,
        list: Option<Placed<Vec<Placed<String>>>>,
        client_auth: Option<ClientAuth>,
    ) -> Vec<String> {
        let Some(Placed { value: list, at }) = list else {
            return Vec::new();
        };
        if list.is_empty() {
            self.refuse(
                &at,
                "is empty, so that no client would be let in; list the names that are",
            );
        } else if client_auth.is_some_and(|auth| auth != ClientAuth::RequireAndVerify) {
            self.refuse(
                &at,
                format!(
                    "protects nothing unless certificates are required and verified; \
                     write client_auth_type: {VERIFIED}"
                ),
            );
        }
        for Placed { value, at } in &list {
            if value.is_empty() {
                self.refuse(
                    at,
                    "is empty; write a name that stands in the client's certificate",
                );
            }
        }
        list.into_iter().map(|san| san.value).collect()
    }

    fn client_ca(
        &mut self,
        client_ca: &Found,
        client_auth: ClientAuth,
        auth_type: Option<&Placed<String>>,
        has_sans: bool,
    ) {
        match (client_ca, client_auth) {
            (Found::Pem(_, at), ClientAuth::None) => {
                let message = format!(
                    "nobody is asked for a certificate; write client_auth_type: {VERIFIED}"
                );
                self.refuse(at, message);
            }
            (Found::Nothing, ClientAuth::RequireAndVerify) if !has_sans => {
                let Some(Placed { at, .. }) = auth_type else {
                    return;
                };
                self.refuse(
                    at,
                    "without client_ca_file every certificate of a public authority would be let \
                     in; write client_ca_file, or the names in client_allowed_sans",
                );
            }
            _ => {}
        }
    }

    fn versions(
        &mut self,
        min: Option<&Placed<String>>,
        max: Option<&Placed<String>>,
    ) -> (Option<TlsVersion>, Option<TlsVersion>) {
        let mut one = |text: Option<&Placed<String>>, default: TlsVersion| {
            let Some(text) = text else {
                return Some(default);
            };
            if OLD_VERSIONS.contains(&text.value.as_str()) {
                self.refuse(
                    &text.at,
                    "TLS below 1.2 is broken and not spoken here; write TLS12 or TLS13",
                );
                return None;
            }
            self.choice(text, &VERSIONS)
        };
        let (least, most) = (one(min, TlsVersion::Tls12), one(max, TlsVersion::Tls13));
        if let (Some(least), Some(most), Some(max)) = (least, most, max)
            && least > most
        {
            self.refuse(&max.at, "must not be older than min_version");
        }
        (least, most)
    }

    /// For TLS 1.2; the suites of 1.3 are always offered, as Go does.
    fn suites(
        &mut self,
        list: Option<Placed<Vec<Placed<String>>>>,
        max_version: Option<TlsVersion>,
    ) -> Option<Vec<CipherSuite>> {
        let Placed { value: list, at } = list?;
        if list.is_empty() {
            return None;
        }
        let before = self.mistakes.len();
        let mut suites = Vec::new();
        let mut unusable = Vec::new();
        for text in &list {
            let name = text.value.as_str();
            if name.starts_with("TLS_RSA_") || name.contains("_RC4_") || name.contains("_3DES_") {
                self.refuse(
                    &text.at,
                    "this suite is insecure and not spoken here; remove it",
                );
                continue;
            }
            match self.choice(text, &SUITES) {
                Some(Some(suite)) => suites.push(suite),
                Some(None) if name.ends_with("_CBC_SHA") => unusable.push(name),
                _ => {}
            }
        }
        if self.mistakes.len() > before {
            return None;
        }
        if suites.is_empty() && max_version == Some(TlsVersion::Tls12) {
            self.refuse(
                &at,
                "no suite for TLS 1.2 is left; those with GCM and CHACHA20 can be used here",
            );
        } else if !unusable.is_empty() {
            let names = unusable.join(", ");
            self.warn(
                &at,
                format!("suites with CBC are not spoken here and left out: {names}"),
            );
        }
        Some(suites)
    }

    fn curves(&mut self, list: Option<Placed<Vec<Placed<String>>>>) -> Vec<Curve> {
        let Some(Placed { value: list, at }) = list else {
            return Vec::new();
        };
        let before = self.mistakes.len();
        let mut curves = Vec::new();
        for text in &list {
            curves.extend(self.choice(text, &CURVES).flatten());
        }
        if self.mistakes.len() == before && curves.len() < list.len() {
            if curves.is_empty() {
                self.refuse(
                    &at,
                    "CurveP521 is not spoken here; use X25519, CurveP256 or CurveP384",
                );
            } else {
                self.warn(&at, "CurveP521 is not spoken here and left out");
            }
        }
        curves
    }

    fn headers(&mut self, headers: Option<Placed<Headers>>) -> Vec<(&'static str, String)> {
        let headers = headers.map_or(Vec::new(), |placed| placed.value.0);
        let mut found = Vec::new();
        for (name, Placed { value, at }) in headers {
            let Some((known, allowed)) = HEADERS.iter().find(|(known, _)| *known == name.value)
            else {
                let names = HEADERS.map(|(known, _)| known);
                let meant = did_you_mean(&name.value, names);
                let names = names.join(", ");
                self.refuse(
                    &name.at,
                    format!("not a header that can be set{meant}; allowed here: {names}"),
                );
                continue;
            };
            let is_value = value
                .bytes()
                .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
            if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
                let allowed = allowed.join(" or ");
                self.refuse(&at, format!("must be {allowed}"));
            } else if !is_value {
                self.refuse(&at, "must be one line of text");
            } else if !value.is_empty() {
                found.push((*known, value));
            }
        }
        found
    }

    fn users(&mut self, users: Option<Placed<Users>>) -> BTreeMap<String, SecretString> {
        let users = users.map_or(Vec::new(), |placed| placed.value.0);
        let mut found = BTreeMap::new();
        for (name, Placed { value: hash, at }) in users {
            if name.value.contains(':') {
                self.refuse(
                    &name.at,
                    "no client can send a user's name with a colon in it",
                );
            }
            match cost(hash.expose_secret()) {
                None => self.refuse(
                    &at,
                    "must be a bcrypt hash of the password, such as htpasswd -nB USER prints",
                ),
                Some(cost) if cost > MAX_COST => self.refuse(
                    &at,
                    format!("a cost of {cost} takes minutes a login; {MAX_COST} is the most"),
                ),
                Some(_) => {}
            }
            found.insert(name.value, hash);
        }
        found
    }

    fn rate_limit(&mut self, file: file::RateLimit) -> Option<RateLimit> {
        let before = self.mistakes.len();
        let interval = match &file.interval {
            None => Duration::ZERO,
            Some(Placed {
                value: Amount(text),
                at,
            }) => match go_duration(text) {
                Ok(interval) => interval,
                Err(message) => {
                    self.refuse(at, message);
                    Duration::ZERO
                }
            },
        };
        let burst = match &file.burst {
            None => 0,
            Some(Placed { value, at }) => match value {
                Number::Integer(burst) if u32::try_from(*burst).is_ok() => {
                    u32::try_from(*burst).unwrap_or_default()
                }
                _ => {
                    self.refuse(at, "must be a whole number from 0 to 4294967295");
                    0
                }
            },
        };
        if self.mistakes.len() > before || interval.is_zero() {
            return None;
        }
        if burst == 0
            && let Some(Placed { at, .. }) = file.interval
        {
            self.warn(
                &at,
                "without a burst of at least 1 every request is refused",
            );
        }
        Some(RateLimit { interval, burst })
    }
}

/// What was found under a pair of keys.
enum Found {
    Nothing,
    Mistake,
    Pem(Pem, Place),
}

impl Found {
    fn some(self) -> Option<Pem> {
        match self {
            Self::Pem(pem, _) => Some(pem),
            Self::Nothing | Self::Mistake => None,
        }
    }
}

/// The cost of a bcrypt hash, `None` where it is none.
fn cost(hash: &str) -> Option<u32> {
    let parts = bcrypt::HashParts::from_str(hash).ok()?;
    let digits = hash.get(4..6)?.bytes().all(|byte| byte.is_ascii_digit());
    let cost = parts.get_cost();
    (digits && (4..=31).contains(&cost)).then_some(cost)
}

/// A duration as Go writes it: `1s`, `1.5h`, `1m30s`; 0 needs no unit.
fn go_duration(text: &str) -> Result<Duration, &'static str> {
    const HELP: &str =
        "must be a duration such as 100ms, 1s or 1m30s, or 0 for no limit; a number needs its unit";
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(HELP);
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: f64 = number.parse().map_err(|_| HELP)?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(HELP)?;
        nanoseconds += number * scale;
        rest = tail;
    }
    if nanoseconds > values::MAX_DURATION.as_secs_f64() * 1e9 {
        return Err("must be at most a year");
    }
    Ok(Duration::from_secs_f64(nanoseconds / 1e9))
}
