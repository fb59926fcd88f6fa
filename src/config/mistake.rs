//! Mistakes in the file: where they stand and how they read.

use std::fmt;

use super::yaml::Node;

/// Keys longer than this are no keys of ours and stay unnamed.
const MAX_SHOWN_KEY: usize = 64;

/// One thing wrong in the file. The message never quotes what may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// The key's path, such as `instances[0].region`; "" for the file as a whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Mistake {
    pub(super) fn new(at: &Place, message: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            line: at.line,
            column: at.column,
            path: at.path.clone(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            path,
            message,
        } = self;
        write!(formatter, "{file}:{line}:{column}: ")?;
        if !path.is_empty() {
            write!(formatter, "{path}: ")?;
        }
        formatter.write_str(message)
    }
}

/// Where a node stands.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) path: String,
}

impl Place {
    /// The place of `node`, which is the key `name` of the mapping here.
    pub(super) fn key(&self, node: &Node, name: &str) -> Self {
        let name = if is_presentable(name) { name } else { "?" };
        Self {
            line: node.line,
            column: node.column,
            ..self.missing(name)
        }
    }

    /// The place of `node`, which is number `index` of the list here.
    pub(super) fn item(&self, node: &Node, index: usize) -> Self {
        Self {
            line: node.line,
            column: node.column,
            path: format!("{}[{index}]", self.path),
        }
    }

    /// The place of the key `name`, which is missing from the mapping here.
    pub(super) fn missing(&self, name: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{dot}{name}", self.path),
            ..*self
        }
    }
}

/// Whether a key may be named. Upper case beside digits makes it a pasted secret
/// rather than a misspelt key.
fn is_presentable(key: &str) -> bool {
    let has = |class: fn(&u8) -> bool| key.bytes().any(|byte| class(&byte));
    (1..=MAX_SHOWN_KEY).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !(has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit))
}
