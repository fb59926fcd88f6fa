//! Holds the JSON Schema of the configuration to the loader: the same keys, the
//! same values, the same defaults, and a list of what only the loader can see.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use aliyun_acr_exporter::config::{self, SCHEMA};
use regex::Regex;
use serde_json::{Map, Value, json};

const EXAMPLE: &str = include_str!("../config.example.yaml");

/// The keys of `causes`.
const CAUSES: [&str; 6] = [
    "rate_limited",
    "quota",
    "unauthorized",
    "not_found",
    "network",
    "other",
];

/// The keywords of JSON Schema that ours uses. Any other is a panic: a keyword
/// that this test ignored could say anything.
struct Schema {
    root: Value,
    patterns: RefCell<HashMap<String, Regex>>,
}

impl Schema {
    fn new() -> Self {
        Self {
            root: serde_json::from_str(SCHEMA).expect("valid JSON"),
            patterns: RefCell::default(),
        }
    }

    fn is_valid(&self, document: &Value) -> bool {
        self.accepts(&self.root, document)
    }

    fn referred(&self, reference: &Value) -> &Value {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        self.root
            .pointer(pointer.expect("a local reference"))
            .expect("a definition")
    }

    fn accepts(&self, schema: &Value, value: &Value) -> bool {
        let Some(keywords) = schema.as_object() else {
            return schema.as_bool().expect("a schema");
        };
        keywords
            .iter()
            .all(|(keyword, operand)| self.keyword(keywords, keyword, operand, value))
    }

    fn keyword(
        &self,
        siblings: &Map<String, Value>,
        keyword: &str,
        operand: &Value,
        value: &Value,
    ) -> bool {
        let object = value.as_object();
        let properties = || siblings.get("properties").and_then(Value::as_object);
        match keyword {
            "$schema"
            | "$comment"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "examples"
            | "patternErrorMessage"
            | "errorMessage"
            | "then"
            | "else" => true,
            "$ref" => self.accepts(self.referred(operand), value),
            "type" => list_or_one(operand).iter().any(|name| is_type(name, value)),
            "enum" => list(operand).contains(value),
            "const" => operand == value,
            "minimum" => value.as_f64().is_none_or(|it| it >= number(operand)),
            "maximum" => value.as_f64().is_none_or(|it| it <= number(operand)),
            "pattern" => value
                .as_str()
                .is_none_or(|text| self.matches(operand, text)),
            "minLength" => length(value).is_none_or(|it| it >= count(operand)),
            "maxLength" => length(value).is_none_or(|it| it <= count(operand)),
            "minItems" => value.as_array().is_none_or(|it| it.len() >= count(operand)),
            "uniqueItems" => value.as_array().is_none_or(|items| are_unique(items)),
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| self.accepts(operand, item))),
            "required" => object.is_none_or(|object| {
                list(operand)
                    .iter()
                    .all(|key| object.contains_key(key.as_str().expect("a key")))
            }),
            "properties" => object.is_none_or(|object| {
                let properties = properties().expect("properties");
                object.iter().all(|(key, value)| {
                    properties.get(key).is_none_or(|it| self.accepts(it, value))
                })
            }),
            "additionalProperties" => object.is_none_or(|object| {
                object.iter().all(|(key, value)| {
                    properties().is_some_and(|it| it.contains_key(key))
                        || self.accepts(operand, value)
                })
            }),
            "propertyNames" => object
                .is_none_or(|object| object.keys().all(|key| self.accepts(operand, &json!(key)))),
            "allOf" => list(operand).iter().all(|it| self.accepts(it, value)),
            "oneOf" => {
                list(operand)
                    .iter()
                    .filter(|it| self.accepts(it, value))
                    .count()
                    == 1
            }
            "not" => !self.accepts(operand, value),
            "if" => {
                let branch = if self.accepts(operand, value) {
                    "then"
                } else {
                    "else"
                };
                siblings
                    .get(branch)
                    .is_none_or(|it| self.accepts(it, value))
            }
            other => panic!("this test does not know the keyword {other}"),
        }
    }

    fn matches(&self, pattern: &Value, text: &str) -> bool {
        let pattern = pattern.as_str().expect("a pattern");
        self.patterns
            .borrow_mut()
            .entry(pattern.to_owned())
            .or_insert_with(|| Regex::new(pattern).expect(pattern))
            .is_match(text)
    }

    /// Every property with its place in a document, where `prod` stands for the
    /// name of credentials and the first item for all of a list.
    fn places(&self) -> BTreeMap<String, &Value> {
        let mut places = BTreeMap::new();
        self.collect(&self.root, "", &mut places);
        places
    }

    fn collect<'a>(
        &'a self,
        schema: &'a Value,
        at: &str,
        places: &mut BTreeMap<String, &'a Value>,
    ) {
        if let Some(reference) = schema.get("$ref") {
            self.collect(self.referred(reference), at, places);
        }
        for form in schema["oneOf"].as_array().into_iter().flatten() {
            self.collect(form, at, places);
        }
        if let Some(items) = schema.get("items") {
            places.insert(format!("{at}/0"), items);
            self.collect(items, &format!("{at}/0"), places);
        }
        let named = &schema["additionalProperties"];
        if named.is_object() {
            places.insert(format!("{at}/prod"), named);
            self.collect(named, &format!("{at}/prod"), places);
        }
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            places.insert(format!("{at}/{key}"), property);
            self.collect(property, &format!("{at}/{key}"), places);
        }
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn list_or_one(value: &Value) -> &[Value] {
    value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a count")).expect("a small count")
}

