//! Settings on their way out: as YAML for people, and as a JSON Schema.

use serde::Serialize;
use serde_json::{Map, Value, json};

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
                match value.get_mut(FILE) {
                    Some(path) => (format!("{key}_file"), path.take()),
                    None => {
                        name_files(&mut value);
                        (key, value)
                    }
                }
            });
            *entries = named.collect();
        }
        _ => {}
    }
}

/// Completes a schema that schemars derived: each secret may be written at
/// `KEY` or in the file that `KEY_file` names, and every key may be null, which
/// is the same as leaving it out.
pub fn twins(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(twins),
        Value::Object(entries) => {
            entries.values_mut().for_each(twins);
            if let Some(Value::Object(properties)) = entries.get_mut("properties") {
                let secrets = add_files(properties);
                let mut alternatives = Vec::new();
                if let Some(Value::Array(required)) = entries.get_mut("required") {
                    required.retain(|key| {
                        let one = secrets.iter().any(|secret| key == secret);
                        if one {
                            let file = format!("{}_file", key.as_str().unwrap_or_default());
                            alternatives.push(json!({
                                "oneOf": [{ "required": [key] }, { "required": [file] }],
                            }));
                        }
                        !one
                    });
                }
                let required = entries.get("required").cloned().unwrap_or_default();
                if let Some(Value::Object(properties)) = entries.get_mut("properties") {
                    for (key, property) in properties {
                        let is_required = required
                            .as_array()
                            .is_some_and(|it| it.contains(&json!(key)));
                        if !is_required {
                            allow_null(property);
                        }
                    }
                }
                if !alternatives.is_empty() {
                    entries.insert("allOf".to_owned(), Value::Array(alternatives));
                }
            }
        }
        _ => {}
    }
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
        let is_secret = property.get("x-secret").is_some();
        let description = property.get("description").cloned();
        properties.insert(key.clone(), property);
        if is_secret {
            let mut file = json!({ "type": ["string", "null"], "format": "path" });
            if let Some(Value::String(text)) = description {
                file["description"] = format!("The file that holds it: {text}").into();
            }
            properties.insert(format!("{key}_file"), file);
            secrets.push(key);
        }
    }
    secrets
}
