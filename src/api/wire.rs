//! The API's responses as structs in its own words. Types vary in this API, so
//! every field is lenient: a number or a numeric string for an integer, a boolean
//! or its name for a boolean, and anything else is as good as absent. What the
//! words mean is left to `source`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::Range;

use alibaba_cloud::rpc::{Answer, Answered, NotAnswered, Page, Rows};
use serde::Deserialize;
use serde::de::value::{CowStrDeserializer, MapAccessDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// A response: what it says about itself, and what it is about.
#[derive(Debug)]
pub struct Response<T>(pub Envelope, pub T);

impl<T: DeserializeOwned> Answer for Response<T> {
    fn read(body: &[u8]) -> Result<Answered<Self>, NotAnswered> {
        let unreadable = |problem, detail: String| NotAnswered::Unreadable { problem, detail };
        let (envelope, value) = match parse(body) {
            Ok(Response(envelope, value)) => (envelope, Ok(value)),
            // A failure need not be about anything.
            Err(shape) => match parse(body) {
                Ok(Response(envelope, IgnoredAny)) => (envelope, Err(shape)),
                Err(error) => {
                    let problem = "the answer is no JSON object";
                    return Err(unreadable(problem, error.to_string()));
                }
            },
        };
        if envelope.is_failure() {
            return Err(NotAnswered::Refused);
        }
        if !envelope.is_success() {
            let problem = "the answer is JSON and not the API's: it has no Code";
            return Err(unreadable(problem, String::new()));
        }
        let value = value.map_err(|error| {
            let problem = "the answer has another shape than documented";
            unreadable(problem, error.to_string())
        })?;
        Ok(Answered {
            request_id: envelope.request_id.clone(),
            value: Self(envelope, value),
        })
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<Response<T>> {
    // Checked as a whole, text is not checked again string by string.
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    }
}

/// What every response says about itself. `RequestId`, `Code` and `IsSuccess` are
/// recognized in any case: otherwise `isSuccess: false` would pass for a task
/// without artifacts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Names the request in the vendor's support and audit log.
    pub request_id: String,
    /// `success`, or what went wrong.
    pub code: String,
    /// May deny the code.
    pub is_success: Option<bool>,
    /// The size of the page that the API used, which may differ from the requested one.
    pub page_size: Option<i64>,
    /// Rows over all pages.
    pub total_count: Option<i64>,
    /// Whether there is a code in the API's own spelling. The response of another
    /// server must not pass for a task without artifacts.
    vouched: bool,
}

impl Envelope {
    /// Whether a response with a 2xx status is a success: it says so itself.
    pub fn is_success(&self) -> bool {
        self.vouched && !self.is_failure()
    }

    /// Whether it says that it is none.
    pub fn is_failure(&self) -> bool {
        let is_good = self.code.is_empty() || self.code.eq_ignore_ascii_case("success");
        self.is_success == Some(false) || !is_good
    }

    /// Takes the value of `key`; `false` where the field is another's.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        // The documented spelling wins over another one beside it.
        let is = |name: &str, unset: bool| key == name || (unset && key.eq_ignore_ascii_case(name));
        if is("RequestId", self.request_id.is_empty()) {
            self.request_id = map.next_value::<Scalar<'_>>()?.text().into_owned();
        } else if is("Code", self.code.is_empty()) {
            self.code = map.next_value::<Scalar<'_>>()?.text().into_owned();
            self.vouched |= key == "Code" && !self.code.is_empty();
        } else if is("IsSuccess", self.is_success.is_none()) {
            self.is_success = map.next_value::<Scalar<'_>>()?.boolean();
        } else if key == "PageSize" {
            self.page_size = map.next_value::<Scalar<'_>>()?.integer();
        } else if key == "TotalCount" {
            self.total_count = map.next_value::<Scalar<'_>>()?.integer();
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

/// One page of `GetArtifactSubscriptionTaskResult`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskResultPage {
    /// The rows.
    pub task_results: TaskResults,
}

/// One page of `ListArtifactSubscriptionTask`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskPage {
    /// The tasks.
    #[serde(deserialize_with = "objects")]
    pub tasks: Vec<Task>,
}

/// One page of `ListArtifactSubscriptionRule`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RulePage {
    /// The rules.
    #[serde(deserialize_with = "objects")]
    pub rules: Vec<Rule>,
}

