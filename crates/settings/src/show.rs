//! Settings on their way out: as YAML for people, and as a JSON Schema.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::value::PATH_PATTERN;

/// What is shown in place of a secret, as Prometheus writes it.
pub const MASK: &str = "<secret>";

/// The key that a [`Secret`](crate::Secret) in a file serializes to: what its
/// struct calls `KEY` is written `KEY_file` then.
pub(crate) const FILE: &str = "\u{0}file";

/// `settings` as YAML with every default filled in and secrets masked.
///
/// # Panics
///
/// Where a value cannot be JSON, such as a map whose keys are not texts.
pub fn show<T: Serialize>(settings: &T) -> String {
    let mut tree = serde_json::to_value(settings).expect("texts, numbers, lists and mappings");
    name_files(&mut tree);
    serde_saphyr::to_string(&tree).expect("JSON is YAML")
}

fn name_files(tree: &mut Value) {
    match tree {
        Value::Array(items) => items.iter_mut().for_each(name_files),
        Value::Object(entries) => {
            let named = std::mem::take(entries).into_iter().map(|(key, mut value)| {
                if let Some(path) = value.get_mut(FILE) {
                    return (format!("{key}_file"), path.take());
                }
                name_files(&mut value);
                (key, value)
            });
            *entries = named.collect();
        }
        _ => {}
    }
}

/// Completes a schema that schemars derived: each secret may be written at
/// `KEY` or in the file that `KEY_file` names, every key may be null, which
/// is the same as leaving it out, what is required has no default, and descriptions
/// have no line breaks of the source.
pub fn complete_schema(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(complete_schema),
        Value::Object(entries) => {
            entries.values_mut().for_each(complete_schema);
            if let Some(Value::String(description)) = entries.get_mut("description") {
                let paragraphs = description.split("\n\n").map(|it| it.replace('\n', " "));
                *description = paragraphs.collect::<Vec<_>>().join("\n\n");
            }
            complete_mapping(entries);
        }
        _ => {}
    }
}

fn complete_mapping(mapping: &mut Map<String, Value>) {
    let mut required = match mapping.get("required") {
        Some(Value::Array(keys)) => keys.clone(),
        _ => Vec::new(),
    };
    let Some(Value::Object(properties)) = mapping.get_mut("properties") else {
        return;
    };
    let mut either = Vec::new();
    for key in add_files(properties) {
        let file = format!("{key}_file");
        let secret = json!(key);
        let (inline, in_file) = (written(&[&key]), written(&[&file]));
        if required.contains(&secret) {
            required.retain(|it| *it != secret);
            either.push(json!({ "oneOf": [inline, in_file] }));
        } else {
            either.push(json!({ "not": written(&[&key, &file]) }));
        }
    }
    for (key, property) in properties {
        if !required.contains(&json!(key)) {
            allow_null(property);
        } else if let Value::Object(property) = property {
            property.remove("default");
        }
    }
    if !either.is_empty() {
        mapping.insert("allOf".to_owned(), either.into());
        mapping.insert("required".to_owned(), required.into());
    }
}

/// The schema of a mapping in which these texts are written.
fn written(keys: &[&str]) -> Value {
    let texts = keys
        .iter()
        .map(|key| ((*key).to_owned(), json!({ "type": "string" })));
    json!({ "required": keys, "properties": texts.collect::<Map<_, _>>() })
}

/// A key that is null is one that is left out.
fn allow_null(property: &mut Value) {
    let Value::Object(property) = property else {
        return;
    };
    if let Some(Value::String(one)) = property.get("type") {
        let types = json!([one, "null"]);
        property.insert("type".to_owned(), types);
    }
    if let Some(reference) = property.shift_remove("$ref") {
        let either = json!([{ "$ref": reference }, { "type": "null" }]);
        property.insert("anyOf".to_owned(), either);
    }
    if let Some(Value::Array(choices)) = property.get_mut("enum") {
        choices.push(Value::Null);
    }
}

/// Puts `KEY_file` behind each secret `KEY`; returns the keys of the secrets.
fn add_files(properties: &mut Map<String, Value>) -> Vec<String> {
    let mut secrets = Vec::new();
    for (key, property) in std::mem::take(properties) {
        let is_secret = property.get("x-type").is_some_and(|it| it == "secret");
        properties.insert(key.clone(), property);
        if is_secret {
            let file = json!({
                "type": "string",
                "x-type": "path",
                "pattern": PATH_PATTERN,
                "description": format!("The file that holds `{key}`."),
            });
            properties.insert(format!("{key}_file"), file);
            secrets.push(key);
        }
    }
    secrets
}
