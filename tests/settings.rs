//! What follows from the declarations of the settings: the JSON Schema, the tables of
//! docs/configuration.md and config.example.yaml. With BLESS=1 they are written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use aliyun_acr_exporter::config::{self, Config};
use serde_json::Value;

/// The file `path` of the project holds `expected`.
fn assert_file(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of this test, not of the program"
    )]
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, expected).expect("blessed");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the settings say; run this test with BLESS=1",
        path.display()
    );
}

fn schema() -> Value {
    let mut schema: Value = schemars::schema_for!(Config).to_value();
    settings::complete_schema(&mut schema);
    schema
}

#[test]
fn the_schema_is_what_the_types_say() {
    let text = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    assert_file("src/config/schema.json", &text);
    let _ = config::SCHEMA;
}

#[test]
fn the_documentation_has_a_row_for_each_key() {
    let document = include_str!("../docs/configuration.md");
    let schema = Schema(schema());
    let mut generated = String::new();
    let mut found = BTreeSet::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        generated.extend([line, "\n"]);
        let name = line.strip_prefix("<!-- generated: ");
        if let Some(name) = name.and_then(|name| name.strip_suffix(" -->")) {
            assert!(found.insert(name), "{name} is there twice");
            generated.extend([&schema.table(name), "<!-- end -->\n"]);
            assert!(lines.any(|line| line == "<!-- end -->"), "{name}");
        }
    }
    let tables = schema.tables();
    assert_eq!(found, tables.iter().map(String::as_str).collect());
    assert_file("docs/configuration.md", &generated);
}

#[test]
fn the_example_shows_every_key() {
    assert_file("config.example.yaml", &Schema(schema()).example());
}

/// The schema as the documentation needs it.
struct Schema(Value);

/// A key of a mapping.
struct Key<'a> {
    name: &'a str,
    /// The schema, with what is said about the key.
    property: &'a Value,
    is_required: bool,
    is_secret: bool,
}

impl Key<'_> {
    fn description(&self) -> &str {
        self.property["description"].as_str().expect(self.name)
    }
}

/// The name of the table of the keys that the file itself has.
const ROOT: &str = "the file";
/// The table of the sources of keys; `credentials.NAME: oidc` is that of one of them.
const SOURCES: &str = "credentials.NAME.type";