impl Page for Response<TaskResultPage> {
    type Rows = TaskResults;

    fn into_parts(self) -> (TaskResults, Option<i64>, Option<i64>) {
        let Self(envelope, page) = self;
        (page.task_results, envelope.page_size, envelope.total_count)
    }
}

impl Page for Response<TaskPage> {
    type Rows = Vec<Task>;

    fn into_parts(self) -> (Vec<Task>, Option<i64>, Option<i64>) {
        let Self(envelope, page) = self;
        (page.tasks, envelope.page_size, envelope.total_count)
    }
}

impl Page for Response<RulePage> {
    type Rows = Vec<Rule>;

    fn into_parts(self) -> (Vec<Rule>, Option<i64>, Option<i64>) {
        let Self(envelope, page) = self;
        (page.rules, envelope.page_size, envelope.total_count)
    }
}

/// The response of `GetArtifactSubscriptionTask`, or one row of the list of
/// tasks; texts that are not known are "".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
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
    /// The namespace that is synchronized into.
    #[serde(deserialize_with = "text")]
    pub namespace_name: String,
    /// The repository that is synchronized into.
    #[serde(deserialize_with = "text")]
    pub repo_name: String,
    /// The only place where the API gives a failure's reason.
    #[serde(deserialize_with = "text")]
    pub message: String,
    /// Tags of the source; no progress.
    #[serde(deserialize_with = "integer")]
    pub tag_total_count: Option<i64>,
    /// Tags that the subscription selects.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
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
    /// The namespace that is synchronized into.
    #[serde(deserialize_with = "text")]
    pub namespace_name: String,
    /// The repository that is synchronized into.
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
    /// Unix time, milliseconds.
    #[serde(deserialize_with = "integer")]
    pub modified_time: Option<i64>,
}

/// What became of one artifact of a task; texts that are not known are "".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[serde(bound(deserialize = "T: Default + Deserialize<'de>"))]
pub struct TaskResult<T> {
    /// The namespace that is synchronized into.
    pub namespace_name: T,
    /// The repository that is synchronized into.
    pub repo_name: T,
    /// The tag.
    pub tag: T,
    /// How far it is, `COMPLETED` for one.
    pub status: T,
    /// How it went, `SUCCESS` for one.
    pub result: T,
    /// Unix time, milliseconds.
    #[serde(deserialize_with = "integer")]
    pub start_time: Option<i64>,
    /// Unix time, milliseconds.
    #[serde(deserialize_with = "integer")]
    pub end_time: Option<i64>,
}

impl<T> TaskResult<T> {
    /// The row with each text changed, always in the same order.
    fn map<U>(self, mut change: impl FnMut(T) -> U) -> TaskResult<U> {
        TaskResult {
            namespace_name: change(self.namespace_name),
            repo_name: change(self.repo_name),
            tag: change(self.tag),
            status: change(self.status),
            result: change(self.result),
            start_time: self.start_time,
            end_time: self.end_time,
        }
    }
}

/// What became of the artifacts of a task. A task may have thousands, which
/// differ in little but their tags: the texts are in one buffer, and what a row
/// has in common with the row before it is stored once.
#[derive(Clone, Debug, Default)]
pub struct TaskResults {
    texts: String,
    rows: Vec<TaskResult<Range<usize>>>,
}

impl TaskResults {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, in the API's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TaskResult<&str>> {
        let rows = self.rows.iter().cloned();
        rows.map(|row| row.map(|place| &self.texts[place]))
    }

    fn push(&mut self, row: TaskResult<Scalar<'_>>) {
        let none = TaskResult::default();
        let before = self.rows.last().unwrap_or(&none);
        let before = [
            &before.namespace_name,
            &before.repo_name,
            &before.tag,
            &before.status,
            &before.result,
        ];
        let mut before = before.iter();
        let texts = &mut self.texts;
        let row = row.map(|text| {
            let text = text.text();
            match before.next() {
                Some(&place) if texts[place.clone()] == *text => place.clone(),
                _ => {
                    let start = texts.len();
                    texts.push_str(&text);
                    start..texts.len()
                }
            }
        });
        self.rows.push(row);
    }
}

impl<'de> Deserialize<'de> for TaskResults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Self::default();
        for row in objects(deserializer)? {
            all.push(row);
        }
        Ok(all)
    }
}

