//! From the tree to settings: a serde deserializer that knows the place of every
//! value and finds every mistake in one run.
//!
//! Derived `Deserialize` ends at the first mistake. So the value there is refused,
//! and the reading starts again as if it were not written, until nothing is left
//! to complain about.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Expected,
    IntoDeserializer as _, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use crate::mistake::{Mistake, did_you_mean, is_presentable, one_of, quoted};
use crate::yaml::{self, Kind, Node};

/// After so many mistakes reading ends: who has a thousand mends the first hundred.
const MAX_MISTAKES: usize = 100;

// Names by which types ask the reader for more than serde's data model has.
pub(crate) const SECRET: &str = "\u{0}secret";
pub(crate) const FILE_PATH: &str = "\u{0}path";
const SHORT_OR_LONG: &str = "\u{0}short";
const WITH_COMMON: &str = "\u{0}common";

/// How a file is read.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The file's name, as mistakes show it.
    pub file_name: &'a str,
    /// Where relative paths start.
    pub folder: &'a Path,
    /// The JSON Schema of the settings, which says what is required; "" if nothing is.
    pub schema: &'a str,
}

impl Reader<'_> {
    /// As [`Self::read`], of a file's content.
    ///
    /// # Errors
    ///
    /// As there, and where it is no text.
    pub fn read_bytes<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
    ) -> Result<(Option<T>, Document), Vec<Mistake>> {
        let text = text(bytes, self.file_name).map_err(|mistake| vec![mistake])?;
        self.read(text)
    }

    /// Reads `text`. There is no value where a mistake leaves none; the document
    /// holds the mistakes, and takes those of further checks.
    ///
    /// # Errors
    ///
    /// A mistake of YAML's syntax, which is alone: what follows it would be guesses.
    pub fn read<T: DeserializeOwned>(
        &self,
        text: &str,
    ) -> Result<(Option<T>, Document), Vec<Mistake>> {
        let mut root = yaml::parse(text).map_err(|broken| {
            vec![Mistake {
                file: self.file_name.to_owned(),
                line: broken.line,
                column: broken.column,
                path: String::new(),
                message: broken.message,
            }]
        })?;
        // An empty file is a mapping without keys.
        if let Kind::Null = root.kind {
            root.kind = Kind::Mapping(Vec::new());
        }
        let document = Document {
            file_name: self.file_name.to_owned(),
            root,
            mistakes: RefCell::default(),
        };
        let value = loop {
            let root = At {
                reader: self,
                document: &document,
                node: &document.root,
                trail: &Trail::Root,
                part: Part::Whole,
            };
            match T::deserialize(root) {
                Ok(value) => break Some(value),
                Err(_) if document.root.refused.get() => break None,
                Err(_) if document.mistakes.borrow().len() >= MAX_MISTAKES => break None,
                Err(_) => {}
            }
        };
        Ok((value, document))
    }
}

/// `bytes` as UTF-8 text.
fn text<'a>(bytes: &'a [u8], file_name: &str) -> Result<&'a str, Mistake> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count();
        let message = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            "this is UTF-16; save the file as UTF-8"
        } else {
            "a byte that is not UTF-8; save the file as UTF-8"
        };
        Mistake {
            file: file_name.to_owned(),
            line: good.matches('\n').count() as u64 + 1,
            column: column as u64 + 1,
            path: String::new(),
            message: message.to_owned(),
        }
    })
}

/// A file that was read, and the mistakes in it.
pub struct Document {
    file_name: String,
    root: Node,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Document {
    /// The place of the file's root, where checks across settings start.
    pub fn root(&self) -> Place<'_> {
        Place {
            document: self,
            node: Some(&self.root),
            line: self.root.line,
            column: self.root.column,
            path: String::new(),
        }
    }

    /// The value, or all mistakes in the order of the file.
    ///
    /// # Errors
    ///
    /// The mistakes, if there are any.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Mistake>> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        match value {
            Some(value) if mistakes.is_empty() => Ok(value),
            _ => Err(mistakes),
        }
    }

    fn refuse(&self, line: u64, column: u64, path: String, message: String) {
        self.mistakes.borrow_mut().push(Mistake {
            file: self.file_name.clone(),
            line,
            column,
            path,
            message,
        });
    }
}