impl Schema {
    /// What a reference or "or null" leads to.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let definition = self.0.pointer(reference.trim_start_matches('#'));
            return self.resolve(definition.expect(reference));
        }
        match forms(schema).as_slice() {
            [one] => self.resolve(one),
            _ => schema,
        }
    }

    fn keys<'a>(&'a self, mapping: &'a Value) -> Vec<Key<'a>> {
        let mapping = self.resolve(mapping);
        let Some(properties) = mapping["properties"].as_object() else {
            return Vec::new();
        };
        let mut required: Vec<&Value> = list(&mapping["required"]).collect();
        required.extend(list(&mapping["allOf"]).map(|one| &one["oneOf"][0]["required"][0]));
        let is_secret = |name: &str| {
            let property = properties.get(name);
            property.is_some_and(|property| property["x-type"] == "secret")
        };
        let keys = properties.iter().map(|(name, property)| Key {
            name,
            property,
            is_required: required.contains(&&Value::from(name.as_str())),
            is_secret: is_secret(name),
        });
        let is_twin = |key: &Key<'_>| key.name.strip_suffix("_file").is_some_and(is_secret);
        keys.filter(|key| !is_twin(key)).collect()
    }

    /// The mapping that a list holds, perhaps beside a short form.
    fn item<'a>(&'a self, property: &'a Value) -> Option<&'a Value> {
        let items = self.resolve(&self.resolve(property)["items"]);
        let mut alternatives = forms(items);
        alternatives.push(items);
        let mut mappings = alternatives.into_iter().map(|form| self.resolve(form));
        mappings.find(|form| form["properties"].is_object())
    }

    fn sources<'a>(&'a self) -> Vec<(&'a str, &'a Value)> {
        let entry = &self.0["properties"]["credentials"]["additionalProperties"];
        let sources = list(&self.resolve(entry)["oneOf"]).map(|source| self.resolve(source));
        let word = |source: &'a Value| source["properties"]["type"]["const"].as_str();
        sources
            .map(|source| (word(source).expect("a word"), source))
            .collect()
    }

    /// The names of all tables: one for each mapping that is not an item of a list.
    fn tables(&self) -> BTreeSet<String> {
        let mut tables = BTreeSet::from([ROOT, SOURCES, "credentials.NAME"].map(str::to_owned));
        let keyed = self.sources().into_iter();
        let keyed = keyed.filter(|(_, source)| !self.own_keys(source).is_empty());
        tables.extend(keyed.map(|(word, _)| format!("credentials.NAME: {word}")));
        self.collect_tables(&self.0, "", &mut tables);
        tables
    }

    fn collect_tables(&self, mapping: &Value, at: &str, tables: &mut BTreeSet<String>) {
        for key in self.keys(mapping) {
            let path = format!("{at}{}", key.name);
            if !self.keys(key.property).is_empty() {
                self.collect_tables(key.property, &format!("{path}."), tables);
                tables.insert(path);
            } else if let (Some(item), "") = (self.item(key.property), at) {
                self.collect_tables(item, &format!("{path}[]."), tables);
                tables.insert(format!("{path}[]"));
            }
        }
    }

    fn table(&self, name: &str) -> String {
        if name == SOURCES {
            let mut table = "| `type` | Keys come from |\n|---|---|\n".to_owned();
            for (word, source) in self.sources() {
                let description = source["description"].as_str().expect(word);
                writeln!(table, "| [`{word}`](#type-{word}) | {description} |").expect("text");
            }
            return table;
        }
        let (keys, prefix) = match name.split_once(": ") {
            Some((entry, word)) => {
                let sources = self.sources();
                let (_, source) = sources.iter().find(|it| it.0 == word).expect(name);
                (self.own_keys(source), format!("{entry}."))
            }
            None if name == "credentials.NAME" => (self.common_keys(), format!("{name}.")),
            None if name == ROOT => (self.keys(&self.0), String::new()),
            None => {
                let mapping = name.split('.').fold(&self.0, |mapping, key| {
                    let property = &mapping["properties"][key.trim_end_matches("[]")];
                    let item = self.item(property);
                    item.unwrap_or_else(|| self.resolve(property))
                });
                (self.keys(mapping), format!("{name}."))
            }
        };
        let mut table = "| Key | Type | Default | Meaning |\n|---|---|---|---|\n".to_owned();
        self.rows(keys, &prefix, name == ROOT, &mut table);
        table
    }

    /// The keys of every entry under `credentials`.
    fn common_keys(&self) -> Vec<Key<'_>> {
        let sources = self.sources();
        let mut keys = self.keys(sources[0].1);
        keys.retain(|key| COMMON.contains(&key.name));
        keys
    }

    /// The keys of one source alone.
    fn own_keys<'a>(&'a self, source: &'a Value) -> Vec<Key<'a>> {
        let mut keys = self.keys(source);
        keys.retain(|key| !COMMON.contains(&key.name));
        keys
    }

    fn rows(&self, keys: Vec<Key<'_>>, prefix: &str, is_root: bool, table: &mut String) {
        let mut items = Vec::new();
        for key in keys {
            let has_table = is_root || !self.keys(key.property).is_empty();
            let mut name = format!("`{prefix}{}`", key.name);
            if has_table && self.resolve(key.property)["oneOf"].is_null() {
                name = format!("[{name}](#{})", key.name);
            }
            if key.is_secret {
                write!(name, ", `{prefix}{}_file`", key.name).expect("text");
            }
            let required = if key.is_required {
                ", **required**"
            } else {
                ""
            };
            let (kind, bounds) = self.kind(key.property);
            let default = default(&key);
            let meaning = key.description().replace('|', "\\|");
            writeln!(
                table,
                "| {name} | {kind}{bounds}{required} | {default} | {meaning} |"
            )
            .expect("text");
            if let Some(item) = self.item(key.property).filter(|_| !is_root)
                && !items.iter().any(|(_, it)| *it == item)
            {
                items.push((key.name.to_owned(), item));
            }
        }
        for (name, item) in items {
            self.rows(self.keys(item), &format!("{prefix}{name}[]."), false, table);
        }
    }

    /// What a value is, and its bounds.
    fn kind(&self, property: &Value) -> (String, String) {
        let schema = self.resolve(property);
        let alternatives = forms(schema);
        if !alternatives.is_empty() {
            let kinds: Vec<String> = alternatives.iter().map(|form| self.kind(form).0).collect();
            return (kinds.join(" or "), String::new());
        }
        let words = words(schema);
        if !words.is_empty() {
            return (format!("`{}`", words.join("`, `")), String::new());
        }
        let kind = match schema["x-type"].as_str() {
            Some(kind) => kind,
            None => match list(&schema["type"])
                .next()
                .unwrap_or(&schema["type"])
                .as_str()
            {
                Some("object") => "mapping",
                Some("integer") => "whole number",
                Some("boolean") => "`true`, `false`",
                Some("string") => "text",
                Some("array") => {
                    let (kind, bounds) = self.kind(&schema["items"]);
                    let kind = kind.replace(" or ", "s or ");
                    let each = if bounds.is_empty() { "" } else { " each" };
                    return (format!("list of {kind}s"), format!("{bounds}{each}"));
                }
                Some(kind) => kind,
                None if schema["const"].is_string() => "one of the table below",
                None => panic!("{schema}"),
            },
        };
        (kind.to_owned(), bounds(schema))
    }
}

