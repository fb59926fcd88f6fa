//! The cloud's answers as structs in its own words. Types wander in this API,
//! so every field is read through [`Scalar`]: a number or a numeric string for
//! an integer, a bool or its name for a bool, anything else is as good as
//! absent. What the words mean is left to `source`.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Reads one answer, which must be a JSON object.
pub fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> serde_json::Result<T> {
    // Checked as a whole, text is not checked again string by string.
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    }
    .map(|Object(value)| value)
}

/// What every answer says about itself. Its keys are known in any case: read
/// past, `isSuccess: false` would turn into a task without artifacts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Names the request in the vendor's support and audit log.
    pub request_id: String,
    /// `success`, or what went wrong.
    pub code: String,
    /// Whether it does not go against the code.
    pub is_success: Option<bool>,
    /// Whether the code stands there as the API spells it. The answer of
    /// somebody else must not turn into a task without artifacts.
    vouched: bool,
}

impl Envelope {
    /// Whether an answer with a 2xx status is a success: it says so itself.
    pub fn is_success(&self) -> bool {
        self.vouched && !self.is_failure()
    }

    /// Whether it says that it is none.
    pub fn is_failure(&self) -> bool {
        let is_good = self.code.is_empty() || self.code.eq_ignore_ascii_case("success");
        self.is_success == Some(false) || !is_good
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Envelope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let value: Scalar = map.next_value()?;
                    // The documented spelling wins over another one beside it.
                    let is = |name: &str, unset: bool| {
                        key == name || (unset && key.eq_ignore_ascii_case(name))
                    };
                    if is("RequestId", envelope.request_id.is_empty()) {
                        envelope.request_id = value.into_text();
                    } else if is("Code", envelope.code.is_empty()) {
                        envelope.code = value.into_text();
                        envelope.vouched |= key == "Code" && !envelope.code.is_empty();
                    } else if is("IsSuccess", envelope.is_success.is_none()) {
                        envelope.is_success = value.into_bool();
                    }
                }
                Ok(envelope)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// One page of `GetArtifactSubscriptionTaskResult`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskResultPage {
    /// The size of the page that the cloud used, which may not be the one asked for.
    #[serde(deserialize_with = "integer")]
    pub page_size: Option<i64>,
    /// Rows over all pages.
    #[serde(deserialize_with = "integer")]
    pub total_count: Option<i64>,
    /// The rows.
    #[serde(deserialize_with = "nullable")]
    pub task_results: Vec<TaskResult>,
}

/// One page of `ListArtifactSubscriptionTask`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskPage {
    /// As in [`TaskResultPage`].
    #[serde(deserialize_with = "integer")]
    pub page_size: Option<i64>,
    /// Tasks over all pages.
    #[serde(deserialize_with = "integer")]
    pub total_count: Option<i64>,
    /// The tasks.
    #[serde(deserialize_with = "nullable")]
    pub tasks: Vec<Task>,
}

/// One page of `ListArtifactSubscriptionRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RulePage {
    /// As in [`TaskResultPage`].
    #[serde(deserialize_with = "integer")]
    pub page_size: Option<i64>,
    /// Rules over all pages.
    #[serde(deserialize_with = "integer")]
    pub total_count: Option<i64>,
    /// The rules.
    #[serde(deserialize_with = "nullable")]
    pub rules: Vec<Rule>,
}

/// One page of some list.
pub(super) trait Page: DeserializeOwned {
    /// What it lists.
    type Row: Clone + Eq + Hash;

    /// Whether rows have ids: the same one twice means that the list has moved.
    const IDENTIFIED: bool;

    /// The rows, the size of a page and the rows of all pages, as it states them.
    fn into_parts(self) -> (Vec<Self::Row>, Option<i64>, Option<i64>);
}

impl Page for TaskResultPage {
    type Row = TaskResult;
    const IDENTIFIED: bool = false;

    fn into_parts(self) -> (Vec<TaskResult>, Option<i64>, Option<i64>) {
        (self.task_results, self.page_size, self.total_count)
    }
}

impl Page for TaskPage {
    type Row = Task;
    const IDENTIFIED: bool = true;

    fn into_parts(self) -> (Vec<Task>, Option<i64>, Option<i64>) {
        (self.tasks, self.page_size, self.total_count)
    }
}

impl Page for RulePage {
    type Row = Rule;
    const IDENTIFIED: bool = true;

    fn into_parts(self) -> (Vec<Rule>, Option<i64>, Option<i64>) {
        (self.rules, self.page_size, self.total_count)
    }
}

