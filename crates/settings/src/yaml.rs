//! YAML text to a tree whose every node knows its place; the one function that
//! knows the YAML library.
//!
//! `serde`'s own type errors quote the offending scalar, which may be a secret,
//! and are placed at a neighbouring node. So the library is asked for this tree
//! alone, and what it complains about is said again in our own words. What the
//! nodes should be is left to `read`.

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::localizer::ExternalMessageSource;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Spanned};

/// Levels of lists and mappings; the configuration needs six.
const MAX_DEPTH: usize = 32;
/// Nodes of the tree: ten for each of a hundred thousand tasks.
const MAX_NODES: usize = 1_000_000;
/// Nodes that aliases may add.
const MAX_ALIAS_NODES: usize = 100_000;

/// One node of the document.
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) kind: Kind,
    /// A mistake was found here: reading goes on without it.
    pub(super) refused: Cell<bool>,
}

/// Why there is no tree, and where.
pub(super) struct Broken {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) message: String,
}

/// What a node is.
pub(super) enum Kind {
    Null,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the file's order, duplicate keys included.
    Mapping(Vec<(Node, Node)>),
}

impl Kind {
    /// What a person calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean(_) => "a truth value",
            Kind::Integer(_) | Kind::Float(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        }
    }
}

/// The tree of the single document in `text`; an empty one is [`Kind::Null`].
pub(super) fn parse(text: &str) -> Result<Node, Broken> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_aliases: MAX_ALIAS_NODES,
            max_recorded_anchor_events: MAX_ALIAS_NODES,
            // One anchor may well be used by a thousand instances; the limit
            // on replayed events is what stops a bomb.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIAS_NODES,
        },
        // `read` refuses duplicates itself: it knows the key's path.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Option<Node>>(text, options)
        .map(|root| {
            root.unwrap_or(Node {
                line: 1,
                column: 1,
                kind: Kind::Null,
                refused: Cell::new(false),
            })
        })
        .map_err(|error| {
            let (line, column) = error
                .location()
                .map_or((1, 1), |place| (place.line(), place.column()));
            Broken {
                line: line.max(1),
                column: column.max(1),
                message: explain(&error),
            }
        })
}

/// Our own words for what the library says; never a piece of the document.
fn explain(error: &Error) -> String {
    let text = match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => {
            return explain(error);
        }
        Error::ExternalMessage { source, .. } => match &**source {
            ExternalMessageSource::Parser(error) => return explain_syntax(error.kind()),
            _ => "not valid YAML",
        },
        Error::Eof { .. } => "not valid YAML: the file ends too early",
        Error::MultipleDocuments { .. } => {
            "a second document starts here; the configuration is a single one"
        }
        Error::UnknownAnchor { .. } => "no anchor of this name stands above this alias",
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "this alias stands within its own anchor"
        }
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "<<: takes a mapping or a list of mappings",
        Error::UnsupportedTag { .. } => "tags (!…) have no meaning here; remove it",
        Error::InvalidScalar { .. }
        | Error::InvalidBinaryBase64 { .. }
        | Error::BinaryNotUtf8 { .. }
        | Error::InvalidBooleanStrict { .. } => {
            "the value is not what its tag (!!…) says; remove the tag"
        }
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "the aliases unfold to too much",
        Error::Budget { .. } => {
            "too large or too deeply nested for a configuration, with its aliases unfolded"
        }
        _ => "not valid YAML",
    };
    text.to_owned()
}

fn explain_syntax(kind: &ErrorKind) -> String {
    let text = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => "a tab where YAML allows spaces alone",
        ErrorKind::UnclosedQuotedScalar => "this quote is never closed",
        ErrorKind::UnclosedFlowCollection { open } => {
            return format!("not valid YAML: this {open} is never closed");
        }
        ErrorKind::MappingValueNotAllowed => {
            "this `:` cannot stand here; put the value in quotes, or look for a missing `:` in the line above"
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            "a value cannot start with this character; put it in quotes"
        }
        ErrorKind::ExpectedBlockSequenceEntry => {
            "a list item (`- …`) was expected here; check the indentation"
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            "a key was expected here; check the indentation"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "a key without its `:`; check the line"
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            "an unknown escape within double quotes; write \\\\ for a backslash, or use single quotes"
        }
        ErrorKind::RecursionLimitExceeded => "too deeply nested for a configuration",
        ErrorKind::UndeclaredTagHandle => "tags (!…) have no meaning here; remove it",
        // The parser's other messages are fixed texts, but that is its business.
        other => return format!("not valid YAML: {}", fixed_text(other)),
    };
    text.to_owned()
}

/// The parser's message where it is known to hold nothing of the document.
fn fixed_text(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Custom(_) | ErrorKind::InputIo { .. } | ErrorKind::InputDecoding { .. } => {
            "it cannot be read".to_owned()
        }
        _ => kind.to_string(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = Spanned::<Kind>::deserialize(deserializer)?;
        // Where an alias stands, not its anchor: that is what the path names.
        let place = node.referenced;
        Ok(Node {
            line: place.line(),
            column: place.column(),
            kind: node.value,
            refused: Cell::new(false),
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Kind, E> {
        Ok(Kind::Integer(value))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Kind, E> {
        i128::try_from(value)
            .map(Kind::Integer)
            .map_err(|_| E::custom("integer"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Kind::Mapping(mapping))
    }
}