/// The keys of each entry under `credentials`, whatever its type.
const COMMON: [&str; 2] = ["type", "quota_group"];

/// The alternatives of a value, null apart.
fn forms(schema: &Value) -> Vec<&Value> {
    let forms = list(&schema["anyOf"]);
    forms.filter(|form| form["type"] != "null").collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().into_iter().flatten()
}

/// The words of an enumeration.
fn words(schema: &Value) -> Vec<&str> {
    let words = list(&schema["oneOf"]).filter_map(|word| word["const"].as_str());
    words.collect()
}

fn bounds(schema: &Value) -> String {
    let either = |names: [&str; 2]| names.into_iter().find_map(|name| schema.get(name));
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), |it| format!("`{it}`"))
    };
    match (
        either(["minimum", "x-minimum"]).map(text),
        either(["maximum", "x-maximum"]).map(text),
    ) {
        // No duration is longer.
        (Some(min), Some(max)) if max == "`1y`" => format!(", at least {min}"),
        (Some(min), Some(max)) => format!(", {min} to {max}"),
        _ => match &schema["maxLength"] {
            Value::Null => String::new(),
            most => format!(", at most {most} characters"),
        },
    }
}

/// The default as a cell of a table.
fn default(key: &Key<'_>) -> String {
    match key.property.get("default") {
        Some(default) if !default.is_object() => format!("`{}`", yaml(default)),
        _ => String::new(),
    }
}

