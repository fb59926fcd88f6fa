//! Holds the JSON Schema of the configuration to the loader: the same keys, the
//! same values, the same defaults, and a list of what only the loader can see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use aliyun_acr_exporter::config::{self, SCHEMA};
use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Value, json};

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

struct Schema {
    root: Value,
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn new() -> Self {
        let root: Value = serde_json::from_str(SCHEMA).expect("valid JSON");
        assert_eq!(
            root["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        let name = "schema.json";
        compiler.add_resource(name, root.clone()).expect("a name");
        let index = compiler.compile(name, &mut schemas);
        Self {
            root,
            index: index.expect("a valid schema"),
            schemas,
        }
    }

    fn is_valid(&self, document: &Value) -> bool {
        self.schemas.validate(document, self.index).is_ok()
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
        let reference = schema["$ref"].as_str();
        let referred = reference.and_then(|it| self.root.pointer(it.strip_prefix('#')?));
        assert_eq!(reference.is_some(), referred.is_some(), "{reference:?}");
        let lists = ["oneOf", "anyOf", "allOf"].map(|keyword| schema[keyword].as_array());
        let forms = lists.into_iter().flatten().flatten();
        for form in forms.chain(referred) {
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

impl Schema {
    /// The schema of each type of credentials.
    fn sources(&self) -> BTreeMap<&str, &Value> {
        let sources = self.root["$defs"]["Entry"]["oneOf"].as_array();
        let references = sources.expect("sources").iter();
        let sources = references.filter_map(|it| self.root.pointer(&it["$ref"].as_str()?[1..]));
        sources
            .filter_map(|it| Some((it["properties"]["type"]["const"].as_str()?, it)))
            .collect()
    }
}

/// What the keyword has as its value anywhere in the schema.
fn all_of<'a>(keyword: &str, schema: &'a Value) -> Vec<&'a Value> {
    let children: Vec<&Value> = match schema {
        Value::Object(entries) => entries.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    let below = children.into_iter().flat_map(|it| all_of(keyword, it));
    schema.get(keyword).into_iter().chain(below).collect()
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
    let message = refusal(&mapping.replace("HERE", "unknownkey: 1"));
    let (_, keys) = message.split_once("allowed here: ").expect(&message);
    let keys = keys.lines().next().unwrap_or_default();
    keys.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_schema_has_the_keys_of_the_loader() {
    let schema = Schema::new();
    let places = schema.places();
    let mappings = [
        ("", "HERE"),
        ("/poll", "poll: {HERE}"),
        ("/api", "api: {HERE}"),
        ("/status", "status: {HERE}"),
        ("/causes", "causes: {HERE}"),
        ("/limits", "limits: {HERE}"),
        ("/state", "state: {HERE}"),
        ("/instances/0", "instances: [{HERE}]"),
        ("/instances/0/tasks/0", "instances: [{tasks: [{HERE}]}]"),
        ("/instances/0/follow", "instances: [{follow: {HERE}}]"),
        (
            "/instances/0/follow/include/0",
            "instances: [{follow: {include: [{HERE}]}}]",
        ),
        (
            "/instances/0/follow/exclude/0",
            "instances: [{follow: {exclude: [{HERE}]}}]",
        ),
    ];
    let parents: BTreeSet<&str> = places
        .keys()
        .filter(|place| !place.ends_with("/0") && !place.starts_with("/credentials/"))
        .filter_map(|place| place.rsplit_once('/').map(|(parent, _)| parent))
        .collect();
    assert_eq!(
        parents,
        mappings.iter().map(|(parent, _)| *parent).collect()
    );
    let refuses_others = |mut document: Value, parent: &str| {
        put(
            &mut document,
            &format!("{parent}/unknownkey"),
            Some(&json!(1)),
        );
        assert!(!schema.is_valid(&document), "{parent} takes an unknown key");
    };
    for (parent, mapping) in mappings {
        let described: BTreeSet<String> = places
            .keys()
            .filter_map(|place| place.strip_prefix(parent)?.strip_prefix('/'))
            .filter(|key| !key.contains('/'))
            .map(str::to_owned)
            .collect();
        assert_eq!(described, keys_of(mapping), "{parent}");
        refuses_others(documents().remove(0), parent);
    }
    for document in documents() {
        refuses_others(document, "/credentials/prod");
    }
    for (word, source) in schema.sources() {
        let mapping = format!("credentials: {{prod: {{type: {word}, HERE}}}}");
        // The loader names a secret alone, and not the file that it may be in.
        let is_secret = |key: &str| source["properties"][key]["x-type"] == "secret";
        let keys = source["properties"].as_object().expect(word).keys();
        let keys = keys.filter(|key| !key.strip_suffix("_file").is_some_and(is_secret));
        let mut known = keys_of(&mapping);
        known.retain(|key| !key.strip_suffix("_file").is_some_and(is_secret));
        assert_eq!(keys.cloned().collect::<BTreeSet<_>>(), known, "{word}");
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
    let words = all_of("enum", &schema.root).into_iter();
    let words = words.flat_map(|words| words.as_array().into_iter().flatten());
    let words = words.chain(all_of("const", &schema.root));
    values.extend(words.filter(|word| word.is_string()).cloned());
    for keyword in ["minimum", "maximum"] {
        let bounds = all_of(keyword, &schema.root).into_iter();
        for bound in bounds.filter_map(Value::as_i64) {
            values.extend([bound - 1, bound, bound + 1].map(Value::from));
        }
    }
    values.extend([0.0009, 0.001, 1.5, 1000.1].map(Value::from));
    let others = json!([
        null, true, false, u64::MAX, [], [null], ["A", "A"], {"x": 1}, [{"id": "crast-a"}], ["crast-a", "crast-b"]
    ]);
    values.extend(others.as_array().expect("a list").iter().cloned());
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

/// The document without most of what has nothing to do with the place, since
/// loading all of it takes long.
fn only_with(mut document: Value, place: &str) -> Value {
    let section = place.split('/').nth(1).expect("a section");
    let sections = document.as_object_mut().expect("a mapping");
    sections.retain(|key, _| ["credentials", "instances", section].contains(&key.as_str()));
    let instance = document["instances"][0].as_object_mut().expect("one");
    if section != "instances" {
        instance.retain(|key, _| ["id", "region", "credentials", "tasks"].contains(&key.as_str()));
    } else if !place.contains("/follow/") && !instance["follow"].is_null() {
        instance.insert("follow".to_owned(), json!({}));
    }
    document
}

/// The schema of a property without what is said of it.
fn kind(property: &Value) -> String {
    let mut property = property.clone();
    if let Some(keywords) = property.as_object_mut() {
        for said in [
            "description",
            "default",
            "examples",
            "errorMessage",
            "patternErrorMessage",
        ] {
            keywords.remove(said);
        }
    }
    property.to_string()
}

/// Whether the key there belongs to another type of credentials, whatever it holds.
fn is_foreign(base: &Value, place: &str) -> bool {
    [json!("x"), json!(true)].iter().any(|value| {
        let mut document = base.clone();
        put(&mut document, place, Some(value));
        config::parse(&document.to_string(), "config.yaml")
            .is_err_and(|error| error.to_string().contains("unknown key"))
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
    let mut kinds = BTreeSet::new();
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
            let base = only_with(base.clone(), place);
            let is_valid_with = |value: &Value| {
                let mut document = base.clone();
                put(&mut document, place, Some(value));
                schema.is_valid(&document)
            };
            // What the schema takes is always tried, and what it refuses once for
            // each schema, texts only where it takes some.
            let takes_text = values
                .iter()
                .any(|value| value.is_string() && is_valid_with(value));
            let is_first = kinds.insert((index.min(1), kind(places[place])));
            let tried: Vec<&Value> = if again {
                few.iter().collect()
            } else {
                let is_tried = |value: &&Value| {
                    is_first && (takes_text || !value.is_string()) || is_valid_with(value)
                };
                values.iter().filter(is_tried).chain(&few).collect()
            };
            for value in tried.into_iter().map(Some).chain([None]) {
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

    assert_only_the_loader(only_the_loader);
}

/// What only the loader refuses is this.
fn assert_only_the_loader(mut only_the_loader: BTreeMap<&str, BTreeSet<&str>>) {
    // Which names, regions, servers and URIs there are, no schema knows in full.
    for place in [
        "/credentials/prod/metadata_endpoint",
        "/credentials/prod/source",
        "/credentials/prod/sts_endpoint",
        "/credentials/prod/sts_region",
        "/credentials/prod/uri",
        "/instances/0/credentials",
        "/instances/0/endpoint",
        "/instances/0/region",
    ] {
        assert!(only_the_loader.remove(place).is_some(), "{place}");
    }
    // Nor how long a duration is in all.
    let short = [
        "0999ms", "0ms", "0s", "0s999ms", "1ms", "2y", "366d", "999ms",
    ];
    let other = [
        (
            "/credentials/prod/duration",
            &["007s", "1000ms", "1d1ms", "1m", "1s", "1w2d3h4m5s6ms", "1y"][..],
        ),
        ("/instances/0/follow/interval", &[]),
        ("/instances/0/follow/max_age", &[]),
        ("/instances/0/tasks/0/interval", &[]),
        // At least the interval.
        ("/poll/finished_interval", &["007s", "1000ms", "1s"]),
        ("/poll/interval", &[]),
        ("/poll/stale_after", &[]),
    ];
    for (place, texts) in other {
        let expected: BTreeSet<&str> = short.iter().chain(texts).copied().collect();
        assert_eq!(only_the_loader.remove(place), Some(expected), "{place}");
    }
    // What is put around an expression makes no difference but for the one with a comment.
    let no_expressions = ["(", "*", "[]", "a)(b", "{}"];
    let no_whole_names = ["(", "(?x)a#", "*", "[]", "a)(b", "{}"];
    // The text is empty where the value is none: here a name of null alone.
    let nor_null = ["", "(", "(?x)a#", "*", "[]", "a)(b", "{}"];
    let expected = [
        ("/causes/network/0", &no_expressions[..]),
        ("/causes/not_found/0", &no_expressions),
        ("/causes/other/0", &no_expressions),
        ("/causes/quota/0", &no_expressions),
        ("/causes/rate_limited/0", &no_expressions),
        ("/causes/unauthorized/0", &no_expressions),
        // Without the entry that the instance names.
        ("/credentials", &[""]),
        ("/credentials/prod", &[""]),
        ("/instances/0/follow/exclude/0/repo_name", &no_whole_names),
        ("/instances/0/follow/exclude/0/repo_namespace", &nor_null),
        ("/instances/0/follow/include/0/repo_name", &nor_null),
        (
            "/instances/0/follow/include/0/repo_namespace",
            &no_whole_names,
        ),
        // None, without anything to follow.
        ("/instances/0/tasks", &[""]),
        ("/instances/0/tasks/0", &[""]),
        ("/poll/deadline", &["0ms", "0s", "2y", "366d"]),
        // At most the deadline.
        (
            "/poll/timeout",
            &[
                "0ms",
                "0s",
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
        // A word stands in one list alone, and once, whatever its case.
        ("/status/failed", &[""]),
        ("/status/failed/0", &["r", "s"]),
        ("/status/finished", &[""]),
        ("/status/finished/0", &["r", "s"]),
        ("/status/running", &[""]),
        ("/status/running/0", &["s"]),
        ("/status/succeeded", &[""]),
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
        "endpoint_host",
        "endpoint_http",
        "endpoint_port",
        "instance_duplicate",
        "instance_without_tasks",
        "poll_finished_shorter",
        "poll_overflow",
        "poll_timeout_over_deadline",
        "poll_too_long",
        "poll_too_short",
        "region_misspelt",
        "region_unknown",
        "shape_number_key",
        "shape_underscored_number",
        "state_path_itself",
        "status_word_twice",
        "sts_both",
        "sts_region_missing_in_vpc",
        "sts_region_unknown",
        "sts_region_without_sts",
        "sts_region_without_vpc",
        "task_duplicate",
        "uri_characters",
        "uri_host",
        "uri_http",
    ];
    assert_eq!(only_the_loader, expected);
}

/// Each set of words is exactly what the loader says it takes.
#[test]
fn enumerations_are_complete() {
    let schema = Schema::new();
    let mut enumerations = 0;
    for place in schema.places().keys() {
        let mut document = documents().remove(0);
        put(&mut document, place, Some(&json!("unknownword")));
        let Err(error) = config::parse(&document.to_string(), "config.yaml") else {
            continue;
        };
        let message = error.to_string();
        let Some((_, words)) = message.split_once("must be one of ") else {
            continue;
        };
        let (words, _) = words.split_once(", not ").expect(&message);
        assert!(!schema.is_valid(&document), "{place}");
        if place == "/credentials/prod/type" {
            // What else each type of credentials needs is missing.
            let sources: BTreeSet<&str> = schema.sources().into_keys().collect();
            assert_eq!(words.split(", ").collect::<BTreeSet<_>>(), sources);
        } else {
            for word in words.split(", ") {
                put(&mut document, place, Some(&json!(word)));
                assert!(schema.is_valid(&document), "{place}: {word}");
            }
        }
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
    let schema = Schema::new();
    let mut document = documents().remove(1);
    for region in table["cr"].as_object().expect("regions").keys() {
        put(&mut document, "/instances/0/region", Some(&json!(region)));
        assert!(schema.is_valid(&document), "{region}");
    }
    let role = json!({"type": "assume_role", "role_arn": "acs:ram::1:role/r", "source": "base"});
    put(&mut document, "/credentials/prod", Some(&role));
    for region in table["sts"].as_object().expect("regions").keys() {
        put(
            &mut document,
            "/credentials/prod/sts_region",
            Some(&json!(region)),
        );
        assert!(schema.is_valid(&document), "{region}");
    }
}

/// A default that is written means what leaving it out means.
#[test]
fn defaults_are_those_of_the_loader() {
    let schema = Schema::new();
    let mut places = schema.places();
    // What these have cannot be left out of the documents.
    let needed = [
        "/credentials",
        "/instances/0/follow/exclude/0/repo_namespace",
        "/instances/0/follow/include/0/repo_name",
    ];
    places.retain(|place, property| {
        property.get("default").is_some() && !needed.contains(&place.as_str())
    });
    let mut compared = BTreeSet::new();
    for base in documents() {
        for (place, property) in &places {
            let (parent, _) = place.rsplit_once('/').expect("a place");
            if !base.pointer(parent).is_some_and(Value::is_object) {
                continue;
            }
            let shown = |value: Option<&Value>| {
                let mut document = base.clone();
                put(&mut document, place, value);
                let config = config::parse(&document.to_string(), "config.yaml");
                config.map(|config| config.shown()).ok()
            };
            let (written, left_out) = (shown(property.get("default")), shown(None));
            // A key of another type of credentials is refused, whatever it holds.
            if written.is_some() {
                assert_eq!(written, left_out, "{place}");
                compared.insert(place);
            }
        }
    }
    assert_eq!(compared, places.keys().collect());
}

/// The entries that the example shows as comments.
#[test]
fn the_example_is_loaded_with_every_type_of_credentials() {
    let (before, after) = EXAMPLE.split_once("\ninstances:\n").expect("instances");
    let example = format!("{}\ninstances:\n{after}", before.replace("\n  # ", "\n  "));
    let config = config::parse(&example, "config.example.yaml").expect("the example");
    let types = config.credentials.values().map(|entry| {
        let entry = serde_json::to_value(entry).expect("an entry");
        entry["type"].as_str().expect("a type").to_owned()
    });
    let sources = Schema::new()
        .sources()
        .into_keys()
        .map(str::to_owned)
        .collect();
    assert_eq!(types.collect::<BTreeSet<_>>(), sources);
    let document = serde_saphyr::from_str(&example).expect("the example");
    assert!(Schema::new().is_valid(&document));
}