/// A place in the file, for checks across settings.
#[derive(Clone)]
pub struct Place<'a> {
    document: &'a Document,
    node: Option<&'a Node>,
    line: u64,
    column: u64,
    path: String,
}

impl<'a> Place<'a> {
    /// The value at `key`; where there is none, the place is that of the mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Self {
        let node = self.node.and_then(|node| node.get(key));
        let (line, column) = node.map_or((self.line, self.column), |it| (it.line, it.column));
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            document: self.document,
            node,
            line,
            column,
            path: format!("{}{dot}{}", self.path, presentable(key)),
        }
    }

    /// The items of a list, those with mistakes too.
    pub fn items(&self) -> Vec<Place<'a>> {
        let items = match self.node.map(|node| &node.kind) {
            Some(Kind::List(items)) => items.as_slice(),
            _ => &[],
        };
        let places = items.iter().enumerate().map(|(index, item)| Place {
            document: self.document,
            node: Some(item),
            line: item.line,
            column: item.column,
            path: format!("{}[{index}]", self.path),
        });
        places.collect()
    }

    /// The entries of a mapping, those with mistakes too.
    pub fn entries(&self) -> Vec<(&'a str, Place<'a>)> {
        let entries = match self.node.map(|node| &node.kind) {
            Some(Kind::Mapping(entries)) => entries.as_slice(),
            _ => &[],
        };
        let names = entries.iter().filter_map(|(key, _)| match &key.kind {
            Kind::Text(name) if !key.refused.get() => Some(name.as_str()),
            _ => None,
        });
        names.map(|name| (name, self.get(name))).collect()
    }

    /// Whether a value is written here, be it a mistake.
    pub fn is_written(&self) -> bool {
        !matches!(self.node.map(|node| &node.kind), None | Some(Kind::Null))
    }

    /// Whether nothing or an empty text is written here.
    pub fn is_blank(&self) -> bool {
        !self.is_written() || self.text() == Some("")
    }

    /// Whether nothing was refused here, so that a check may build on the value.
    pub fn is_sound(&self) -> bool {
        !self.node.is_some_and(|node| node.refused.get())
    }

    /// Whether a mapping is written here.
    pub fn is_mapping(&self) -> bool {
        matches!(self.node.map(|node| &node.kind), Some(Kind::Mapping(_)))
    }

    /// Whether a list or mapping with something in it is written here.
    pub fn is_filled(&self) -> bool {
        match self.node.map(|node| &node.kind) {
            Some(Kind::List(items)) => !items.is_empty(),
            Some(Kind::Mapping(entries)) => !entries.is_empty(),
            _ => false,
        }
    }

    /// The line, to name it elsewhere.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The value, where it is a text.
    pub fn text(&self) -> Option<&'a str> {
        match self.node.map(|node| &node.kind) {
            Some(Kind::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Notes a mistake here.
    pub fn refuse(&self, message: impl Into<String>) {
        let path = self.path.clone();
        self.document
            .refuse(self.line, self.column, path, message.into());
    }

    /// A mistake here that is told in another way, such as a warning.
    pub fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake {
            file: self.document.file_name.clone(),
            line: self.line,
            column: self.column,
            path: self.path.clone(),
            message: message.into(),
        }
    }
}

impl Node {
    fn get(&self, name: &str) -> Option<&Node> {
        let Kind::Mapping(entries) = &self.kind else {
            return None;
        };
        let is_it = |(key, _): &&(Node, Node)| matches!(&key.kind, Kind::Text(it) if it == name);
        entries.iter().find(is_it).map(|(_, value)| value)
    }

    fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }
}

fn presentable(key: &str) -> &str {
    if is_presentable(key) { key } else { "?" }
}

/// The way from the root to a node; made a text only for a mistake.
enum Trail<'a> {
    Root,
    Key(&'a Trail<'a>, &'a str),
    Item(&'a Trail<'a>, usize),
}

impl Display for Trail<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(parent, key) => {
                let key = presentable(key);
                let dot = if let Self::Root = parent { "" } else { "." };
                write!(formatter, "{parent}{dot}{key}")
            }
            Self::Item(parent, index) => write!(formatter, "{parent}[{index}]"),
        }
    }
}