/// A value on one line of YAML.
fn yaml(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(yaml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", yaml(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The beginning of config.example.yaml.
const INTRODUCTION: &str = "\
# Every key with its default. Only `instances` is required: leave out whatever should stay as
# it is. docs/configuration.md explains each key. Generated from the settings in the code.
#
# Durations: 90s, 1h30m, 30d, 500ms. A number without a unit is refused.
";

/// What is said about the entries of the other types.
const OTHER_SOURCES: &str = "\
# Below is one entry of each other type, with all of its keys. Where a value is null, the key
# may be left out. A secret is written as KEY, or in a file that KEY_file names.
";

/// The width of config.example.yaml.
const WIDTH: usize = 100;

/// Where comments start, and where at the latest: behind a longer line there is none.
const COLUMNS: std::ops::RangeInclusive<usize> = 30..=50;

/// A line of YAML and what it means.
struct Line {
    text: String,
    comment: String,
}

impl Schema {
    fn example(&self) -> String {
        let mut example = INTRODUCTION.to_owned();
        for key in self.keys(&self.0) {
            example.push('\n');
            let mut comment = key.description().to_owned();
            if key.name == "credentials" {
                write(&mut example, "# ", &wrapped(&comment, WIDTH - 2));
                example += OTHER_SOURCES;
                example += "credentials:\n";
                self.example_of_credentials(&mut example);
                continue;
            }
            let mut lines = Vec::new();
            if self.keys(key.property).is_empty() && self.item(key.property).is_none() {
                comment = comment_of(&key, self.resolve(key.property));
                lines.push(format!("{}: {}", key.name, value_of(&key)));
            } else {
                lines.push(format!("{}:", key.name));
            }
            write(&mut example, "# ", &wrapped(&comment, WIDTH - 2));
            write(&mut example, "", &lines);
            if let Some(item) = self.item(key.property) {
                let mut lines = Vec::new();
                self.lines(self.keys(item), "    ", &mut lines);
                lines[0].text.replace_range(2..3, "-");
                aligned(&mut example, "", &lines);
            } else {
                let mut lines = Vec::new();
                self.lines(self.keys(key.property), "  ", &mut lines);
                aligned(&mut example, "", &lines);
            }
        }
        example
    }

    fn example_of_credentials(&self, example: &mut String) {
        let mut known = BTreeSet::new();
        for (word, source) in self.sources() {
            let is_default = word == "default";
            let (prefix, name) = if is_default {
                ("  ", word)
            } else {
                ("  # ", entry_name(word))
            };
            let mut lines = vec![Line {
                text: format!("  type: {word}"),
                comment: source["description"].as_str().expect(word).to_owned(),
            }];
            let mut keys = self.own_keys(source);
            if is_default {
                keys.extend(
                    self.common_keys()
                        .into_iter()
                        .filter(|key| key.name != "type"),
                );
            }
            self.lines(keys, "  ", &mut lines);
            // What many sources share is explained once.
            for line in &mut lines {
                let (key, _) = line.text.split_once(':').expect("a key");
                if !known.insert((key.to_owned(), line.comment.clone())) {
                    line.comment.clear();
                }
            }
            write(example, prefix, &[format!("{name}:")]);
            aligned(example, prefix, &lines);
        }
    }

    fn lines(&self, keys: Vec<Key<'_>>, indent: &str, lines: &mut Vec<Line>) {
        for key in keys {
            let schema = self.resolve(key.property);
            let below = self.keys(key.property);
            let alternatives = forms(self.resolve(&schema["items"]));
            if !below.is_empty() || !alternatives.is_empty() {
                lines.push(Line {
                    text: format!("{indent}{}:", key.name),
                    comment: key.description().to_owned(),
                });
                self.lines(below, &format!("{indent}  "), lines);
                for form in alternatives {
                    let start = lines.len();
                    let inner = format!("{indent}    ");
                    self.lines(self.keys(form), &inner, lines);
                    if start == lines.len() {
                        let text = format!("{inner}{}", yaml(&form["examples"][0]));
                        let comment = "The short form.".to_owned();
                        lines.push(Line { text, comment });
                    }
                    let dash = indent.len() + 2;
                    lines[start].text.replace_range(dash..=dash, "-");
                }
                continue;
            }
            let (mut name, mut value) = (key.name.to_owned(), value_of(&key));
            let mut comment = comment_of(&key, schema);
            if key.is_secret && key.is_required {
                name += "_file";
                let word = key.name.rsplit('_').next().unwrap_or_default();
                value = format!("keys.{word}");
                write!(comment, " Or {}.", key.name).expect("text");
            } else if key.is_secret {
                write!(comment, " Or {name}_file.").expect("text");
            }
            let text = format!("{indent}{name}: {value}");
            lines.push(Line { text, comment });
        }
    }
}

/// What the example calls the entry of a source.
fn entry_name(word: &str) -> &str {
    match word {
        "access_key" => "keys",
        "environment" => "ci",
        "profile" => "laptop",
        "credentials_file" => "shared",
        "oidc" => "pod",
        "ecs_ram_role" => "machine",
        "uri" => "sidecar",
        "assume_role" => "other_account",
        other => other,
    }
}

/// The default, or an example of what has to be written.
fn value_of(key: &Key<'_>) -> String {
    let example = list(&key.property["examples"]).last();
    // Without an endpoint it is required.
    let is_needed = key.is_required || key.name == "region";
    match (example, key.property.get("default")) {
        (Some(example), _) if is_needed => yaml(example),
        (_, Some(default)) => yaml(default),
        _ => String::new(),
    }
}

fn comment_of(key: &Key<'_>, schema: &Value) -> String {
    let mut comment = key.description().to_owned();
    let words = words(schema);
    if !words.is_empty() {
        write!(comment, " One of {}.", words.join(", ")).expect("text");
    }
    if key.property["default"] == Value::Array(Vec::new())
        && let Some(example) = key.property["examples"].get(0)
    {
        write!(comment, " Such as {}.", yaml(example)).expect("text");
    }
    comment
}

fn write(text: &mut String, prefix: &str, lines: &[String]) {
    for line in lines {
        text.extend([prefix, line, "\n"]);
    }
}

/// Writes the lines with their comments beside them, above them where they are too long.
fn aligned(text: &mut String, prefix: &str, lines: &[Line]) {
    let width = |line: &Line| prefix.len() + line.text.len() + 1;
    let widths = lines.iter().map(width).filter(|it| COLUMNS.contains(it));
    let column = widths.max().unwrap_or(0).max(*COLUMNS.start());
    for line in lines {
        let indent = line.text.len() - line.text.trim_start().len();
        if line.comment.is_empty() {
            text.extend([prefix, &line.text, "\n"]);
        } else if width(line) > column {
            let start = format!("{prefix}{}# ", &line.text[..indent]);
            write(text, &start, &wrapped(&line.comment, WIDTH - start.len()));
            text.extend([prefix, &line.text, "\n"]);
        } else {
            let mut head = line.text.as_str();
            for comment in wrapped(&line.comment, WIDTH - column - 2) {
                let rest = column - prefix.len();
                writeln!(text, "{prefix}{head:rest$}# {comment}").expect("text");
                head = "";
            }
        }
    }
}

/// The words of `text` on lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.extend([" ", word]);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