impl Rows for TaskResults {
    const IDENTIFIED: bool = false;

    fn count(&self) -> usize {
        self.len()
    }

    fn append(&mut self, page: Self) {
        if self.rows.is_empty() {
            *self = page;
            return;
        }
        let by = self.texts.len();
        self.texts.push_str(&page.texts);
        let moved = |place: Range<usize>| place.start + by..place.end + by;
        let rows = page.rows.into_iter();
        self.rows.extend(rows.map(|row| row.map(moved)));
    }

    fn distinct(&self) -> usize {
        self.iter().collect::<HashSet<_>>().len()
    }

    fn dedup(&mut self) {
        let mut seen = HashSet::with_capacity(self.rows.len());
        let is_new: Vec<bool> = self.iter().map(|row| seen.insert(row)).collect();
        drop(seen);
        let mut is_new = is_new.into_iter();
        self.rows.retain(|_| is_new.next() == Some(true));
    }

    fn same(&self, other: &Self) -> bool {
        self.iter().collect::<HashSet<_>>() == other.iter().collect()
    }
}

/// Any JSON value, as far as a field takes it: numbers and booleans are texts,
/// null, arrays and objects are "".
enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// The usual case of a number, not to be spelled and parsed.
    Integer(i64),
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(value.to_owned().into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar<'de>, E> {
        let integer = i64::try_from(value).map(Scalar::Integer);
        Ok(integer.unwrap_or_else(|_| Scalar::Text(value.to_string().into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(value.to_string().into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(value.to_string().into()))
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text("".into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.visit_unit()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.visit_unit()
    }
}

impl Default for Scalar<'_> {
    fn default() -> Self {
        Self::Text("".into())
    }
}

impl<'a> Scalar<'a> {
    fn text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            Self::Integer(integer) => integer.to_string().into(),
        }
    }

    fn integer(self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(integer),
            Self::Text(text) => {
                let text = text.trim();
                text.parse().ok().or_else(|| whole(text.parse().ok()?))
            }
        }
    }

    fn boolean(self) -> Option<bool> {
        self.text().trim().to_ascii_lowercase().parse().ok()
    }
}

/// A float as an integer, where it is one that a float can hold exactly.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "within 2^53")]
    (value.abs() <= EXACT).then_some(value as i64)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Scalar::deserialize(deserializer)?.text().into_owned())
}

fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Scalar::deserialize(deserializer)?.integer())
}

/// An array of objects, or null for none. Anything else is no page.
fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Option::<Vec<Object<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// A value that is read from an object alone. Derived structs take an array too,
/// by position, which would make `[]` a success without rows.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// In one pass.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Response<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ResponseVisitor(PhantomData))
    }
}

struct ResponseVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ResponseVisitor<T> {
    type Value = Response<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Response<T>, A::Error> {
        let mut envelope = Envelope::default();
        let rest = WithoutEnvelope {
            map,
            envelope: &mut envelope,
        };
        let value = T::deserialize(MapAccessDeserializer::new(rest))?;
        Ok(Response(envelope, value))
    }
}