/// Why a value cannot be read.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It is noted as a mistake, and its node refused.
    #[error("a mistake was noted")]
    Noted,
    /// The value is of another shape than this.
    #[error("must be {0}")]
    Shape(String),
    /// The value itself is wrong.
    #[error("{0}")]
    Value(String),
    /// The mapping lacks this key, and perhaps others.
    #[error("missing")]
    Missing(&'static str),
}

impl de::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        Self::Value(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Shape(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value(format!("must be {expected}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::Value(one_of(variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// The reader at one node.
#[derive(Clone, Copy)]
struct At<'a> {
    reader: &'a Reader<'a>,
    document: &'a Document,
    node: &'a Node,
    trail: &'a Trail<'a>,
    part: Part<'a>,
}

/// Which keys of a mapping a struct is made of.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// All of them.
    Whole,
    /// Those that it knows, which it leaves here for the rest.
    Common(&'a Cell<&'static [&'static str]>),
    /// All but those.
    Rest(&'static [&'static str]),
}

impl<'a> At<'a> {
    /// Notes what is wrong with the value here; it counts as not written then.
    fn note<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        let message = match result {
            Ok(value) => return Ok(value),
            Err(Failure::Noted) => return Err(Failure::Noted),
            Err(Failure::Shape(expected)) => mismatch(&expected, &self.node.kind),
            Err(Failure::Value(message)) => message,
            Err(Failure::Missing(key)) => format!("{key} is missing"),
        };
        self.node.refused.set(true);
        let path = self.trail.to_string();
        self.document
            .refuse(self.node.line, self.node.column, path, message);
        Err(Failure::Noted)
    }

    fn shape<T>(self, expected: &str) -> Result<T, Failure> {
        self.note(Err(Failure::Shape(expected.to_owned())))
    }

    /// Notes each required key of the struct `name` that is not written here; of one
    /// that is written and was refused the mistake is known.
    fn note_missing(self, name: &str, first: &str) -> Failure {
        self.node.refused.set(true);
        let schema: Value = serde_json::from_str(self.reader.schema).unwrap_or_default();
        let here = if schema["title"] == name {
            &schema
        } else {
            &schema["$defs"][name]
        };
        let mut required = required(here);
        if required.is_empty() {
            required.push(first.to_owned());
        }
        let is_written = |key: &str| self.node.get(key).is_some_and(|it| !it.is_null());
        for key in required {
            let file = format!("{key}_file");
            if is_written(&key) || is_written(&file) {
                continue;
            }
            let property = &here["properties"][&key];
            let help = if property["x-type"] == "secret" {
                format!("; write {key} or {file}")
            } else if let Value::Array(choices) = &property["enum"] {
                let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
                format!("; use one of {}", choices.join(", "))
            } else if let Value::String(example) = &property["examples"][0] {
                format!("; write one such as {example}")
            } else {
                String::new()
            };
            self.note_absent(&key, format!("is missing{help}"));
        }
        Failure::Noted
    }

    fn note_absent(self, key: &str, message: String) {
        let path = Trail::Key(self.trail, key).to_string();
        self.document
            .refuse(self.node.line, self.node.column, path, message);
    }

    /// The entries to read, after refusing keys that are no texts, that are written
    /// twice, or that a struct does not know.
    fn entries(self, known: Option<&'static [&'static str]>) -> Result<Vec<Entry<'a>>, Failure> {
        let Kind::Mapping(mapping) = &self.node.kind else {
            return self.shape("a mapping");
        };
        let mut lines: HashMap<&str, u64> = HashMap::with_capacity(mapping.len());
        let mut entries = Vec::with_capacity(mapping.len());
        for (key, value) in mapping {
            if key.refused.get() {
                continue;
            }
            let refuse = |name: Option<&str>, message: String| {
                key.refused.set(true);
                let path = match name {
                    Some(name) => Trail::Key(self.trail, name).to_string(),
                    None => self.trail.to_string(),
                };
                self.document.refuse(key.line, key.column, path, message);
            };
            let Kind::Text(name) = &key.kind else {
                let kind = key.kind.name();
                refuse(
                    None,
                    format!("a key must be a text, not {kind}; put it in quotes"),
                );
                continue;
            };
            if let Some(first) = lines.insert(name, key.line) {
                refuse(
                    Some(name),
                    format!("duplicate key; the first one is at line {first}"),
                );
                continue;
            }
            if let Some(known) = known {
                match self.part {
                    Part::Rest(common) if common.contains(&name.as_str()) => continue,
                    Part::Common(_) if !known.contains(&name.as_str()) => continue,
                    _ => {}
                }
                if !known.contains(&name.as_str()) {
                    refuse(Some(name), self.unknown(name, known));
                    continue;
                }
                if value.is_null() {
                    continue;
                }
                let twin = name.strip_suffix("_file").filter(|it| known.contains(it));
                if let Some(twin) =
                    twin.filter(|it| self.node.get(it).is_some_and(|it| !it.is_null()))
                {
                    refuse(
                        Some(name),
                        format!("{twin} is written as well; remove one of the two"),
                    );
                    continue;
                }
            }
            if !value.refused.get() {
                entries.push((name.as_str(), value));
            }
        }
        Ok(entries)
    }

    fn unknown(self, name: &str, known: &[&str]) -> String {
        let common: &[&str] = match self.part {
            Part::Rest(common) => common,
            _ => &[],
        };
        let known: Vec<&str> = common.iter().chain(known).copied().collect();
        let meant = did_you_mean(name, known.iter().copied());
        let allowed = known.join(", ");
        format!(
            "unknown key{}{meant}; allowed here: {allowed}",
            quoted(name)
        )
    }

    fn visit_mapping<'de, V: Visitor<'de>>(
        self,
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let entries = self.entries(known)?;
        visitor.visit_map(Entries {
            at: self,
            rest: entries.into_iter(),
            next: None,
        })
    }
}

