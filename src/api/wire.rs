//! The cloud's answers as structs in its own words. Types wander in this API,
//! so every field is read through [`Scalar`]: a number or a numeric string for
//! an integer, a bool or its name for a bool, anything else is as good as
//! absent. What the words mean is left to `source`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use alibaba_cloud::rpc::Rows;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Reads what an answer says about itself, and what it is about. Where it says
/// that it is no success, it need not be about anything.
pub fn answer<T: Fields>(body: &[u8]) -> Result<(Envelope, T), Unreadable> {
    match read(body) {
        Ok(Answer(envelope, value)) => Ok((envelope, value)),
        Err(error) => {
            let envelope: Envelope = read(body).map_err(Unreadable::NoObject)?;
            if envelope.is_success() {
                return Err(Unreadable::Shape(error));
            }
            Ok((envelope, T::default()))
        }
    }
}

/// Why an answer says nothing.
#[derive(Debug)]
pub enum Unreadable {
    /// It is no JSON object.
    NoObject(serde_json::Error),
    /// It is a success by its own account, and not as documented.
    Shape(serde_json::Error),
}

fn read<T: Read>(body: &[u8]) -> serde_json::Result<T> {
    // Checked as a whole, text is not checked again string by string.
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    }
    .map(|Wire(value)| value)
}

