//! The web configuration: the file that all exporters share, about TLS, client
//! certificates, passwords, headers and a rate limit.
//!
//! What the exporters' common file means is taken over; where it is silent, the
//! safe reading: what would protect nothing is refused, not ignored. What is in the
//! files that it names is left to `source`, which reads them again and again.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rustls::SupportedCipherSuite;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::{cipher_suite, kx_group};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use settings::{Count, Mistake, Place, Reader, Secret, SecretText, one_of};

/// A login with a higher cost would keep a processor busy for minutes.
const MAX_COST: u32 = 20;

/// The longest interval of a rate limit: a year, in nanoseconds.
const MAX_INTERVAL: f64 = 365.0 * 86_400e9;

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

/// Everything the file says, with defaults filled in. No `Debug`: nearly all of
/// it is secret.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// Without it plain http is spoken.
    #[serde(rename = "tls_server_config")]
    pub tls: Option<TlsConfig>,
    /// What every answer says.
    #[serde(rename = "http_server_config")]
    pub http: Http,
    /// Users and the bcrypt hashes of their passwords; without one nobody needs
    /// a password.
    #[serde(rename = "basic_auth_users")]
    pub users: BTreeMap<String, PasswordHash>,
    /// `None` where requests are not limited.
    pub rate_limit: Option<RateLimit>,
    /// What is accepted and perhaps not meant.
    #[serde(skip)]
    pub warnings: Vec<Mistake>,
}

/// `tls_server_config:`
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's chain.
    #[serde(rename = "cert", alias = "cert_file")]
    pub certificate: Pem,
    /// Its key.
    #[serde(alias = "key_file")]
    pub key: Pem,
    /// The authorities of client certificates.
    #[serde(alias = "client_ca_file")]
    pub client_ca: Option<Pem>,
    /// Whether clients have to show a certificate.
    #[serde(rename = "client_auth_type")]
    pub client_auth: ClientAuth,
    /// Of which names one must be in a client's certificate; empty: any will do.
    pub client_allowed_sans: Vec<San>,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The newest version; no older than `min_version`.
    pub max_version: TlsVersion,
    /// For TLS 1.2, in order of preference; empty takes the defaults.
    cipher_suites: Vec<Suite>,
    /// In order of preference; empty takes the defaults.
    curve_preferences: Vec<Group>,
    /// Whether the order of the cipher suites is the server's and not the client's.
    pub prefer_server_cipher_suites: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: Pem::default(),
            key: Pem::default(),
            client_ca: None,
            client_auth: ClientAuth::None,
            client_allowed_sans: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            prefer_server_cipher_suites: true,
        }
    }
}

/// `http_server_config:`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Accepted and without effect: HTTP/1.1 alone is spoken.
    pub http2: Option<bool>,
    /// Headers of every answer.
    pub headers: BTreeMap<String, HeaderText>,
}

/// `rate_limit:`, of all requests together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// From one request to the next, in the long run; with 0 there is no limit.
    pub interval: GoDuration,
    /// How many may follow one another at once; with 0 there is never a request.
    pub burst: Count<0, 0, { u32::MAX }>,
}

/// PEM, written in the file or in one of its own.
#[derive(Clone)]
pub struct Pem {
    /// Where it is.
    pub source: Secret,
    /// The place of the value: what a mistake starts with.
    at: String,
}

impl Pem {
    /// An error about the content, after its place.
    pub(crate) fn error(&self, message: &str) -> String {
        format!("{}{message}", self.at)
    }

    /// An empty text is none, as in the other exporters.
    fn is_blank(&self) -> bool {
        match &self.source {
            Secret::Inline(text) => text.expose_secret().is_empty(),
            Secret::File(path) => path.as_os_str().is_empty(),
        }
    }
}

impl Default for Pem {
    fn default() -> Self {
        Self {
            source: Secret::Inline(SecretString::default().into()),
            at: String::new(),
        }
    }
}