/// The fields of a response, of which `envelope` takes its own.
struct WithoutEnvelope<'a, A> {
    map: A,
    envelope: &'a mut Envelope,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutEnvelope<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(Key(key)) = self.map.next_key()? {
            if !self.envelope.take(&key, &mut self.map)? {
                return seed.deserialize(CowStrDeserializer::new(key)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn from_value<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
        parse(value.to_string().as_bytes()).map(|Response(_, value)| value)
    }

    fn page(row: &Value) -> TaskResultPage {
        from_value(&json!({"TaskResults": [row]})).expect("a page")
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
        let Response(envelope, page) =
            parse::<TaskResultPage>(SAMPLE.as_bytes()).expect("a response");
        assert!(envelope.is_success());
        assert_eq!(envelope.request_id, "30D2EC43-5E7D-4C0C-9FA5-D8E2D8D1F0B4");
        let stated = (envelope.page_size, envelope.total_count);
        assert_eq!(stated, (Some(30), Some(1)));
        let rows: Vec<_> = page.task_results.iter().collect();
        assert_eq!(
            rows,
            [TaskResult {
                namespace_name: "ns1",
                repo_name: "repo1",
                tag: "v0.1",
                status: "COMPLETED",
                result: "SUCCESS",
                start_time: Some(1_640_164_430_000),
                end_time: Some(1_640_164_439_000),
            }]
        );
    }

    #[test]
    fn a_task_is_flat_and_its_message_is_its_own() {
        let Response(_, task) = parse::<Task>(
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
            let page = page(&json!({"StartTime": value.clone()}));
            let read: Vec<_> = page.task_results.iter().map(|row| row.start_time).collect();
            assert_eq!(read, [expected], "{value}");
            let task: Task = from_value(&json!({"StartTime": value.clone()})).expect("a task");
            assert_eq!(task.start_time, expected, "{value}");
        }
        let page = page(&json!({}));
        let rows: Vec<_> = page.task_results.iter().collect();
        assert_eq!(rows, [TaskResult::default()]);
    }

    #[test]
    fn texts_come_in_many_shapes() {
        for (value, expected) in [
            (json!("v1"), "v1"),
            (
                json!("with \"quotes\" and \u{1F980}"),
                "with \"quotes\" and \u{1F980}",
            ),
            (json!("\u{1}\\ \u{7f}"), "\u{1}\\ \u{7f}"),
            (json!(1.25), "1.25"),
            (json!(20), "20"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(true), "true"),
            (json!(null), ""),
            (json!(["v1"]), ""),
            (json!({"a": "v1"}), ""),
        ] {
            let page = page(&json!({"Tag": value.clone()}));
            let read: Vec<_> = page.task_results.iter().map(|row| row.tag).collect();
            assert_eq!(read, [expected], "{value}");
            let task: Task = from_value(&json!({"Message": value.clone()})).expect("a task");
            assert_eq!(task.message, expected, "{value}");
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
            let body = answer.to_string();
            let Response(envelope, IgnoredAny) = parse(body.as_bytes()).expect("an envelope");
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
            assert_eq!(page.task_results.len(), 0);
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
        for rows in [
            json!("none"),
            json!({}),
            json!(["row"]),
            json!([null]),
            json!([["crast-1"]]),
        ] {
            let page = json!({"Tasks": rows.clone()});
            assert!(from_value::<TaskPage>(&page).is_err(), "{page}");
            let page = json!({"Rules": rows});
            assert!(from_value::<RulePage>(&page).is_err(), "{page}");
        }
        let none: TaskPage = from_value(&json!({"Tasks": null})).expect("a page");
        assert_eq!(none.tasks, []);
    }

    #[test]
    fn escapes_are_resolved_and_broken_text_is_an_error() {
        let body = br#"{"T\u0061sks": [{"T\u0061skId": "a\u0062", "TaskStatus": 1.5, "Message": "\ud83e\udd80"}]}"#;
        let Response(_, page) = parse::<TaskPage>(body).expect("a page");
        let task = &page.tasks[0];
        assert_eq!(task.task_id, "ab");
        assert_eq!(task.task_status, "1.5");
        assert_eq!(task.message, "\u{1F980}");
        // Half a character, and bytes that are no text.
        for text in [&b"\\ud83e"[..], b"\xff"] {
            let body = [br#"{"Message": ""#, text, br#""}"#].concat();
            assert!(parse::<Task>(&body).is_err(), "{text:?}");
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
            let _ = parse::<IgnoredAny>(&bytes);
            let _ = parse::<TaskResultPage>(&bytes);
            let _ = parse::<Task>(&bytes);
        }

        #[test]
        fn any_object_is_an_envelope_and_a_task(value in json_value()) {
            let bytes = serde_json::to_vec(&value).expect("JSON");
            let _ = parse::<TaskResultPage>(&bytes);
            prop_assert_eq!(parse::<IgnoredAny>(&bytes).is_ok(), value.is_object());
            prop_assert_eq!(parse::<Task>(&bytes).is_ok(), value.is_object());
        }

        #[test]
        fn one_bad_field_costs_no_row(value in json_value()) {
            let page = json!({"TaskResults": [{"Tag": "v1", "EndTime": value.clone(), "Status": value}]});
            let page: TaskResultPage =
                from_value(&page).expect("a page");
            let tags: Vec<_> = page.task_results.iter().map(|row| row.tag).collect();
            prop_assert_eq!(tags, ["v1"]);
        }
    }
}