/// A key and its value.
type Entry<'a> = (&'a str, &'a Node);

fn required(schema: &Value) -> Vec<String> {
    let names = schema["required"].as_array().into_iter().flatten();
    let mut required: Vec<String> = names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    // Secrets, of which `complete_schema` has made a choice.
    for one in schema["allOf"].as_array().into_iter().flatten() {
        let key = one["oneOf"][0]["required"][0].as_str();
        required.extend(key.map(str::to_owned));
    }
    required
}

fn mismatch(expected: &str, found: &Kind) -> String {
    let hint = match found {
        Kind::Boolean(_) | Kind::Integer(_) | Kind::Float(_) if expected.starts_with("a text") => {
            "; put it in quotes"
        }
        _ if expected == "a list" => "; start each item with `- `",
        Kind::Text(_) if expected == "a number" => "; write it without quotes and units",
        _ => "",
    };
    format!("must be {expected}, not {}{hint}", found.name())
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let result = match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Boolean(value) => visitor.visit_bool(*value),
            Kind::Integer(value) => visitor.visit_i128(*value),
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Text(text) => visitor.visit_str(text),
            Kind::List(_) => return self.deserialize_seq(visitor),
            Kind::Mapping(_) => self.visit_mapping(None, visitor),
        };
        self.note(result)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.kind {
            Kind::Boolean(value) => self.note(visitor.visit_bool(value)),
            _ => self.shape("true or false without quotes"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let result = match &self.node.kind {
            Kind::Text(text) => visitor.visit_str(text),
            _ => Err(Failure::Shape(Expecting(visitor, PhantomData).to_string())),
        };
        self.note(result)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Text(text) => self.note(visitor.visit_str(text)),
            _ => self.shape("a text"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match (name, &self.node.kind, self.trail) {
            (SECRET, _, Trail::Key(_, key)) if key.ends_with("_file") => {
                visitor.visit_newtype_struct(self)
            }
            (SECRET, ..) => self.deserialize_str(visitor),
            (FILE_PATH, Kind::Text(path), _) if path.is_empty() || path.starts_with("~/") => {
                self.note(visitor.visit_str(path))
            }
            (FILE_PATH, Kind::Text(path), _) => {
                let path = self.reader.folder.join(path).into_os_string();
                self.note(visitor.visit_byte_buf(path.into_vec()))
            }
            (FILE_PATH, ..) => self.shape("a text"),
            (SHORT_OR_LONG, Kind::Text(text), _) => self.note(visitor.visit_str(text)),
            (SHORT_OR_LONG, Kind::Mapping(_), _) => visitor.visit_newtype_struct(self),
            (SHORT_OR_LONG, ..) => self.note(visitor.visit_unit()),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if name != WITH_COMMON {
            return self.deserialize_seq(visitor);
        }
        let Kind::Mapping(_) = self.node.kind else {
            let expected = Expecting(visitor, PhantomData).to_string();
            return self.shape(&expected);
        };
        let known = Cell::new(&[][..]);
        visitor.visit_seq(CommonAndRest {
            at: self,
            known: &known,
            is_rest: false,
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::List(items) => {
                let items = items.iter().enumerate();
                self.note(visitor.visit_seq(Items { at: self, items }))
            }
            _ => self.shape("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let result = self.visit_mapping(None, visitor);
        self.note(result)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if let Part::Common(known) = self.part {
            known.set(fields);
        }
        match self.visit_mapping(Some(fields), visitor) {
            Err(Failure::Missing(first)) => Err(self.note_missing(name, first)),
            result => self.note(result),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match &self.node.kind {
            Kind::Text(text) => {
                let variant: StrDeserializer<'_, Failure> = text.as_str().into_deserializer();
                self.note(visitor.visit_enum(variant))
            }
            _ => self.shape("a text"),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple identifier ignored_any
    }
}

/// What a visitor expects, as text.
struct Expecting<'de, V: Visitor<'de>>(V, PhantomData<&'de ()>);

impl<'de, V: Visitor<'de>> Display for Expecting<'de, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }
}

struct Entries<'a> {
    at: At<'a>,
    rest: std::vec::IntoIter<Entry<'a>>,
    next: Option<Entry<'a>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        self.next = self.rest.next();
        let Some((name, _)) = self.next else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Failure> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let (name, node) = self.next.take().ok_or(Failure::Noted)?;
        seed.deserialize(At {
            node,
            trail: &Trail::Key(self.at.trail, name),
            part: Part::Whole,
            ..self.at
        })
    }
}

struct Items<'a> {
    at: At<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        let Some((index, node)) = self.items.find(|(_, node)| !node.refused.get()) else {
            return Ok(None);
        };
        seed.deserialize(At {
            node,
            trail: &Trail::Item(self.at.trail, index),
            part: Part::Whole,
            ..self.at
        })
        .map(Some)
    }
}

/// One mapping read as two values: a struct, and what its other keys are.
struct CommonAndRest<'a> {
    at: At<'a>,
    known: &'a Cell<&'static [&'static str]>,
    is_rest: bool,
}

impl<'de> SeqAccess<'de> for CommonAndRest<'_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        let part = if self.is_rest {
            Part::Rest(self.known.get())
        } else {
            Part::Common(self.known)
        };
        self.is_rest = true;
        seed.deserialize(At { part, ..self.at }).map(Some)
    }
}