impl<'de> Deserialize<'de> for Pem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let SecretText(source) = SecretText::deserialize(deserializer)?;
        Ok(Self {
            source,
            at: String::new(),
        })
    }
}

/// `client_auth_type`, by Go's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ClientAuth {
    /// Nobody is asked.
    #[serde(rename = "NoClientCert", alias = "")]
    None,
    /// Asked for and not looked at.
    #[serde(rename = "RequestClientCert")]
    Request,
    /// Must be there, whoever signed it.
    #[serde(rename = "RequireAnyClientCert", alias = "RequireClientCert")]
    RequireAny,
    /// Verified where there is one.
    #[serde(rename = "VerifyClientCertIfGiven")]
    VerifyIfGiven,
    /// Must be there, and an authority must have signed it.
    #[serde(rename = "RequireAndVerifyClientCert")]
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether a client without a certificate is refused.
    pub fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }

    /// Whether an authority must have signed the certificate.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// A version of TLS that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "TLS12" => Ok(Self::Tls12),
            "TLS13" => Ok(Self::Tls13),
            "TLS10" | "TLS11" => {
                Err("TLS below 1.2 is broken and not spoken here; write TLS12 or TLS13".to_owned())
            }
            _ => Err(one_of(word, &["TLS12", "TLS13"])),
        }
    }
}

/// Suites by Go's names; of those without one here only the name is known.
static SUITES: [(&str, Option<SupportedCipherSuite>); 13] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        Some(cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        Some(cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_AES_128_GCM_SHA256", None),
    ("TLS_AES_256_GCM_SHA384", None),
    ("TLS_CHACHA20_POLY1305_SHA256", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
];

/// A group of a key exchange.
pub type KeyGroup = &'static dyn SupportedKxGroup;

/// Curves by Go's names; what has none here cannot be used.
static CURVES: [(&str, Option<KeyGroup>); 4] = [
    ("CurveP256", Some(kx_group::SECP256R1)),
    ("CurveP384", Some(kx_group::SECP384R1)),
    ("CurveP521", None),
    ("X25519", Some(kx_group::X25519)),
];

/// What `word` stands for in a table.
fn choice<T: Copy>(word: &str, table: &[(&str, T)]) -> Result<T, String> {
    let found = table.iter().find(|(name, _)| *name == word);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        one_of(word, &names)
    })
}

/// A suite that is listed; `None` if it is known and cannot be chosen here.
#[derive(Clone, Copy)]
struct Suite(Option<SupportedCipherSuite>);

impl FromStr for Suite {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.starts_with("TLS_RSA_") || name.contains("_RC4_") || name.contains("_3DES_") {
            return Err("this suite is insecure and not spoken here; remove it".to_owned());
        }
        choice(name, &SUITES).map(Self)
    }
}

/// A curve that is listed; `None` if it is known and cannot be chosen here.
#[derive(Clone, Copy)]
struct Group(Option<KeyGroup>);

impl FromStr for Group {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        choice(name, &CURVES).map(Self)
    }
}

/// A name in a client's certificate.
pub struct San(pub String);

impl FromStr for San {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.is_empty() {
            return Err("is empty; write a name that is in the client's certificate".to_owned());
        }
        Ok(Self(name.to_owned()))
    }
}

/// A bcrypt hash.
#[derive(Clone)]
pub struct PasswordHash(pub SecretString);

impl FromStr for PasswordHash {
    type Err = String;

    fn from_str(hash: &str) -> Result<Self, String> {
        match cost(hash) {
            None => Err(
                "must be a bcrypt hash of the password, such as htpasswd -nB USER prints"
                    .to_owned(),
            ),
            Some(cost) if cost > MAX_COST => Err(format!(
                "a cost of {cost} takes minutes a login; {MAX_COST} is the most"
            )),
            Some(_) => Ok(Self(hash.into())),
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HELP: &str = "must be a duration such as 100ms, 1s or 1m30s, or 0 for no limit; a number needs its unit";
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(HELP.to_owned());
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
        if nanoseconds > MAX_INTERVAL {
            return Err("must be at most a year".to_owned());
        }
        Ok(Self(Duration::from_secs_f64(nanoseconds / 1e9)))
    }
}

/// The text of a header. `X-XSS-Protection: 1` is usual, and an empty one is none.
pub struct HeaderText(pub String);

impl FromStr for HeaderText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_line = text
            .bytes()
            .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        if is_line {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be one line of text".to_owned())
        }
    }
}

