//! The mirror of the file: every key it may have and the shape of each value.
//!
//! Whether a value makes sense is left to `validate`. Reading stops at the first
//! mistake of shape: after it, more would be guesses.

use secrecy::SecretString;

use super::values::did_you_mean;
use super::yaml::{self, Kind, Node};
use super::{Mistake, Place};

/// Reads `text` as the mirror.
pub(super) fn parse(text: &str) -> Result<Placed<File>, Mistake> {
    let root = yaml::parse(text)?;
    let at = Place {
        line: root.line,
        column: root.column,
        path: String::new(),
    };
    let value = match root.kind {
        Kind::Null => File::default(),
        _ => File::read(&root, &at)?,
    };
    Ok(Placed { value, at })
}

/// A value and where it stands.
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// Declares mappings. Each key may be left out or null, which is the same.
macro_rules! mappings {
    ($(
        $(#[$doc:meta])*
        $name:ident { $( $field:ident $(as $key:literal)?: $type:ty, )* }
    )*) => { $(
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name {
            $( pub(super) $field: Option<Placed<$type>>, )*
        }

        impl Shape for $name {
            fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
                let mut mapping = Self::default();
                for (key, node, at) in entries(node, at, &[$( key!($field $(as $key)?) ),*])? {
                    match key {
                        $( key!($field $(as $key)?) => mapping.$field = optional(node, at)?, )*
                        _ => {}
                    }
                }
                Ok(mapping)
            }
        }

        impl Mapping for $name {
            fn written(&self) -> Vec<(&'static str, &Place)> {
                let keys = [$( (key!($field $(as $key)?), self.$field.as_ref().map(|it| &it.at)) ),*];
                keys.into_iter().filter_map(|(key, at)| Some((key, at?))).collect()
            }
        }
    )* };
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident as $key:literal) => {
        $key
    };
}

// The web configuration's mirror is made of them too.
pub(super) use {key, mappings};

mappings! {
    /// The whole file.
    File {
        poll: Poll,
        api: Api,
        credentials: Accounts,
        instances: Vec<Placed<Instance>>,
        artifacts: String,
        status: Status,
        causes: Causes,
        limits: Limits,
        state: State,
    }

    /// `poll:`
    Poll {
        interval: Amount,
        finished_interval: Amount,
        deadline: Amount,
        timeout: Amount,
        concurrency: Number,
        stale_after: Amount,
    }

    /// `api:`
    Api {
        signature: String,
        network: String,
        requests_per_second: Number,
        burst: Number,
        retries: Number,
        page_size: Number,
        max_pages: Number,
    }

    /// `credentials.NAME`: the keys of all types.
    Credentials {
        kind as "type": String,
        quota_group: String,
        access_key_id: SecretString,
        access_key_id_file: String,
        access_key_secret: SecretString,
        access_key_secret_file: String,
        security_token: SecretString,
        security_token_file: String,
        profile: String,
        file: String,
        role_name: String,
        disable_imdsv1: bool,
        uri: SecretString,
        role_arn: String,
        role_session_name: String,
        source: String,
        external_id: SecretString,
        external_id_file: String,
        policy: Json,
        duration: Amount,
        oidc_provider_arn: String,
        oidc_token_file: String,
        sts_region: String,
        sts_endpoint: String,
        metadata_endpoint: String,
    }

    /// One of `instances:`
    Instance {
        id: String,
        region: String,
        credentials: String,
        endpoint: String,
        tasks: Vec<Placed<Task>>,
        follow: Follow,
    }

    /// One of `tasks:`; the short form has an id alone.
    TaskMapping {
        id: String,
        name: String,
        interval: Amount,
    }

    /// `follow:`
    Follow {
        interval: Amount,
        include: Vec<Placed<Pattern>>,
        exclude: Vec<Placed<Pattern>>,
        runs: Number,
        max_age: Amount,
        max_tasks: Number,
        artifacts: String,
    }

    /// One of `follow.include:` and `follow.exclude:`
    Pattern {
        repo_namespace: String,
        repo_name: String,
    }

    /// `status:`
    Status {
        running: Vec<Placed<String>>,
        finished: Vec<Placed<String>>,
        succeeded: Vec<Placed<String>>,
        failed: Vec<Placed<String>>,
    }

    /// `causes:`
    Causes {
        rate_limited: Vec<Placed<String>>,
        quota: Vec<Placed<String>>,
        unauthorized: Vec<Placed<String>>,
        not_found: Vec<Placed<String>>,
        network: Vec<Placed<String>>,
        other: Vec<Placed<String>>,
    }

    /// `limits:`
    Limits {
        series: Number,
        artifacts_per_task: Number,
    }

    /// `state:`
    State {
        path: String,
    }
}

/// `credentials:`, whose keys the user chooses; in the file's order.
pub(super) struct Accounts(pub(super) Vec<(Placed<String>, Placed<Credentials>)>);

/// JSON, as a text in the YAML.
pub(super) struct Json(pub(super) String);

/// A number with a unit, or without one, which `validate` refuses.
pub(super) struct Amount(pub(super) String);

/// A number.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Integer(i128),
    Float(f64),
}

/// One of `tasks:`, in its short or long form.
pub(super) struct Task(pub(super) TaskMapping);

/// A mapping of this file.
pub(super) trait Mapping {
    /// The keys that stand in it, and where their values are.
    fn written(&self) -> Vec<(&'static str, &Place)>;
}

/// What can be read from a node.
pub(super) trait Shape: Sized {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake>;
}

impl Shape for String {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        match &node.kind {
            Kind::Text(text) => Ok(text.clone()),
            other => Err(mismatch(at, "a text", other)),
        }
    }
}