/// A struct that takes its fields out of a JSON object, which others may share.
pub trait Fields: Default {
    /// Takes the value of `key`; `false` where it is not one of its own.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// A struct of public fields, each named as on the wire and read as its type is.
macro_rules! fields {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$doc:meta])* $key:literal => $field:ident: $type:ty,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Fields for $name {
            fn take<'de, A: MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                match key {
                    $($key => self.$field = map.next_value::<Wire<$type>>()?.0,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
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

impl Fields for Envelope {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        // The documented spelling wins over another one beside it.
        let is = |name: &str, unset: bool| key == name || (unset && key.eq_ignore_ascii_case(name));
        if is("RequestId", self.request_id.is_empty()) {
            self.request_id = map.next_value::<Scalar<'_>>()?.into_text();
        } else if is("Code", self.code.is_empty()) {
            self.code = map.next_value::<Scalar<'_>>()?.into_text();
            self.vouched |= key == "Code" && !self.code.is_empty();
        } else if is("IsSuccess", self.is_success.is_none()) {
            self.is_success = map.next_value::<Scalar<'_>>()?.into_bool();
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

fields! {
    /// One page of `GetArtifactSubscriptionTaskResult`.
    TaskResultPage {
        /// The size of the page that the cloud used, which may not be the one asked for.
        "PageSize" => page_size: Option<i64>,
        /// Rows over all pages.
        "TotalCount" => total_count: Option<i64>,
        /// The rows.
        "TaskResults" => task_results: TaskResults,
    }
}

fields! {
    /// One page of `ListArtifactSubscriptionTask`.
    TaskPage {
        /// As in [`TaskResultPage`].
        "PageSize" => page_size: Option<i64>,
        /// Tasks over all pages.
        "TotalCount" => total_count: Option<i64>,
        /// The tasks.
        "Tasks" => tasks: Vec<Task>,
    }
}

fields! {
    /// One page of `ListArtifactSubscriptionRule`.
    RulePage {
        /// As in [`TaskResultPage`].
        "PageSize" => page_size: Option<i64>,
        /// Rules over all pages.
        "TotalCount" => total_count: Option<i64>,
        /// The rules.
        "Rules" => rules: Vec<Rule>,
    }
}

/// One page of some list.
pub(super) trait Page: Fields {
    /// What it lists.
    type Rows: Rows;

    /// The rows, the size of a page and the rows of all pages, as it states them.
    fn into_parts(self) -> (Self::Rows, Option<i64>, Option<i64>);
}

impl Page for TaskResultPage {
    type Rows = TaskResults;

    fn into_parts(self) -> (TaskResults, Option<i64>, Option<i64>) {
        (self.task_results, self.page_size, self.total_count)
    }
}

impl Page for TaskPage {
    type Rows = Vec<Task>;

    fn into_parts(self) -> (Vec<Task>, Option<i64>, Option<i64>) {
        (self.tasks, self.page_size, self.total_count)
    }
}

impl Page for RulePage {
    type Rows = Vec<Rule>;

    fn into_parts(self) -> (Vec<Rule>, Option<i64>, Option<i64>) {
        (self.rules, self.page_size, self.total_count)
    }
}

/// What became of one artifact of a task; texts that are not known are "".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskResult<'a> {
    /// The namespace that is synchronised into.
    pub namespace_name: &'a str,
    /// The repository that is synchronised into.
    pub repo_name: &'a str,
    /// The tag.
    pub tag: &'a str,
    /// How far it is, `COMPLETED` for one.
    pub status: &'a str,
    /// How it went, `SUCCESS` for one.
    pub result: &'a str,
    /// Unix time, milliseconds.
    pub start_time: Option<i64>,
    /// Unix time, milliseconds.
    pub end_time: Option<i64>,
}

/// What became of the artifacts of a task. A task may have thousands, which
/// differ in little but their tags: the texts are in one buffer, and what a row
/// has in common with the row before it is there once.
#[derive(Clone, Default)]
pub struct TaskResults {
    texts: String,
    rows: Vec<Packed>,
}

/// A [`TaskResult`] with the places of its texts.
#[derive(Clone, Copy, Default)]
struct Packed {
    namespace_name: Place,
    repo_name: Place,
    tag: Place,
    status: Place,
    result: Place,
    start_time: Option<i64>,
    end_time: Option<i64>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    start: usize,
    end: usize,
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

    /// The rows, in the cloud's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TaskResult<'_>> {
        let text = |place: Place| &self.texts[place.start..place.end];
        self.rows.iter().map(move |row| TaskResult {
            namespace_name: text(row.namespace_name),
            repo_name: text(row.repo_name),
            tag: text(row.tag),
            status: text(row.status),
            result: text(row.result),
            start_time: row.start_time,
            end_time: row.end_time,
        })
    }

    /// Where `text` is; `before` is where it may be already.
    fn keep(&mut self, text: &str, before: Place) -> Place {
        if self.texts[before.start..before.end] == *text {
            return before;
        }
        let start = self.texts.len();
        self.texts.push_str(text);
        Place {
            start,
            end: self.texts.len(),
        }
    }
}

impl fmt::Debug for TaskResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for TaskResults {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for TaskResults {}

impl Hash for TaskResults {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.iter().for_each(|row| row.hash(state));
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
        let moved = |place: Place| Place {
            start: place.start + by,
            end: place.end + by,
        };
        self.texts.push_str(&page.texts);
        self.rows.extend(page.rows.into_iter().map(|row| Packed {
            namespace_name: moved(row.namespace_name),
            repo_name: moved(row.repo_name),
            tag: moved(row.tag),
            status: moved(row.status),
            result: moved(row.result),
            ..row
        }));
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
        let (here, there): (HashSet<_>, HashSet<_>) =
            (self.iter().collect(), other.iter().collect());
        here == there
    }
}

fields! {
    /// The answer of `GetArtifactSubscriptionTask`, or one row of the list of
    /// tasks; texts that are not known are "".
    Task {
        /// The task's id.
        "TaskId" => task_id: String,
        /// How far it is.
        "TaskStatus" => task_status: String,
        /// How it went.
        "TaskResult" => task_result: String,
        /// `AUTO`, …
        "TaskType" => task_type: String,
        /// `DOCKER_HUB`, …
        "SourceProvider" => source_provider: String,
        /// The namespace at the source.
        "SourceNamespaceName" => source_namespace_name: String,
        /// The repository at the source.
        "SourceRepoName" => source_repo_name: String,
        /// The namespace that is synchronised into.
        "NamespaceName" => namespace_name: String,
        /// The repository that is synchronised into.
        "RepoName" => repo_name: String,
        /// The only place where the cloud gives a failure's reason.
        "Message" => message: String,
        /// Tags of the source; no progress.
        "TagTotalCount" => tag_total_count: Option<i64>,
        /// Tags that the subscription selects.
        "TagSubscriptionCount" => tag_subscription_count: Option<i64>,
        /// Unix time, milliseconds.
        "StartTime" => start_time: Option<i64>,
        /// Unix time, milliseconds.
        "EndTime" => end_time: Option<i64>,
    }
}

fields! {
    /// A standing subscription; texts that are not known are "".
    Rule {
        /// `crasr-…`
        "RuleId" => rule_id: String,
        /// `DOCKER_HUB`, …
        "SourceProvider" => source_provider: String,
        /// The namespace at the source.
        "SourceNamespaceName" => source_namespace_name: String,
        /// The repository at the source.
        "SourceRepoName" => source_repo_name: String,
        /// The namespace that is synchronised into.
        "NamespaceName" => namespace_name: String,
        /// The repository that is synchronised into.
        "RepoName" => repo_name: String,
        /// Which tags it takes.
        "TagRegexp" => tag_regexp: String,
        /// How many of the newest tags it takes.
        "TagCount" => tag_count: Option<i64>,
        /// Unix time, milliseconds.
        "CreateTime" => create_time: Option<i64>,
        /// Unix time, milliseconds.
        "ModifiedTime" => modified_time: Option<i64>,
    }
}

/// How a type of ours is read.
trait Read: Sized {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// [`Read`] as serde knows it.
struct Wire<T>(T);

impl<'de, T: Read> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

impl Read for String {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(Scalar::into_text)
    }
}

impl Read for Option<i64> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(Scalar::into_integer)
    }
}