/// Reads what is written as text, or as a number or nothing, which are texts too,
/// by its `FromStr`.
struct Parsed<T>(PhantomData<T>, &'static str);

impl<T: FromStr<Err = String>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        self.visit_str("")
    }
}

macro_rules! parsed {
    ($($name:ty as $read:ident($expected:literal),)*) => { $(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.$read(Parsed(PhantomData, $expected))
            }
        }
    )* };
}

parsed! {
    TlsVersion as deserialize_str("a text"),
    Suite as deserialize_str("a text"),
    Group as deserialize_str("a text"),
    San as deserialize_str("a text"),
    PasswordHash as deserialize_str("a text"),
    GoDuration as deserialize_any("a duration such as 100ms or 1s"),
    HeaderText as deserialize_any("a text"),
}

/// The headers that may be set, and what each may say where that is a closed set.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

impl WebConfig {
    /// Checks values against one another, and notes where the certificates are written.
    fn check(&mut self, at: &Place<'_>) {
        for (name, place) in at.get("http_server_config").get("headers").entries() {
            check_header(name, &place);
        }
        self.http.headers.retain(|_, value| !value.0.is_empty());
        for (name, place) in at.get("basic_auth_users").entries() {
            if name.contains(':') {
                place.refuse("no client can send a user's name with a colon in it");
            }
        }
        let place = at.get("tls_server_config");
        if place.entries().iter().all(|(_, value)| value.is_blank()) {
            self.tls = None;
        }
        if let Some(tls) = &mut self.tls {
            tls.check(&place, &mut self.warnings);
        }
        let interval = at.get("rate_limit").get("interval");
        self.rate_limit = self.rate_limit.filter(|limit| !limit.interval.0.is_zero());
        if self.rate_limit.is_some_and(|limit| limit.burst.get() == 0)
            && at.get("rate_limit").get("burst").is_sound()
        {
            let message = "without a burst of at least 1 every request is refused";
            self.warnings.push(interval.mistake(message));
        }
    }
}

fn check_header(name: &str, at: &Place<'_>) {
    let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        let names = HEADERS.map(|(known, _)| known);
        let meant = settings::did_you_mean(name, names);
        let names = names.join(", ");
        return at.refuse(format!(
            "not a header that can be set{meant}; allowed here: {names}"
        ));
    };
    let is_allowed = allowed.is_empty() || at.text().is_some_and(|text| allowed.contains(&text));
    if at.is_sound() && !is_allowed {
        at.refuse(format!("must be {}", allowed.join(" or ")));
    }
}

impl TlsConfig {
    fn check(&mut self, at: &Place<'_>, warnings: &mut Vec<Mistake>) {
        for (material, key, what) in [
            (&mut self.certificate, "cert", "certificate"),
            (&mut self.key, "key", "key"),
        ] {
            let (inline, file) = (at.get(key), at.get(&format!("{key}_file")));
            if inline.is_blank() && file.is_blank() {
                file.refuse(format!(
                    "is missing; TLS needs the server's {what} in PEM, here or inline"
                ));
            }
            material.at = if inline.is_blank() { file } else { inline }
                .mistake("")
                .to_string();
        }
        let inline = at.get("client_ca");
        let place = if inline.is_blank() {
            at.get("client_ca_file")
        } else {
            inline
        };
        self.client_ca = self
            .client_ca
            .take()
            .filter(|material| !material.is_blank());
        if let Some(material) = &mut self.client_ca {
            material.at = place.mistake("").to_string();
        }
        if at.get("client_auth_type").is_sound() {
            self.check_clients(at, &place);
        }
        let max = at.get("max_version");
        if self.min_version > self.max_version && max.is_written() {
            max.refuse("must not be older than min_version");
        }
        self.check_suites(&at.get("cipher_suites"), warnings);
        self.check_curves(&at.get("curve_preferences"), warnings);
    }