/// What became of one artifact of a task; texts that are not known are "".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskResult {
    /// The namespace that is synchronised into.
    #[serde(deserialize_with = "text")]
    pub namespace_name: String,
    /// The repository that is synchronised into.
    #[serde(deserialize_with = "text")]
    pub repo_name: String,
    /// The tag.
    #[serde(deserialize_with = "text")]
    pub tag: String,
    /// How far it is, `COMPLETED` for one.
    #[serde(deserialize_with = "text")]
    pub status: String,
    /// How it went, `SUCCESS` for one.
    #[serde(deserialize_with = "text")]
    pub result: String,
    /// Unix time, milliseconds.
    #[serde(deserialize_with = "integer")]
    pub start_time: Option<i64>,
    /// Unix time, milliseconds.
    #[serde(deserialize_with = "integer")]
    pub end_time: Option<i64>,
}

/// The answer of `GetArtifactSubscriptionTask`, or one row of the list of
/// tasks; texts that are not known are "".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    /// The task's id.
    #[serde(deserialize_with = "text")]
    pub task_id: String,
    /// How far it is.
    #[serde(deserialize_with = "text")]
    pub task_status: String,
    /// How it went.
    #[serde(deserialize_with = "text")]
    pub task_result: String,
    /// `AUTO`, …
    #[serde(deserialize_with = "text")]
    pub task_type: String,
    /// `DOCKER_HUB`, …
    #[serde(deserialize_with = "text")]
    pub source_provider: String,
    /// The namespace at the source.
    #[serde(deserialize_with = "text")]
    pub source_namespace_name: String,
    /// The repository at the source.
    #[serde(deserialize_with = "text")]
    pub source_repo_name: String,
    /// The namespace that is synchronised into.
    #[serde(deserialize_with = "text")]
    pub namespace_name: String,
    /// The repository that is synchronised into.
    #[serde(deserialize_with = "text")]
    pub repo_name: String,
    /// The only place where the cloud gives a failure's reason.
    #[serde(deserialize_with = "text")]
    pub message: String,
    /// Meaning inferred from the name.
    #[serde(deserialize_with = "integer")]
    pub tag_total_count: Option<i64>,
    /// Meaning inferred from the name.
    #[serde(deserialize_with = "integer")]
    pub tag_subscription_count: Option<i64>,
    /// Unix time, milliseconds.
    #[serde(deserialize_with = "integer")]
    pub start_time: Option<i64>,
    /// Unix time, milliseconds.
    #[serde(deserialize_with = "integer")]
    pub end_time: Option<i64>,
}

/// A standing subscription; texts that are not known are "".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Rule {
    /// `crasr-…`
    #[serde(deserialize_with = "text")]
    pub rule_id: String,
    /// `DOCKER_HUB`, …
    #[serde(deserialize_with = "text")]
    pub source_provider: String,
    /// The namespace at the source.
    #[serde(deserialize_with = "text")]
    pub source_namespace_name: String,
    /// The repository at the source.
    #[serde(deserialize_with = "text")]
    pub source_repo_name: String,
    /// The namespace that is synchronised into.
    #[serde(deserialize_with = "text")]
    pub namespace_name: String,
    /// The repository that is synchronised into.
    #[serde(deserialize_with = "text")]
    pub repo_name: String,
    /// Which tags it takes.
    #[serde(deserialize_with = "text")]
    pub tag_regexp: String,
    /// How many of the newest tags it takes.
    #[serde(deserialize_with = "integer")]
    pub tag_count: Option<i64>,
    /// Unix time, milliseconds.
    #[serde(deserialize_with = "integer")]
    pub create_time: Option<i64>,
}

/// Any JSON value, as far as a field of ours may take it.
enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// null, an array, an object, or an integer beyond 64 bits.
    Nothing,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Scalar, E> {
                Ok(Scalar::Text(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(i64::try_from(value).map_or(Scalar::Nothing, Scalar::Integer))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(value))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nothing)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nothing)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(value) => value,
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Nothing => String::new(),
        }
    }

    fn into_integer(self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(value),
            Self::Float(value) => whole(value),
            Self::Text(value) => {
                let value = value.trim();
                value
                    .parse()
                    .ok()
                    .or_else(|| value.parse().ok().and_then(whole))
            }
            Self::Bool(_) | Self::Nothing => None,
        }
    }

    fn into_bool(self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(value),
            Self::Text(value) if value.trim().eq_ignore_ascii_case("true") => Some(true),
            Self::Text(value) if value.trim().eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Scalar::deserialize(deserializer).map(Scalar::into_text)
}

fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Scalar::deserialize(deserializer).map(Scalar::into_integer)
}

/// A float as an integer, where it is one that a float can hold exactly.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "within 2^53")]
    (value.abs() <= EXACT).then_some(value as i64)
}

/// Rows: an array of objects, or nothing. Anything else is no page.
fn nullable<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let rows: Option<Vec<Object<T>>> = Option::deserialize(deserializer)?;
    // Of one layout, so that they stay where they are.
    let rows = rows.unwrap_or_default().into_iter();
    Ok(rows.map(|Object(row)| row).collect())
}

/// A struct from an object alone: derived ones read an array too, by position,
/// so that `[]` would be a success without rows.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Map(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn from_value<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
        read(value.to_string().as_bytes())
    }

    fn row(value: &Value) -> TaskResult {
        from_value(value).expect("a row")
    }

    /// The vendor's sample of `GetArtifactSubscriptionTaskResult`.
    const SAMPLE: &str = r#"{
        "RequestId": "30D2EC43-5E7D-4C0C-9FA5-D8E2D8D1F0B4", "Code": "success", "IsSuccess": true,
        "PageNo": 1, "PageSize": 30, "TotalCount": 1,
        "TaskResults": [{
            "InstanceId": "cri-90fxryf9pwf0abcd", "TaskId": "crast-y64sq01bgad0abcd",
            "NamespaceName": "ns1", "RepoName": "repo1", "Tag": "v0.1",
            "Status": "COMPLETED", "Result": "SUCCESS",
            "StartTime": 1640164430000, "EndTime": 1640164439000
        }]
    }"#;

    #[test]
    fn a_page_is_read() {
        let envelope: Envelope = read(SAMPLE.as_bytes()).expect("an envelope");
        assert!(envelope.is_success());
        assert_eq!(envelope.request_id, "30D2EC43-5E7D-4C0C-9FA5-D8E2D8D1F0B4");
        let page: TaskResultPage = read(SAMPLE.as_bytes()).expect("a page");
        assert_eq!(
            page,
            TaskResultPage {
                page_size: Some(30),
                total_count: Some(1),
                task_results: vec![TaskResult {
                    namespace_name: "ns1".to_owned(),
                    repo_name: "repo1".to_owned(),
                    tag: "v0.1".to_owned(),
                    status: "COMPLETED".to_owned(),
                    result: "SUCCESS".to_owned(),
                    start_time: Some(1_640_164_430_000),
                    end_time: Some(1_640_164_439_000),
                }],
            }
        );
    }

    #[test]
    fn a_task_is_flat_and_its_message_is_its_own() {
        let task: Task = read(
            br#"{"RequestId": "R", "Code": "success", "IsSuccess": "true", "TaskId": "crast-1",
                "TaskStatus": "RUNNING", "TaskResult": "SUCCESS", "TaskType": "AUTO",
                "SourceProvider": "DOCKER_HUB", "SourceNamespaceName": "library",
                "SourceRepoName": "nginx", "NamespaceName": "ns", "RepoName": "nginx",
                "Message": "pull failed", "TagTotalCount": "5", "TagSubscriptionCount": 4,
                "StartTime": "1640164430000", "EndTime": 1640164439000}"#,
        )
        .expect("a task");
        assert_eq!(task.message, "pull failed");
        assert_eq!(task.source_repo_name, "nginx");
        assert_eq!(
            (task.tag_total_count, task.tag_subscription_count),
            (Some(5), Some(4))
        );
        assert_eq!(task.start_time, Some(1_640_164_430_000));
        assert_eq!(task.end_time, Some(1_640_164_439_000));
    }

    #[test]
    fn integers_come_in_many_shapes() {
        for (value, expected) in [
            (json!(17), Some(17)),
            (json!(-1), Some(-1)),
            (json!(1.7e12), Some(1_700_000_000_000)),
            (json!("1640164430000"), Some(1_640_164_430_000)),
            (json!(" 5 "), Some(5)),
            (json!("1.6401644E12"), Some(1_640_164_400_000)),
            (json!(""), None),
            (json!("soon"), None),
            (json!("NaN"), None),
            (json!("inf"), None),
            (json!(1e300), None),
            (json!(u64::MAX), None),
            (json!(null), None),
            (json!(true), None),
            (json!([1, [2]]), None),
            (json!({"a": {"b": 1}}), None),
        ] {
            let read = row(&json!({"StartTime": value.clone()})).start_time;
            assert_eq!(read, expected, "{value}");
        }
        assert_eq!(row(&json!({})).start_time, None);
    }

    #[test]
    fn texts_come_in_many_shapes() {
        for (value, expected) in [
            (json!("v1"), "v1"),
            (
                json!("with \"quotes\" and \u{1F980}"),
                "with \"quotes\" and \u{1F980}",
            ),
            (json!(1.25), "1.25"),
            (json!(20), "20"),
            (json!(true), "true"),
            (json!(null), ""),
            (json!(["v1"]), ""),
            (json!({"a": "v1"}), ""),
        ] {
            assert_eq!(row(&json!({"Tag": value.clone()})).tag, expected, "{value}");
        }
    }

    #[test]
    fn success_has_one_definition() {
        for (answer, expected) in [
            (json!({"Code": "success", "IsSuccess": true}), true),
            (json!({"Code": "Success"}), true),
            // In other letters the rows would be missed too.
            (json!({"code": "SUCCESS", "isSuccess": true}), false),
            (json!({"Code": "success", "code": 200}), true),
            (json!({"code": 200, "message": "ok"}), false),
            (json!({"code": "success", "isSuccess": "false"}), false),
            (json!({"Code": "success", "IsSuccess": "no bool"}), true),
            (json!({"IsSuccess": true}), false),
            (json!({"IsSuccess": "True", "Code": ""}), false),
            (json!({"IsSuccess": true, "Code": null}), false),
            (json!({"IsSuccess": true, "code": "success"}), false),
            (json!({"Code": 200, "IsSuccess": true}), false),
            (json!({"Code": null}), false),
            (json!({"error": "please log in"}), false),
            (json!({}), false),
            (json!({"Code": "success", "IsSuccess": false}), false),
            (json!({"Code": "success", "IsSuccess": "false"}), false),
            (
                json!({"Code": "INSTANCE_NOT_EXIST", "IsSuccess": true}),
                false,
            ),
            (json!({"Code": "INSTANCE_NOT_EXIST"}), false),
        ] {
            let envelope: Envelope = from_value(&answer).expect("an envelope");
            assert_eq!(envelope.is_success(), expected, "{answer}");
        }
    }

    #[test]
    fn rows_are_an_array_or_nothing() {
        for answer in [
            json!({}),
            json!({"TaskResults": null}),
            json!({"TaskResults": []}),
        ] {
            let page: TaskResultPage = from_value(&answer).expect("a page");
            assert_eq!(page.task_results, []);
        }
        for answer in [
            json!({"TaskResults": "none"}),
            json!({"TaskResults": {"TaskResult": []}}),
            json!({"TaskResults": ["row"]}),
            json!({"TaskResults": [null]}),
            json!({"TaskResults": [[]]}),
            json!({"TaskResults": [["ns", "repo", "v1"]]}),
            json!([]),
        ] {
            assert!(from_value::<TaskResultPage>(&answer).is_err(), "{answer}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            "-?[0-9]{1,20}(\\.[0-9]{1,3})?(e[0-9]{1,3})?".prop_map(Value::from),
        ];
        let names = prop::sample::select(vec![
            "RequestId",
            "Code",
            "IsSuccess",
            "PageSize",
            "TotalCount",
            "TaskResults",
            "NamespaceName",
            "Tag",
            "StartTime",
            "EndTime",
            "TaskStatus",
            "Message",
            "Other",
        ]);
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((names.clone(), inner), 0..8).prop_map(|fields| {
                    fields
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<Envelope>(&bytes);
            let _ = read::<TaskResultPage>(&bytes);
            let _ = read::<Task>(&bytes);
        }

        #[test]
        fn any_object_is_an_envelope_and_a_task(value in json_value()) {
            let bytes = serde_json::to_vec(&value).expect("JSON");
            let _ = read::<TaskResultPage>(&bytes);
            prop_assert_eq!(read::<Envelope>(&bytes).is_ok(), value.is_object());
            prop_assert_eq!(read::<Task>(&bytes).is_ok(), value.is_object());
        }

        #[test]
        fn one_bad_field_costs_no_row(value in json_value()) {
            let page = json!({"TaskResults": [{"Tag": "v1", "EndTime": value.clone(), "Status": value}]});
            let page: TaskResultPage =
                from_value(&page).expect("a page");
            prop_assert_eq!(&page.task_results[0].tag, "v1");
        }
    }
}