/// Reads a mapping as a struct, and its other keys as what that struct says they
/// are: what `#[serde(flatten)]` and `#[serde(tag)]` do, with the places kept.
///
/// # Errors
///
/// As either value's; `expected` says what a mapping here is.
pub fn with_common<'de, C, S, D>(
    deserializer: D,
    expected: &'static str,
    rest: fn(&C) -> S,
) -> Result<(C, S::Value), D::Error>
where
    C: Deserialize<'de>,
    S: DeserializeSeed<'de>,
    D: Deserializer<'de>,
{
    struct Both<C, S> {
        expected: &'static str,
        rest: fn(&C) -> S,
    }
    impl<'de, C: Deserialize<'de>, S: DeserializeSeed<'de>> Visitor<'de> for Both<C, S> {
        type Value = (C, S::Value);

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.expected)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
            let lacking = || <A::Error as de::Error>::custom("two parts of a mapping");
            let common = parts.next_element()?.ok_or_else(lacking)?;
            let rest = parts.next_element_seed((self.rest)(&common))?;
            Ok((common, rest.ok_or_else(lacking)?))
        }
    }
    deserializer.deserialize_tuple_struct(WITH_COMMON, 2, Both { expected, rest })
}

/// Reads a text by `short`, a mapping as `T`; `expected` names both.
///
/// # Errors
///
/// Those of `short` and of `T`, and any other shape.
pub fn short_or_long<'de, T, D>(
    deserializer: D,
    short: fn(&str) -> Result<T, String>,
    expected: &'static str,
) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Either<T> {
        short: fn(&str) -> Result<T, String>,
        expected: &'static str,
    }
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.expected)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.short)(text).map_err(E::custom)
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, long: D) -> Result<T, D::Error> {
            T::deserialize(long)
        }
    }
    deserializer.deserialize_newtype_struct(SHORT_OR_LONG, Either { short, expected })
}