    fn check_clients(&self, at: &Place<'_>, client_ca: &Place<'_>) {
        let sans = at.get("client_allowed_sans");
        if sans.is_written() && sans.is_sound() {
            if !sans.is_filled() {
                sans.refuse("is empty, so that no client would be let in; list the names that are");
            } else if self.client_auth != ClientAuth::RequireAndVerify {
                sans.refuse(
                    "protects nothing unless certificates are required and verified; \
                     write client_auth_type: RequireAndVerifyClientCert",
                );
            }
        }
        match (client_ca.is_blank(), self.client_auth) {
            (false, ClientAuth::None) => client_ca.refuse(
                "nobody is asked for a certificate; write client_auth_type: RequireAndVerifyClientCert",
            ),
            (true, ClientAuth::RequireAndVerify) if !sans.is_filled() => {
                at.get("client_auth_type").refuse(
                    "without client_ca_file every certificate of a public authority would be let \
                     in; write client_ca_file, or the names in client_allowed_sans",
                );
            }
            _ => {}
        }
    }

    /// For TLS 1.2; the suites of 1.3 are always offered, as Go does.
    fn check_suites(&self, at: &Place<'_>, warnings: &mut Vec<Mistake>) {
        let items = at.items();
        if items.is_empty() || !items.iter().all(Place::is_sound) {
            return;
        }
        let cbc: Vec<&str> = items
            .iter()
            .filter_map(Place::text)
            .filter(|name| name.ends_with("_CBC_SHA"))
            .collect();
        if self.suites().is_some_and(|it| it.is_empty()) && self.max_version == TlsVersion::Tls12 {
            at.refuse("no suite for TLS 1.2 is left; those with GCM and CHACHA20 can be used here");
        } else if !cbc.is_empty() {
            warnings.push(at.mistake(format!(
                "suites with CBC are not spoken here and left out: {}",
                cbc.join(", ")
            )));
        }
    }

    fn check_curves(&self, at: &Place<'_>, warnings: &mut Vec<Mistake>) {
        let items = at.items();
        if self.curves().len() == items.len() || !items.iter().all(Place::is_sound) {
            return;
        }
        if self.curves().is_empty() {
            at.refuse("CurveP521 is not spoken here; use X25519, CurveP256 or CurveP384");
        } else {
            warnings.push(at.mistake("CurveP521 is not spoken here and left out"));
        }
    }

    /// The suites of TLS 1.2 that are chosen here; `None` takes the defaults.
    pub fn suites(&self) -> Option<Vec<SupportedCipherSuite>> {
        let suites = self.cipher_suites.iter().filter_map(|suite| suite.0);
        (!self.cipher_suites.is_empty()).then(|| suites.collect())
    }

    /// The curves that are chosen here; empty takes the defaults.
    pub fn curves(&self) -> Vec<KeyGroup> {
        self.curve_preferences
            .iter()
            .filter_map(|curve| curve.0)
            .collect()
    }
}

/// Judges the content of the file at `path`; relative paths in it are relative to
/// that file's folder.
///
/// # Errors
///
/// A mistake of YAML's syntax alone, or else every other one.
pub fn parse(bytes: &[u8], path: &Path) -> Result<WebConfig, Vec<Mistake>> {
    let file_name = path.display().to_string();
    let reader = Reader {
        file_name: &file_name,
        folder: path.parent().unwrap_or(Path::new("")),
        schema: "",
    };
    let (mut web, document) = reader.read_bytes::<WebConfig>(bytes)?;
    if let Some(web) = &mut web {
        web.check(&document.root());
    }
    document.finish(web)
}