/// From an object alone. An array by position, as serde's own structs are read
/// too, would make `[]` a success without rows.
impl<T: Fields> Read for T {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = T::default();
        deserializer.deserialize_map(Object(&mut value))?;
        Ok(value)
    }
}

/// Fills what it holds from an object.
struct Object<'a, T>(&'a mut T);

impl<'de, T: Fields> Visitor<'de> for Object<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if !self.0.take(&key, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// An answer, in one pass: what it says about itself and what it is about.
#[derive(Default)]
struct Answer<T>(Envelope, T);

impl<T: Fields> Fields for Answer<T> {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        Ok(self.0.take(key, map)? || self.1.take(key, map)?)
    }
}

/// The elements of an array.
trait Elements: Default {
    /// Takes the next one; `false` behind the last.
    fn take<'de, A: SeqAccess<'de>>(&mut self, array: &mut A) -> Result<bool, A::Error>;
}

impl<T: Fields> Elements for Vec<T> {
    fn take<'de, A: SeqAccess<'de>>(&mut self, array: &mut A) -> Result<bool, A::Error> {
        let element = array.next_element()?;
        let is_one = element.is_some();
        self.extend(element.map(|Wire(element)| element));
        Ok(is_one)
    }
}

impl Elements for TaskResults {
    fn take<'de, A: SeqAccess<'de>>(&mut self, array: &mut A) -> Result<bool, A::Error> {
        Ok(array.next_element_seed(NextRow(self))?.is_some())
    }
}

/// An array of objects, or nothing. Anything else is no page.
fn elements<'de, D: Deserializer<'de>, T: Elements>(deserializer: D) -> Result<T, D::Error> {
    struct Array<T>(PhantomData<T>);

    impl<'de, T: Elements> Visitor<'de> for Array<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_none<E>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
            deserializer.deserialize_seq(self)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<T, A::Error> {
            let mut all = T::default();
            while all.take(&mut array)? {}
            Ok(all)
        }
    }

    deserializer.deserialize_option(Array(PhantomData))
}

impl<T: Fields> Read for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        elements(deserializer)
    }
}

impl Read for TaskResults {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        elements(deserializer)
    }
}

/// Reads one row behind the others.
struct NextRow<'a>(&'a mut TaskResults);

impl<'de> DeserializeSeed<'de> for NextRow<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NextRow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(all) = self;
        let before = all.rows.last().copied().unwrap_or_default();
        let mut row = Packed::default();
        while let Some(Key(key)) = map.next_key()? {
            let (place, before) = match &*key {
                "NamespaceName" => (&mut row.namespace_name, before.namespace_name),
                "RepoName" => (&mut row.repo_name, before.repo_name),
                "Tag" => (&mut row.tag, before.tag),
                "Status" => (&mut row.status, before.status),
                "Result" => (&mut row.result, before.result),
                "StartTime" => {
                    row.start_time = map.next_value::<Scalar<'_>>()?.into_integer();
                    continue;
                }
                "EndTime" => {
                    row.end_time = map.next_value::<Scalar<'_>>()?.into_integer();
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *place = all.keep(&map.next_value::<Scalar<'_>>()?.text(), before);
        }
        all.rows.push(row);
        Ok(())
    }
}

/// The key of a field; no copy, unless it is escaped.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(name.into()))
            }

            fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(name.to_owned().into()))
            }
        }

        deserializer.deserialize_str(Name)
    }
}

/// Any JSON value, as far as a field of ours may take it.
enum Scalar<'de> {
    Text(Cow<'de, str>),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// null, an array, an object, or an integer beyond 64 bits.
    Nothing,
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
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
                Ok(i64::try_from(value).map_or(Scalar::Nothing, Scalar::Integer))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Float(value))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nothing)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nothing)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl<'de> Scalar<'de> {
    fn text(self) -> Cow<'de, str> {
        match self {
            Self::Text(value) => value,
            Self::Integer(value) => value.to_string().into(),
            Self::Float(value) => value.to_string().into(),
            Self::Bool(value) => value.to_string().into(),
            Self::Nothing => "".into(),
        }
    }

    fn into_text(self) -> String {
        self.text().into_owned()
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

/// A float as an integer, where it is one that a float can hold exactly.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "within 2^53")]
    (value.abs() <= EXACT).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn from_value<T: Read>(value: &Value) -> serde_json::Result<T> {
        read(value.to_string().as_bytes())
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
        let (envelope, page) = answer::<TaskResultPage>(SAMPLE.as_bytes()).expect("an answer");
        assert!(envelope.is_success());
        assert_eq!(envelope.request_id, "30D2EC43-5E7D-4C0C-9FA5-D8E2D8D1F0B4");
        assert_eq!((page.page_size, page.total_count), (Some(30), Some(1)));
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
            (json!(1.25), "1.25"),
            (json!(20), "20"),
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
            let tags: Vec<_> = page.task_results.iter().map(|row| row.tag).collect();
            prop_assert_eq!(tags, ["v1"]);
        }
    }
}