impl Shape for SecretString {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        String::read(node, at).map(Self::from)
    }
}

impl Shape for bool {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        match node.kind {
            Kind::Boolean(value) => Ok(value),
            ref other => Err(mismatch(at, "true or false without quotes", other)),
        }
    }
}

impl Shape for Json {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        match &node.kind {
            Kind::Text(text) => Ok(Self(text.clone())),
            other => Err(mismatch(at, "JSON as a text, in quotes or after |", other)),
        }
    }
}

impl Shape for Amount {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        match &node.kind {
            Kind::Text(text) => Ok(Self(text.clone())),
            Kind::Integer(value) => Ok(Self(value.to_string())),
            Kind::Float(value) => Ok(Self(value.to_string())),
            other => Err(mismatch(at, "a duration such as 60s or 1h30m", other)),
        }
    }
}

impl Shape for Number {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        match node.kind {
            Kind::Integer(value) => Ok(Self::Integer(value)),
            Kind::Float(value) => Ok(Self::Float(value)),
            ref other => Err(mismatch(at, "a number", other)),
        }
    }
}

impl Shape for Task {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        match &node.kind {
            Kind::Text(id) => {
                let id = Placed {
                    value: id.clone(),
                    at: at.clone(),
                };
                Ok(Self(TaskMapping {
                    id: Some(id),
                    ..TaskMapping::default()
                }))
            }
            Kind::Mapping(_) => TaskMapping::read(node, at).map(Self),
            other => Err(mismatch(
                at,
                "a task's id or a mapping with id, name and interval",
                other,
            )),
        }
    }
}

impl<T: Shape> Shape for Vec<Placed<T>> {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        let Kind::List(items) = &node.kind else {
            return Err(mismatch(at, "a list", &node.kind));
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let at = at.item(item, index);
            list.push(Placed {
                value: T::read(item, &at)?,
                at,
            });
        }
        Ok(list)
    }
}

impl Shape for Accounts {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        let mut accounts = Vec::new();
        for (name, node, name_at, at) in pairs(node, at)? {
            let Kind::Mapping(_) = node.kind else {
                let found = node.kind.name();
                let message = format!(
                    "must be a mapping, not {found}; each entry stands under a name of its own, \
                     such as prod: {{type: environment}}"
                );
                return Err(Mistake::new(&at, message));
            };
            let name = Placed {
                value: name.to_owned(),
                at: name_at,
            };
            let value = Credentials::read(node, &at)?;
            accounts.push((name, Placed { value, at }));
        }
        Ok(Self(accounts))
    }
}

pub(super) fn optional<T: Shape>(node: &Node, at: Place) -> Result<Option<Placed<T>>, Mistake> {
    match node.kind {
        Kind::Null => Ok(None),
        _ => T::read(node, &at).map(|value| Some(Placed { value, at })),
    }
}

/// The entries of a mapping whose keys are all among `known`.
pub(super) fn entries<'a>(
    node: &'a Node,
    at: &Place,
    known: &[&str],
) -> Result<Vec<(&'a str, &'a Node, Place)>, Mistake> {
    let pairs = pairs(node, at)?;
    for (key, _, key_at, _) in &pairs {
        if !known.contains(key) {
            let meant = did_you_mean(key, known.iter().copied());
            let message = format!("unknown key{meant}; allowed here: {}", known.join(", "));
            return Err(Mistake::new(key_at, message));
        }
    }
    Ok(pairs
        .into_iter()
        .map(|(key, node, _, at)| (key, node, at))
        .collect())
}

/// The entries of a mapping: key, value, the key's place, the value's place.
pub(super) fn pairs<'a>(
    node: &'a Node,
    at: &Place,
) -> Result<Vec<(&'a str, &'a Node, Place, Place)>, Mistake> {
    let Kind::Mapping(mapping) = &node.kind else {
        return Err(mismatch(at, "a mapping", &node.kind));
    };
    let mut lines = std::collections::HashMap::with_capacity(mapping.len());
    let mut pairs = Vec::with_capacity(mapping.len());
    for (key, value) in mapping {
        let Kind::Text(name) = &key.kind else {
            let at = Place {
                line: key.line,
                column: key.column,
                ..at.clone()
            };
            let message = format!(
                "a key must be a text, not {}; put it in quotes",
                key.kind.name()
            );
            return Err(Mistake::new(&at, message));
        };
        let key_at = at.key(key, name);
        if let Some(first) = lines.insert(name.as_str(), key.line) {
            let message = format!("duplicate key; it stands at line {first} already");
            return Err(Mistake::new(&key_at, message));
        }
        let value_at = Place {
            line: value.line,
            column: value.column,
            ..key_at.clone()
        };
        pairs.push((name.as_str(), value, key_at, value_at));
    }
    Ok(pairs)
}

pub(super) fn mismatch(at: &Place, expected: &str, found: &Kind) -> Mistake {
    let hint = match found {
        Kind::Boolean(_) | Kind::Integer(_) | Kind::Float(_) if expected.starts_with("a text") => {
            "; put it in quotes"
        }
        _ if expected == "a list" => "; start each item with `- `",
        Kind::Text(_) if expected == "a number" => "; write it without quotes and units",
        _ => "",
    };
    Mistake::new(
        at,
        format!("must be {expected}, not {}{hint}", found.name()),
    )
}