fn length(value: &Value) -> Option<usize> {
    value.as_str().map(|text| text.chars().count())
}

fn are_unique(items: &[Value]) -> bool {
    (1..items.len()).all(|index| !items[..index].contains(&items[index]))
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a type") {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("this test does not know the type {other}"),
    }
}

fn is_loaded(document: &Value) -> bool {
    config::parse(&document.to_string(), "config.yaml").is_ok()
}

fn refusal(text: &str) -> String {
    config::parse(text, "config.yaml")
        .expect_err(text)
        .to_string()
}

fn testdata(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata/config")
        .join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("testdata")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|it| it == "yaml"))
        .collect();
    files.sort();
    files
}

/// What the file holds, or `None` where that is not one YAML document.
fn document(path: &Path) -> Option<Value> {
    let text = fs::read_to_string(path).ok()?;
    // `NO` is a word, as in YAML 1.2.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(&text, options).ok()
}

/// The keys that a mapping takes, as the refusal of another one lists them.
fn keys_of(mapping: &str) -> BTreeSet<String> {
    let message = refusal(&mapping.replace("HERE", "{unknownkey: 1}"));
    let (_, keys) = message.split_once("allowed here: ").expect(&message);
    keys.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_mapping_of_the_schema_is_closed() {
    let schema = Schema::new();
    assert_eq!(
        schema.root["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let mut mappings = vec![&schema.root];
    mappings.extend(schema.places().into_values());
    mappings.extend(schema.root["$defs"].as_object().expect("$defs").values());
    mappings.retain(|mapping| mapping.get("properties").is_some());
    assert!(mappings.len() >= 8, "{}", mappings.len());
    for mapping in mappings {
        assert_eq!(mapping["additionalProperties"], false, "{mapping}");
    }
}

#[test]
fn the_schema_has_the_keys_of_the_loader() {
    let schema = Schema::new();
    let places = schema.places();
    let mappings = [
        ("", "HERE"),
        ("/poll", "poll: HERE"),
        ("/api", "api: HERE"),
        ("/status", "status: HERE"),
        ("/causes", "causes: HERE"),
        ("/limits", "limits: HERE"),
        ("/state", "state: HERE"),
        ("/credentials/prod", "credentials: {prod: HERE}"),
        ("/instances/0", "instances: [HERE]"),
        ("/instances/0/tasks/0", "instances: [{tasks: [HERE]}]"),
        ("/instances/0/follow", "instances: [{follow: HERE}]"),
        (
            "/instances/0/follow/include/0",
            "instances: [{follow: {include: [HERE]}}]",
        ),
        (
            "/instances/0/follow/exclude/0",
            "instances: [{follow: {exclude: [HERE]}}]",
        ),
    ];
    let parents: BTreeSet<&str> = places
        .keys()
        .filter(|place| !place.ends_with("/0") && !place.ends_with("/prod"))
        .filter_map(|place| place.rsplit_once('/').map(|(parent, _)| parent))
        .collect();
    assert_eq!(
        parents,
        mappings.iter().map(|(parent, _)| *parent).collect()
    );

    for (parent, mapping) in mappings {
        let described: BTreeSet<String> = places
            .keys()
            .filter_map(|place| place.strip_prefix(parent)?.strip_prefix('/'))
            .filter(|key| !key.contains('/'))
            .map(str::to_owned)
            .collect();
        let known = keys_of(mapping);
        assert_eq!(described, known, "{parent}");
    }
}

/// Documents that show every property between them; the second and the others
/// differ from the first in parts of `instances` and `credentials` alone.
fn documents() -> Vec<Value> {
    let status = json!({"running": ["R"], "finished": ["N"], "succeeded": ["S"], "failed": ["F"]});
    let causes: Value = CAUSES
        .iter()
        .map(|cause| ((*cause).to_owned(), json!(["a"])))
        .collect();
    let instance = json!({
        "id": "cri-a", "region": "cn-hangzhou", "endpoint": "https://cr.example.com",
        "credentials": "prod", "tasks": [{"id": "crast-a"}],
        "follow": {"include": [{"repo_name": "a"}], "exclude": [{"repo_namespace": "b"}]},
    });
    let with_endpoint = json!({
        "poll": {}, "api": {}, "limits": {}, "state": {}, "status": status, "causes": causes,
        "credentials": {"prod": {"type": "environment"}}, "instances": [instance],
    });
    let mut with_keys = with_endpoint.clone();
    with_keys["instances"][0]["endpoint"] = Value::Null;
    with_keys["instances"][0]["follow"] = Value::Null;
    let (role, provider) = ("acs:ram::1:role/r", "acs:ram::1:oidc-provider/p");
    let entries = [
        json!({
            "type": "access_key", "access_key_id": "a", "access_key_secret_file": "b",
            "security_token": "c",
        }),
        json!({"type": "default"}),
        json!({"type": "profile", "profile": "p", "sts_endpoint": "sts.example.com"}),
        json!({"type": "credentials_file", "file": "f", "sts_endpoint": null}),
        json!({
            "type": "oidc", "role_arn": role, "oidc_provider_arn": provider,
            "oidc_token_file": "f", "sts_region": "cn-beijing",
        }),
        json!({"type": "ecs_ram_role", "role_name": "r"}),
        json!({"type": "uri", "uri": "https://example.com"}),
        json!({"type": "assume_role", "role_arn": role, "source": "default", "external_id": "e"}),
    ];
    let with_entry = |entry| {
        let mut document = with_keys.clone();
        document["credentials"]["prod"] = entry;
        document
    };
    let mut documents = vec![with_endpoint];
    documents.extend(entries.map(with_entry));
    documents
}

/// Texts at and beyond every bound of durations, endpoints, ids and words.
const TEXTS: &str = "
    s 60 0 0s 0ms 1ms 999ms 0999ms 1000ms 0s999ms 1s 007s 1m 1h30m 1m1h 1s1s 1.5h 1h30 -5s 1S 1min
    1d1ms 1w2d3h4m5s6ms 1y 366d 2y
    localhost cr.example.com:8443 HTTPS://CR.example.com/ https://[2001:db8::1]:8443
    http://localhost:18080 HTTP://LocalHost http://127.8.9.1:80/ http://[::1]:18080
    http://[0:0:0:0:0:0:0:1] http://cr.example.com http://10.0.0.1 http://[::2]
    http://localhost.example.com https:// ftp://localhost https://u:p@localhost
    cr.example.com:0 cr.example.com: cr.example.com:000443 cr.example.com:65536
    cr.example.com/api cr.example.com?a=b cr..example.com a_b.example.com -cr.example.com 10.0.0 ::1
    prod cri-a cri- CRI-a crast-a crast-b_C-9 crast- crast-é cn-hangzhou mars-north-1 Hangzhou 日本 r
    assume_role default access_key environment
    acs:ram::1:role/r acs:ram::a.b:role/p/q acs:ram:::role/r acs:ram::1:role/ acs:ram::1:user/r
    acs:ram::1:oidc-provider/p acs:ram::1:oidc-provider/ arn:aws:iam::1:role/r acs:ram::1:x:role/r
    x@y.z_- x/y ~ ~/f ~f .. {} [] 15m 12h
    http://100.100.100.200 http://100.100.100.200:80/ http://100.100.100.201 https://100.100.100.200
    100.100.100.200 https://h/p?q=%20&r=@: https://u:p@h/ http://u:p@[::1]:1/ http://h@localhost?q
    http://localhost/#f https://h\\@x https://@/ https://例え.jp/ https://a..b/ http://localhost@h/
    eu-central-1 cn-zhengzhou-jva cn-hangzhou-finance";

fn values(schema: &Schema) -> Vec<Value> {
    let mut values: Vec<Value> = TEXTS.split_whitespace().map(Value::from).collect();
    values.extend(
        [
            "", " ", "a b", " a", "a ", "a\nb", "\na\n", " 1s", "1s ", "cri-a b",
        ]
        .map(Value::from),
    );
    values.extend(["*", "(", "a)(b", "a|b.*", "(?x)a#"].map(Value::from));
    for length in [64, 65, 128, 129, 256, 257, 1024, 1025] {
        let padded = |prefix: &str| json!(format!("{prefix}{}", "a".repeat(length - prefix.len())));
        values.extend(["", "cri-", "crast-"].map(padded));
    }
    for property in schema.places().values() {
        let words = property["enum"].as_array().into_iter().flatten();
        values.extend(words.filter(|word| word.is_string()).cloned());
        for bound in ["minimum", "maximum"].map(|bound| &property[bound]) {
            if let Some(bound) = bound.as_i64() {
                values.extend([bound - 1, bound, bound + 1].map(Value::from));
            }
        }
    }
    values.extend([0.0009, 0.001, 1.5, 1000.1].map(Value::from));
    let others = json!([
        null, true, false, u64::MAX, [], [null], ["A", "A"], {"x": 1}, [{"id": "crast-a"}], ["crast-a", "crast-b"]
    ]);
    values.extend(list(&others).iter().cloned());
    let mut seen = BTreeSet::new();
    values.retain(|value| seen.insert(value.to_string()));
    values
}

/// Puts `value` there; `None` takes away what stands there.
fn put(document: &mut Value, place: &str, value: Option<&Value>) {
    let (parent, key) = place.rsplit_once('/').expect("a place");
    match (document.pointer_mut(parent).expect(place), value) {
        (Value::Object(entries), Some(value)) => {
            entries.insert(key.to_owned(), value.clone());
        }
        (Value::Object(entries), None) => {
            entries.remove(key);
        }
        (Value::Array(items), Some(value)) => items[0] = value.clone(),
        (Value::Array(items), None) => items.clear(),
        (other, _) => panic!("{place}: {other}"),
    }
}

/// Whether the key there belongs to another type of credentials, whatever it holds.
fn is_foreign(base: &Value, place: &str) -> bool {
    [json!("x"), json!(true)].iter().any(|value| {
        let mut document = base.clone();
        put(&mut document, place, Some(value));
        config::parse(&document.to_string(), "config.yaml")
            .is_err_and(|error| error.to_string().contains("does not belong to type"))
    })
}

/// An editor never marks what the loader takes, and lets pass what the loader
/// refuses only where this list says so.
#[test]
fn the_schema_and_the_loader_agree_on_every_value() {
    let schema = Schema::new();
    let values = values(&schema);
    let mut only_the_loader: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let (mut taken, mut refused) = (0, 0);
    let few = [json!(null), json!("x"), json!(""), json!(true), json!(5)];
    let mut seen = BTreeSet::new();
    let places = schema.places();
    // What each document adds to those before it.
    let adds = |place: &str, index: usize| {
        let of_instance = place.starts_with("/inst") && !place.contains("/follow/");
        index == 0 || place.starts_with("/cred") || index == 1 && of_instance
    };
    for (index, base) in documents().into_iter().enumerate() {
        assert!(schema.is_valid(&base) && is_loaded(&base), "{base}");
        for place in places.keys().filter(|place| adds(place, index)) {
            // A key of several types holds the same in all of them.
            let again = place.starts_with("/credentials/prod/")
                && !place.ends_with("/type")
                && (is_foreign(&base, place) || !seen.insert(place));
            let values = if again { &few[..] } else { &values };
            for value in values.iter().map(Some).chain([None]) {
                let mut document = base.clone();
                put(&mut document, place, value);
                match (schema.is_valid(&document), is_loaded(&document)) {
                    (true, true) => taken += 1,
                    (false, false) => refused += 1,
                    (false, true) => panic!("the schema refuses {place}: {value:?}"),
                    (true, false) => {
                        let text = value.and_then(Value::as_str).unwrap_or_default();
                        only_the_loader.entry(place).or_default().insert(text);
                    }
                }
            }
        }
    }
    assert!(taken > 1_000 && refused > 5_000, "{taken} {refused}");

    // Searched, not anchored: the loader puts nothing around them.
    let no_expressions = BTreeSet::from(["(", "*", "[]", "a)(b", "{}"]);
    for cause in CAUSES {
        let place = format!("/causes/{cause}/0");
        let found = only_the_loader.remove(place.as_str());
        assert_eq!(found.as_ref(), Some(&no_expressions), "{place}");
    }
    let no_expressions = BTreeSet::from(["(", "(?x)a#", "*", "[]", "a)(b", "{}"]);
    for list in ["include", "exclude"] {
        for key in ["repo_namespace", "repo_name"] {
            let place = format!("/instances/0/follow/{list}/0/{key}");
            let found = only_the_loader.remove(place.as_str());
            assert_eq!(found.as_ref(), Some(&no_expressions), "{place}");
        }
    }
    // Whether each name that is used is defined, no schema knows, nor how long a
    // duration is in all.
    for place in [
        "/credentials",
        "/credentials/prod",
        "/credentials/prod/duration",
        "/credentials/prod/source",
        "/instances/0/credentials",
    ] {
        assert!(only_the_loader.remove(place).is_some(), "{place}");
    }
    let expected = [
        // A port and an IPv4 address have numbers that are too large or too few.
        (
            "/instances/0/endpoint",
            &["0", "10.0.0", "60", "cr.example.com:65536"][..],
        ),
        (
            "/credentials/prod/sts_endpoint",
            &["0", "10.0.0", "60", "cr.example.com:65536"],
        ),
        // A year is the longest duration.
        ("/instances/0/follow/interval", &["2y", "366d"]),
        ("/instances/0/follow/max_age", &["2y", "366d"]),
        ("/instances/0/tasks/0/interval", &["2y", "366d"]),
        ("/poll/deadline", &["2y", "366d"]),
        // At least the interval.
        (
            "/poll/finished_interval",
            &["007s", "1000ms", "1s", "2y", "366d"],
        ),
        ("/poll/interval", &["2y", "366d"]),
        ("/poll/stale_after", &["2y", "366d"]),
        // At most the deadline.
        (
            "/poll/timeout",
            &[
                "12h",
                "15m",
                "1d1ms",
                "1h30m",
                "1w2d3h4m5s6ms",
                "1y",
                "2y",
                "366d",
            ],
        ),
        // A word stands in one list alone, whatever its case.
        ("/status/failed/0", &["r", "s"]),
        ("/status/finished/0", &["r", "s"]),
        ("/status/running/0", &["s"]),
        ("/status/succeeded/0", &["r"]),
    ];
    let expected = expected.map(|(place, texts)| (place, texts.iter().copied().collect()));
    assert_eq!(only_the_loader, BTreeMap::from(expected));
}

/// Files as people write them, good and broken.
#[test]
fn the_schema_and_the_loader_agree_on_files() {
    let schema = Schema::new();
    let example = serde_saphyr::from_str(EXAMPLE).expect("the example");
    assert!(schema.is_valid(&example));
    for path in testdata("good") {
        let document = document(&path).expect("a document");
        assert!(schema.is_valid(&document), "{}", path.display());
    }
    let mut only_the_loader = Vec::new();
    let mut refused = 0;
    for path in testdata("broken") {
        let Some(document) = document(&path) else {
            continue;
        };
        if schema.is_valid(&document) {
            let name = path.file_stem().expect("a name");
            only_the_loader.push(name.to_string_lossy().into_owned());
        } else {
            refused += 1;
        }
    }
    assert!(refused > 60, "{refused}");
    let expected = [
        "api_vpc_missing",
        "assume_role_circle",
        "assume_role_long_circle",
        "assume_role_source_itself",
        "assume_role_source_unknown",
        "credentials_undefined",
        "endpoint_address",
        "instance_duplicate",
        "poll_finished_shorter",
        "poll_overflow",
        "poll_timeout_over_deadline",
        "poll_too_long",
        "shape_number_key",
        "shape_underscored_number",
        "state_path_itself",
        "status_word_twice",
        "sts_region_missing_in_vpc",
        "sts_region_without_vpc",
        "task_duplicate",
    ];
    assert_eq!(only_the_loader, expected);
}

/// Each set of words is exactly what the loader says it takes.
#[test]
fn enumerations_are_complete() {
    let schema = Schema::new();
    let mut enumerations = 0;
    for (place, property) in schema.places() {
        let Some(words) = property["enum"].as_array() else {
            continue;
        };
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        let mut document = documents().remove(0);
        put(&mut document, &place, Some(&json!("unknownword")));
        let message = refusal(&document.to_string());
        assert!(
            message.ends_with(&format!("must be one of {}", words.join(", "))),
            "{message}"
        );
        enumerations += 1;
    }
    assert_eq!(enumerations, 5);
}

#[test]
fn regions_are_those_of_the_vendor() {
    let table: Value = serde_json::from_str(include_str!(
        "../crates/alibaba-cloud/testdata/endpoints.json"
    ))
    .expect("endpoints.json");
    let regions_of = |product: &str| -> Vec<Value> {
        let regions = table[product].as_object().expect(product).keys();
        regions.map(|region| json!(region)).collect()
    };
    let regions = regions_of("cr");
    let schema = Schema::new();
    assert_eq!(
        schema.root["$defs"]["instance"]["else"]["properties"]["region"]["enum"],
        json!(regions)
    );
    let mut with_sts = regions_of("sts");
    with_sts.push(Value::Null);
    assert_eq!(
        schema.root["$defs"]["stsRegion"]["enum"],
        Value::Array(with_sts)
    );
}

/// The example with all of its entries under `credentials:`.
fn every_type(example: &str) -> String {
    let (before, after) = example.split_once("\ninstances:\n").expect("instances");
    format!("{}\ninstances:\n{after}", before.replace("\n  # ", "\n  "))
}

/// What the example has there, in whichever entry under `credentials:`.
fn shown<'a>(example: &'a Value, place: &str) -> Option<&'a Value> {
    let entries = example["credentials"].as_object().expect("entries");
    let mut names = entries.keys();
    names.find_map(|name| example.pointer(&place.replace("/prod", &format!("/{name}"))))
}

/// Against the example, which another test holds to the code.
#[test]
fn defaults_are_those_of_the_example() {
    let schema = Schema::new();
    let example = serde_saphyr::from_str(&every_type(EXAMPLE)).expect("the example");
    let has_none = [
        "/credentials",
        "/credentials/prod",
        "/credentials/prod/type",
        "/credentials/prod/access_key_id",
        "/credentials/prod/access_key_secret_file",
        "/credentials/prod/oidc_provider_arn",
        "/credentials/prod/oidc_token_file",
        "/credentials/prod/profile",
        "/credentials/prod/role_arn",
        "/credentials/prod/security_token",
        "/credentials/prod/source",
        "/credentials/prod/uri",
        "/instances",
        "/instances/0",
        "/instances/0/id",
        "/instances/0/region",
        "/instances/0/tasks",
        "/instances/0/tasks/0",
    ];
    let mut compared = 0;
    for (place, property) in schema.places() {
        let shown = shown(&example, &place);
        match (property.get("default"), shown) {
            (Some(default), shown) => {
                assert_eq!(Some(default), shown, "{place}");
                compared += 1;
            }
            (None, Some(shown)) => assert!(
                property.get("properties").is_some() || has_none.contains(&place.as_str()),
                "{place} has no default, the example has {shown}"
            ),
            (None, None) => {}
        }
    }
    assert_eq!(compared, 47);
}
