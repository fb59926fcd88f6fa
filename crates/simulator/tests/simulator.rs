//! The simulated cloud over real sockets, from a client's side.

use std::borrow::Cow;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use alibaba_cloud::signing::{self, Algorithm, Key, Request, Signed, acs3};
use serde_json::{Value, json};
use simulator::faults::{Fault, FaultRule};
use simulator::world::{RowSpec, RuleSpec, Source, TaskSpec, load_task_id};
use simulator::{AccessKey, Error, Running, Simulator, SimulatorConfig, World, demo};

/// 2026-01-02T03:04:05Z
const NOW: i64 = 1_767_323_045_000;
const INSTANCE: &str = "cri-90fxryf9pwf0abcd";
const TASK: &str = "crast-y64sq01bgad0abcd";
const BOTH: [Algorithm; 2] = [Algorithm::Acs3, Algorithm::HmacSha1];
const KEY: Key<'static> = Key {
    id: demo::KEY_ID,
    secret: demo::KEY_SECRET,
    token: None,
};

fn small_world() -> World {
    let source = Source::new("DOCKER_HUB", "library/nginx", "mirror/nginx");
    World::new()
        .instance(INSTANCE, "cn-hangzhou")
        .rule(RuleSpec::new("crasr-a", &source, NOW - 9_000))
        .task(
            TaskSpec::succeeded(TASK, NOW - 5_000, NOW - 1_000)
                .source(&source)
                .row(RowSpec::succeeded(
                    "mirror",
                    "nginx",
                    "1.27",
                    NOW - 5_000,
                    NOW - 3_000,
                ))
                .row(RowSpec::failed(
                    "mirror",
                    "nginx",
                    "1.28",
                    NOW - 3_000,
                    NOW - 1_000,
                )),
        )
}

fn start(world: World) -> Running {
    Simulator::start(SimulatorConfig {
        clock: Clock::fixed(NOW),
        world,
        ..SimulatorConfig::default()
    })
    .expect("the simulator starts")
}

/// A nonce of its own for each call.
fn nonce() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("nonce-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        let body = self.json();
        assert_eq!(
            (self.status, &body["Code"]),
            (status, &json!(code)),
            "{body}"
        );
        let names: Vec<_> = body.as_object().expect("an object").keys().collect();
        let shape = ["Code", "HostId", "Message", "Recommend", "RequestId"];
        assert_eq!(names, shape);
        assert_eq!(
            body["RequestId"],
            self.header("x-acs-request-id").expect("sent")
        );
    }
}

/// A connection that is kept.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("connects");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) {
        let mut request = Vec::new();
        let mut line = |text: std::fmt::Arguments<'_>| request.write_fmt(text).expect("memory");
        line(format_args!("{method} {target} HTTP/1.1\r\n"));
        for (name, value) in headers {
            line(format_args!("{name}: {value}\r\n"));
        }
        line(format_args!("content-length: {}\r\n\r\n{body}", body.len()));
        self.0.get_mut().write_all(&request).expect("sent");
    }

    /// The head of an answer, or nothing where the connection was closed.
    fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let mut line = String::new();
        if self.0.read_line(&mut line).expect("a status line") == 0 {
            return None;
        }
        let status = line.split(' ').nth(1).expect("a status").parse();
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a header");
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None => return Some((status.expect("a number"), headers)),
            }
        }
    }

    fn receive(&mut self) -> Option<Answer> {
        let (status, headers) = self.head()?;
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = answer.header("content-length").expect("a length").parse();
        answer.body.resize(length.expect("a number"), 0);
        self.0.read_exact(&mut answer.body).expect("the body");
        Some(answer)
    }

    fn sent(&mut self, method: &str, host: &str, signed: &Signed, more: &[(&str, &str)]) {
        let mut headers = vec![("host", host)];
        headers.extend(signed.headers.iter().map(|(name, value)| (*name, &**value)));
        headers.extend(more);
        self.send(
            method,
            &format!("/?{}", signed.query),
            &headers,
            &signed.body,
        );
    }
}

/// How a call differs from a correct one.
struct Call<'a> {
    algorithm: Algorithm,
    method: &'a str,
    key: Key<'a>,
    time: i64,
    nonce: Option<&'a str>,
    version: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

impl Call<'_> {
    const fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            method: "GET",
            key: KEY,
            time: NOW,
            nonce: None,
            version: "2018-12-01",
            headers: &[],
        }
    }

    fn sign(&self, host: &str, action: &str, inputs: &[(&str, &str)]) -> Signed {
        let params: Vec<_> = inputs.iter().map(|&(n, v)| (n, Cow::Borrowed(v))).collect();
        let request = Request {
            method: self.method,
            host,
            action,
            version: self.version,
            params: &params,
            form: &[],
        };
        let nonce = self.nonce.map_or_else(nonce, str::to_owned);
        signing::sign(self.algorithm, &request, &self.key, self.time, &nonce)
    }

    fn to(&self, running: &Running, action: &str, inputs: &[(&str, &str)]) -> Answer {
        let mut client = Client::connect(running.addr());
        let host = running.addr().to_string();
        let signed = self.sign(&host, action, inputs);
        client.sent(self.method, &host, &signed, self.headers);
        client.receive().expect("an answer")
    }
}

fn get(running: &Running, action: &str, inputs: &[(&str, &str)]) -> Value {
    let answer = Call::new(Algorithm::Acs3).to(running, action, inputs);
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

fn rows(running: &Running, page: &str, size: &str) -> Value {
    get(
        running,
        "GetArtifactSubscriptionTaskResult",
        &[
            ("InstanceId", World::LOAD_INSTANCE),
            ("TaskId", &load_task_id(0)),
            ("PageNo", page),
            ("PageSize", size),
        ],
    )
}

#[test]
fn both_signatures_are_accepted_for_get_and_post() {
    let running = start(small_world());
    for algorithm in BOTH {
        for method in ["GET", "POST"] {
            let call = Call {
                method,
                ..Call::new(algorithm)
            };
            let inputs = [("InstanceName", "镜像 *+/~")];
            let answer = call.to(&running, "ListInstance", &inputs);
            assert_eq!(answer.status, 200, "{}", answer.json());
            assert_eq!(answer.json()["TotalCount"], 0);
            assert_eq!(answer.header("date"), Some("Fri, 02 Jan 2026 03:04:05 GMT"));
            assert_eq!(
                answer.header("x-acs-request-id"),
                answer.json()["RequestId"].as_str()
            );
        }
    }
}

#[test]
fn wrong_keys_dates_and_versions_are_refused() {
    let running = start(small_world());
    for algorithm in BOTH {
        let call = || Call::new(algorithm);
        let refused = |call: Call<'_>, status, code| {
            call.to(&running, "ListInstance", &[]).refused(status, code);
        };
        let key = Key {
            secret: "wrong",
            ..KEY
        };
        refused(Call { key, ..call() }, 400, "SignatureDoesNotMatch");
        let key = Key {
            id: "unknown",
            ..KEY
        };
        refused(Call { key, ..call() }, 404, "InvalidAccessKeyId.NotFound");
        let key = Key {
            token: Some("t"),
            ..KEY
        };
        let code = "InvalidSecurityToken.MismatchWithAccessKey";
        refused(Call { key, ..call() }, 400, code);
        for off in [901_000, -901_000] {
            let time = NOW + off;
            refused(Call { time, ..call() }, 400, "InvalidTimeStamp.Expired");
        }
        let version = "2016-06-07";
        refused(Call { version, ..call() }, 400, "InvalidVersion");
        let answer = call().to(&running, "DeleteInstance", &[]);
        answer.refused(404, "InvalidAction.NotFound");

        let time = NOW + 900_000;
        let answer = Call { time, ..call() }.to(&running, "ListInstance", &[]);
        assert_eq!(answer.status, 200, "a quarter of an hour is allowed");
    }
}

#[test]
fn a_token_is_part_of_its_key() {
    let running = Simulator::start(SimulatorConfig {
        clock: Clock::fixed(NOW),
        keys: vec![AccessKey {
            token: Some("to+ken/=".to_owned()),
            ..AccessKey::new("STS.id", "secret")
        }],
        ..SimulatorConfig::default()
    })
    .expect("the simulator starts");
    for algorithm in BOTH {
        let mut call = Call::new(algorithm);
        for (token, status) in [(Some("to+ken/="), 200), (Some("old"), 400), (None, 400)] {
            call.key = Key {
                id: "STS.id",
                secret: "secret",
                token,
            };
            assert_eq!(
                call.to(&running, "ListInstance", &[]).status,
                status,
                "{token:?}"
            );
        }
    }
}

#[test]
fn a_nonce_is_good_once() {
    let running = start(small_world());
    for algorithm in BOTH {
        let used = format!("{algorithm:?}");
        let call = Call {
            nonce: Some(&used),
            ..Call::new(algorithm)
        };
        assert_eq!(call.to(&running, "ListInstance", &[]).status, 200);
        call.to(&running, "ListInstance", &[])
            .refused(400, "SignatureNonceUsed");
    }
}

#[test]
fn what_was_changed_on_the_way_is_refused() {
    let running = start(small_world());
    let host = running.addr().to_string();
    for algorithm in BOTH {
        let mut client = Client::connect(running.addr());
        let mut try_with = |change: &dyn Fn(&mut Signed)| {
            let mut signed = Call::new(algorithm).sign(&host, "ListInstance", &[("PageNo", "1")]);
            change(&mut signed);
            client.sent("GET", &host, &signed, &[]);
            client.receive().expect("an answer")
        };
        assert_eq!(try_with(&|_| {}).status, 200);
        try_with(&|s| s.query = s.query.replace("PageNo=1", "PageNo=2"))
            .refused(400, "SignatureDoesNotMatch");
        try_with(&|s| s.query.push_str("&PageSize=1")).refused(400, "SignatureDoesNotMatch");
    }
    let mut client = Client::connect(running.addr());
    let mut try_with = |change: &dyn Fn(&mut Signed), more: &[(&str, &str)]| {
        let mut signed = Call::new(Algorithm::Acs3).sign(&host, "ListInstance", &[]);
        change(&mut signed);
        client.sent("GET", &host, &signed, more);
        client.receive().expect("an answer")
    };
    try_with(&|s| s.body = "a".to_owned(), &[]).refused(400, "SignatureDoesNotMatch");
    try_with(&|_| {}, &[("x-acs-extra", "1")]).refused(400, "IncompleteSignature");
    try_with(&|s| s.headers[2].1 = "today".to_owned(), &[]).refused(400, "InvalidTimeStamp.Format");
    for name in [
        "x-acs-date",
        "x-acs-signature-nonce",
        "x-acs-content-sha256",
        "x-acs-action",
    ] {
        try_with(&|s| s.headers.retain(|(n, _)| *n != name), &[]).refused(400, "MissingParameter");
    }
    try_with(&|s| s.headers.clear(), &[]).refused(400, "MissingParameter");
    assert_eq!(try_with(&|_| {}, &[("accept", "*/*")]).status, 200);
}

#[test]
fn what_should_be_signed_and_is_not_is_refused() {
    let running = start(small_world());
    let host = running.addr().to_string();
    let body = "PageNo=1";
    let (hash, nonces) = (
        acs3::content_sha256(body.as_bytes()),
        [nonce(), nonce(), nonce()],
    );
    let mut client = Client::connect(running.addr());
    for (left_out, nonce) in ["", "host", "content-type"].into_iter().zip(&nonces) {
        let mut headers = vec![
            ("host", &*host),
            ("content-type", signing::FORM),
            ("x-acs-action", "ListInstance"),
            ("x-acs-version", "2018-12-01"),
            ("x-acs-date", "2026-01-02T03:04:05Z"),
            ("x-acs-signature-nonce", nonce),
            ("x-acs-content-sha256", &hash),
        ];
        let signed: Vec<_> = headers
            .iter()
            .copied()
            .filter(|(n, _)| *n != left_out)
            .collect();
        let names = acs3::signed_headers(&signed);
        let lines = acs3::canonical_headers(&signed);
        let canonical = acs3::canonical_request("POST", "", &lines, &names, &hash);
        let signature = acs3::signature(demo::KEY_SECRET, &acs3::string_to_sign(&canonical));
        let authorization = acs3::authorization(demo::KEY_ID, &names, &signature);
        headers.push(("authorization", &authorization));
        client.send("POST", "/", &headers, body);
        let answer = client.receive().expect("an answer");
        if left_out.is_empty() {
            assert_eq!(answer.status, 200, "{}", answer.json());
        } else {
            answer.refused(400, "IncompleteSignature");
        }
    }
}

#[test]
fn inputs_in_a_form_are_read_and_their_signature_is_checked() {
    let running = start(small_world());
    let host = running.addr().to_string();
    let mut client = Client::connect(running.addr());
    for algorithm in BOTH {
        let request = Request {
            method: "POST",
            host: &host,
            action: "ListArtifactSubscriptionTask",
            version: "2018-12-01",
            params: &[],
            form: &[("InstanceId", INSTANCE.into())],
        };
        let mut signed = signing::sign(algorithm, &request, &KEY, NOW, &nonce());
        client.sent("POST", &host, &signed, &[]);
        let answer = client.receive().expect("an answer").json();
        assert_eq!(answer["Tasks"][0]["TaskId"], TASK, "{algorithm:?} {answer}");
        signed.body.push('x');
        client.sent("POST", &host, &signed, &[]);
        let answer = client.receive().expect("an answer");
        answer.refused(400, "SignatureDoesNotMatch");
    }
}

#[test]
fn the_older_scheme_answers_xml_unless_json_is_asked_for() {
    let running = start(small_world());
    let host = running.addr().to_string();
    let signed = Call::new(Algorithm::HmacSha1).sign(&host, "ListInstance", &[]);
    let mut client = Client::connect(running.addr());
    let query = signed.query.replace("Format=JSON&", "");
    client.send("GET", &format!("/?{query}"), &[("host", &host)], "");
    let answer = client.receive().expect("an answer");
    assert_eq!(
        answer.header("content-type"),
        Some("text/xml;charset=utf-8")
    );
    let body = String::from_utf8(answer.body).expect("text");
    assert!(
        body.contains("<Error><Code>SignatureDoesNotMatch</Code>"),
        "{body}"
    );
}

#[test]
fn rows_have_integer_times_and_the_ids() {
    let running = start(small_world());
    let inputs = [("InstanceId", INSTANCE), ("TaskId", TASK)];
    let mut answer = get(&running, "GetArtifactSubscriptionTaskResult", &inputs);
    let id = answer["RequestId"].take();
    assert_eq!(id.as_str().map(str::len), Some(36), "{id}");
    assert_eq!(
        answer,
        json!({
            "RequestId": null, "Code": "success", "IsSuccess": true,
            "PageNo": 1, "PageSize": 30, "TotalCount": 2,
            "TaskResults": [
                {
                    "InstanceId": INSTANCE, "TaskId": TASK,
                    "NamespaceName": "mirror", "RepoName": "nginx", "Tag": "1.27",
                    "Status": "COMPLETED", "Result": "SUCCESS",
                    "StartTime": 1_767_323_040_000_i64, "EndTime": 1_767_323_042_000_i64,
                },
                {
                    "InstanceId": INSTANCE, "TaskId": TASK,
                    "NamespaceName": "mirror", "RepoName": "nginx", "Tag": "1.28",
                    "Status": "COMPLETED", "Result": "FAILED",
                    "StartTime": 1_767_323_042_000_i64, "EndTime": 1_767_323_044_000_i64,
                },
            ],
        })
    );
}

#[test]
fn a_task_has_integer_times_alone_and_strings_in_a_list() {
    let running = start(small_world());
    let inputs = [("InstanceId", INSTANCE), ("TaskId", TASK)];
    let one = get(&running, "GetArtifactSubscriptionTask", &inputs);
    assert_eq!(one["StartTime"], 1_767_323_040_000_i64);
    assert_eq!(one["TaskResult"], "SUCCESS");
    assert_eq!(one["SourceRepoName"], "nginx");
    assert_eq!(one["IsSuccess"], true);
    let list = get(&running, "ListArtifactSubscriptionTask", &inputs[..1]);
    assert_eq!(list["Tasks"][0]["TaskId"], TASK);
    assert_eq!(list["Tasks"][0]["StartTime"], "1767323040000");
    assert_eq!(list["Tasks"][0]["EndTime"], "1767323044000");
    assert_eq!(list["TotalCount"], 1);
}

#[test]
fn rules_and_instances_are_listed() {
    let running = start(
        small_world()
            .instance("cri-b", "cn-beijing")
            .set("InstanceStatus", "STOPPED"),
    );
    let inputs = [("InstanceId", INSTANCE), ("RuleId", "crasr-a")];
    let list = get(&running, "ListArtifactSubscriptionRule", &inputs[..1]);
    assert_eq!(list["Rules"][0]["RuleId"], "crasr-a");
    assert_eq!(list["Rules"][0]["CreateTime"], 1_767_323_036_000_i64);
    let one = get(&running, "GetArtifactSubscriptionRule", &inputs);
    assert_eq!(one["TagRegexp"], list["Rules"][0]["TagRegexp"]);
    let all = get(&running, "ListInstance", &[]);
    assert_eq!(all["TotalCount"], 2);
    assert!(all["Instances"][0]["CreateTime"].is_string());
    let stopped = get(&running, "ListInstance", &[("InstanceStatus", "STOPPED")]);
    assert_eq!(stopped["TotalCount"], 1);
    assert_eq!(stopped["Instances"][0]["InstanceId"], "cri-b");
}

#[test]
fn what_does_not_exist_is_told_in_the_originals_ways() {
    let running = start(small_world());
    let call = Call::new(Algorithm::Acs3);
    for action in [
        "GetArtifactSubscriptionTaskResult",
        "GetArtifactSubscriptionTask",
        "ListArtifactSubscriptionTask",
        "ListArtifactSubscriptionRule",
        "GetArtifactSubscriptionRule",
    ] {
        let inputs = [
            ("InstanceId", "cri-x"),
            ("TaskId", TASK),
            ("RuleId", "crasr-a"),
        ];
        let answer = get(&running, action, &inputs);
        assert_eq!(answer["IsSuccess"], false, "{action}");
        assert_eq!(answer["Code"], "INSTANCE_NOT_EXIST", "{action}");
        call.to(&running, action, &[])
            .refused(400, "MissingParameter");
    }
    let inputs = [
        ("InstanceId", INSTANCE),
        ("TaskId", "crast-x"),
        ("RuleId", "crasr-x"),
    ];
    for action in [
        "GetArtifactSubscriptionTaskResult",
        "GetArtifactSubscriptionTask",
    ] {
        call.to(&running, action, &inputs)
            .refused(404, "TASK_NOT_EXIST");
        call.to(&running, action, &inputs[..1])
            .refused(400, "MissingParameter");
    }
    let answer = call.to(&running, "GetArtifactSubscriptionRule", &inputs);
    answer.refused(404, "RULE_NOT_EXIST");
}

#[test]
fn pages_are_cut_as_asked_up_to_a_hundred() {
    let running = start(World::load(1, 250, NOW));
    let seen = |page: &str, size: &str| {
        let answer = rows(&running, page, size);
        let tags: Vec<_> = answer["TaskResults"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["Tag"].as_str().expect("a tag").to_owned())
            .collect();
        assert_eq!(answer["TotalCount"], 250);
        let ends = tags.first().cloned().zip(tags.last().cloned());
        (tags.len(), ends, answer["PageSize"].clone())
    };
    let ends = |first: &str, last: &str| Some((first.to_owned(), last.to_owned()));
    assert_eq!(seen("", ""), (30, ends("v1.0", "v1.29"), json!(30)));
    assert_eq!(seen("3", "100"), (50, ends("v1.200", "v1.249"), json!(100)));
    assert_eq!(
        seen("2", "500"),
        (100, ends("v1.100", "v1.199"), json!(100))
    );
    assert_eq!(seen("4", "100"), (0, None, json!(100)));
    let inputs = [("InstanceId", World::LOAD_INSTANCE), ("PageNo", "0")];
    let answer = Call::new(Algorithm::Acs3).to(&running, "ListArtifactSubscriptionTask", &inputs);
    answer.refused(400, "InvalidPageNo");
}

#[test]
fn a_test_can_send_any_value_and_change_the_world_meanwhile() {
    let running = start(small_world());
    let odd = TaskSpec::new("crast-odd").set("StartTime", json!([1])).row(
        RowSpec::new("a", "b", "c")
            .set("StartTime", "17")
            .set("EndTime", Value::Null)
            .set("Status", 7)
            .without("Tag"),
    );
    running.update(|world| world.put_task(INSTANCE, odd));
    let inputs = [("InstanceId", INSTANCE), ("TaskId", "crast-odd")];
    let answer = get(&running, "GetArtifactSubscriptionTaskResult", &inputs);
    assert_eq!(
        answer["TaskResults"],
        json!([{
            "InstanceId": INSTANCE, "TaskId": "crast-odd", "NamespaceName": "a", "RepoName": "b",
            "StartTime": "17", "EndTime": null, "Status": 7,
        }])
    );
    let list = get(&running, "ListArtifactSubscriptionTask", &inputs[..1]);
    assert_eq!(list["Tasks"][1]["StartTime"], json!([1]));
    assert!(running.update(|world| world.remove_task(INSTANCE, "crast-odd")));
    let call = Call::new(Algorithm::Acs3);
    call.to(&running, "GetArtifactSubscriptionTask", &inputs)
        .refused(404, "TASK_NOT_EXIST");
}

#[test]
fn faults_strike_what_they_match_as_often_as_told() {
    let running = start(small_world());
    let call = Call::new(Algorithm::Acs3);
    let fault = Fault::Error {
        status: 503,
        code: "ServiceUnavailable".to_owned(),
        message: "The request has failed due to a temporary failure of the server.".to_owned(),
    };
    running.add_fault(
        FaultRule::new(fault)
            .action("ListArtifactSubscriptionTask")
            .times(2),
    );
    let inputs = [("InstanceId", INSTANCE), ("TaskId", TASK)];
    let list = || call.to(&running, "ListArtifactSubscriptionTask", &inputs[..1]);
    assert_eq!(get(&running, "ListInstance", &[])["IsSuccess"], true);
    list().refused(503, "ServiceUnavailable");
    list().refused(503, "ServiceUnavailable");
    assert_eq!(list().status, 200);

    let of_task = FaultRule::new(Fault::EmptyBody)
        .instance(INSTANCE)
        .task(TASK)
        .page(2);
    running.add_fault(of_task);
    let with_page = |page| {
        let inputs = [inputs[0], inputs[1], ("PageNo", page)];
        call.to(&running, "GetArtifactSubscriptionTaskResult", &inputs)
    };
    assert!(!with_page("1").body.is_empty());
    for _ in 0..3 {
        assert!(with_page("2").body.is_empty());
    }
    running.clear_faults();
    assert!(!with_page("2").body.is_empty());
}

#[test]
fn each_kind_of_fault_does_what_it_says() {
    let running = start(small_world());
    let with = |fault: &str| {
        let headers = [("x-sim-fault", fault)];
        let call = Call {
            headers: &headers,
            ..Call::new(Algorithm::Acs3)
        };
        call.to(&running, "ListInstance", &[])
    };
    with("error").refused(500, "ServiceUnavailable");
    let refused = with("refused");
    assert_eq!(refused.status, 200);
    assert_eq!(refused.json()["IsSuccess"], false);
    assert_eq!(refused.json()["Code"], "INSTANCE_STATUS_NOT_SUPPORT");

    let throttled =
        with(r#"{"kind":"throttle","retry_after_ms":250,"time_left_ms":2000,"retry_after_s":3}"#);
    throttled.refused(400, "Throttling.User");
    assert_eq!(throttled.header("x-acs-retry-after"), Some("250"));
    assert_eq!(throttled.header("retry-after"), Some("3"));
    let rate = throttled.header("x-ratelimit-user-api").expect("sent");
    assert!(rate.contains("TimeLeft:2000"), "{rate}");

    let html = with("html_page");
    assert_eq!(html.status, 502);
    assert!(html.body.starts_with(b"<html>"));
    let xml = with("xml_error");
    assert_eq!(xml.status, 500);
    assert!(String::from_utf8_lossy(&xml.body).contains("<Code>ServiceUnavailable</Code>"));
    assert_eq!(with("empty_body").body, b"");
    let garbage = with("garbage");
    assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());
    assert_eq!(garbage.status, 200);
    with("nonsense").refused(400, "InvalidFault");

    let ahead = with(r#"{"kind":"clock_skew","seconds":60}"#);
    assert_eq!(ahead.status, 200);
    assert_eq!(ahead.header("date"), Some("Fri, 02 Jan 2026 03:05:05 GMT"));
    let far = with("clock_skew");
    far.refused(400, "InvalidTimeStamp.Expired");
    assert_eq!(far.header("date"), Some("Fri, 02 Jan 2026 04:04:05 GMT"));

    let begun = std::time::Instant::now();
    assert_eq!(with(r#"{"kind":"slow","ms":40}"#).status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(40));
}

/// One connection with a request that meets `fault`.
fn struck(running: &Running, fault: &str) -> Client {
    let host = running.addr().to_string();
    let signed = Call::new(Algorithm::Acs3).sign(&host, "ListInstance", &[]);
    let mut client = Client::connect(running.addr());
    client.sent("GET", &host, &signed, &[("x-sim-fault", fault)]);
    client
}

#[test]
fn faults_of_the_connection_break_it() {
    let running = start(small_world());
    assert!(struck(&running, "drop").receive().is_none());

    let mut client = struck(&running, "half_body");
    let (status, headers) = client.head().expect("a head");
    assert_eq!(status, 200);
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.expect("announced").1.parse().expect("a number");
    let mut body = Vec::new();
    client.0.read_to_end(&mut body).expect("an end");
    assert_eq!(body.len(), length / 2);

    let mut client = struck(&running, r#"{"kind":"oversized","bytes":1000000}"#);
    client.head().expect("a head");
    let mut body = vec![0; 1_000_000];
    client.0.read_exact(&mut body).expect("so much at least");
}

#[test]
fn a_hanging_request_is_seen_and_dropped_by_a_stop() {
    let running = start(small_world());
    let mut client = struck(&running, "hang");
    while running.requests().total == 0 {
        std::thread::yield_now();
    }
    let seen = running.requests().requests;
    assert_eq!(seen[0].fault, Some(Fault::Hang));
    assert_eq!(seen[0].status, None);
    running.stop();
    assert!(client.receive().is_none());
}

#[test]
fn a_stop_closes_the_door_and_idle_connections() {
    let running = start(small_world());
    let addr = running.addr();
    let host = addr.to_string();
    let mut client = Client::connect(addr);
    let signed = Call::new(Algorithm::Acs3).sign(&host, "ListInstance", &[]);
    client.sent("GET", &host, &signed, &[]);
    assert_eq!(client.receive().expect("an answer").status, 200);
    running.stop();
    assert!(client.receive().is_none(), "closed");
    TcpStream::connect(addr).expect_err("nobody listens");

    let running = start(small_world());
    let addr = running.addr();
    drop(running);
    TcpStream::connect(addr).expect_err("nobody listens");
}

#[test]
fn requests_and_connections_are_counted() {
    let running = start(small_world());
    let host = running.addr().to_string();
    let mut client = Client::connect(running.addr());
    let call = Call::new(Algorithm::HmacSha1);
    let inputs = [("InstanceId", INSTANCE), ("TaskId", TASK), ("PageNo", "2")];
    for (action, inputs) in [
        ("ListInstance", &inputs[..0]),
        ("GetArtifactSubscriptionTaskResult", &inputs[..]),
        ("ListInstance", &inputs[..0]),
        ("Nonsense", &inputs[..0]),
    ] {
        let signed = call.sign(&host, action, inputs);
        client.sent("GET", &host, &signed, &[]);
        client.receive().expect("an answer");
    }
    let requests = running.requests();
    assert_eq!(requests.connections, 1, "kept alive");
    assert_eq!(requests.total, 4);
    assert_eq!(requests.count("ListInstance"), 2);
    assert_eq!(requests.count("other"), 1);
    assert_eq!(requests.max_in_flight, 1);
    let page = &requests.requests[1];
    assert_eq!(
        page.action.as_deref(),
        Some("GetArtifactSubscriptionTaskResult")
    );
    assert_eq!(page.instance_id.as_deref(), Some(INSTANCE));
    assert_eq!(page.task_id.as_deref(), Some(TASK));
    assert_eq!(page.page_no.as_deref(), Some("2"));
    assert_eq!(page.key_id.as_deref(), Some(demo::KEY_ID));
    assert_eq!(page.algorithm, Some("hmac-sha1"));
    assert_eq!(
        (page.status, page.code.as_deref()),
        (Some(200), Some("success"))
    );
    assert_eq!(page.time, NOW);
    running.clear_requests();
    assert_eq!(running.requests().total, 0);
}

#[test]
fn the_control_path_drives_it_from_another_process() {
    let running = start(small_world());
    let mut client = Client::connect(running.addr());
    let mut control = |method: &str, path: &str, body: &str| {
        client.send(method, path, &[("host", "simulator")], body);
        let answer = client.receive().expect("an answer");
        (answer.status, answer.json())
    };
    let rule = r#"{"action":"ListInstance","count":1,"fault":{"kind":"error","status":418,"code":"Teapot"}}"#;
    let (status, rules) = control("POST", "/_sim/faults", rule);
    assert_eq!(status, 200);
    assert_eq!(rules[0]["fault"]["code"], "Teapot");
    let call = Call::new(Algorithm::Acs3);
    call.to(&running, "ListInstance", &[])
        .refused(418, "Teapot");
    assert_eq!(control("GET", "/_sim/faults", ""), (200, json!([])));
    control("POST", "/_sim/faults", r#"{"fault":{"kind":"garbage"}}"#);
    assert_eq!(control("DELETE", "/_sim/faults", ""), (200, json!([])));
    assert_eq!(call.to(&running, "ListInstance", &[]).status, 200);

    let (_, requests) = control("GET", "/_sim/requests", "");
    assert_eq!(requests["counts"], json!({"ListInstance": 2}));
    assert_eq!(requests["connections"], 3);
    assert_eq!(requests["requests"][0]["status"], 418);
    assert_eq!(requests["requests"][0]["fault"]["kind"], "error");
    // The control's own, and one for each call.
    let (_, connections) = control("GET", "/_sim/connections", "");
    assert_eq!(
        (&connections["accepted"], &connections["used"]),
        (&json!(3), &json!(2))
    );
    let own = json!({"number": 1, "tls": false, "http": null, "requests": 0, "open": true});
    assert_eq!(connections["connections"][0], own);
    assert_eq!(connections["connections"][1]["http"], "HTTP/1.1");
    assert_eq!(connections["connections"][1]["requests"], 1);
    assert_eq!(requests["requests"][0]["connection"], 2);

    assert_eq!(control("DELETE", "/_sim/requests", "").1["total"], 0);
    let (_, connections) = control("GET", "/_sim/connections", "");
    assert_eq!(
        (&connections["accepted"], &connections["used"]),
        (&json!(0), &json!(0))
    );

    for (method, path, body, status) in [
        ("POST", "/_sim/faults", r#"{"fault":{"kind":"none"}}"#, 400),
        (
            "POST",
            "/_sim/faults",
            r#"{"acton":"x","fault":{"kind":"hang"}}"#,
            400,
        ),
        (
            "POST",
            "/_sim/faults",
            r#"{"fault":{"kind":"slow","seconds":1}}"#,
            400,
        ),
        ("PUT", "/_sim/faults", "", 405),
        ("GET", "/_sim/else", "", 404),
    ] {
        assert_eq!(
            control(method, path, body).0,
            status,
            "{method} {path} {body}"
        );
    }

    assert_eq!(control("DELETE", "/_sim/connections", "").0, 200);
    assert!(client.receive().is_none(), "a connection that was retired");
}

#[test]
fn it_listens_on_loopback_addresses_only() {
    let config = SimulatorConfig {
        listen: SocketAddr::from(([0, 0, 0, 0], 0)),
        ..SimulatorConfig::default()
    };
    let error = Simulator::start(config).expect_err("refused");
    assert!(matches!(error, Error::NotLoopback(_)), "{error}");

    let running = start(small_world());
    let config = SimulatorConfig {
        listen: running.addr(),
        ..SimulatorConfig::default()
    };
    let error = Simulator::start(config).expect_err("taken");
    assert!(matches!(error, Error::Listen { .. }), "{error}");
}

#[test]
fn the_demo_is_served_with_the_systems_clock() {
    let clock = Clock::system();
    let now = clock.now_millis();
    let running = Simulator::start(SimulatorConfig {
        world: World::demo(now),
        ..SimulatorConfig::default()
    })
    .expect("the simulator starts");
    let call = Call {
        time: now,
        ..Call::new(Algorithm::Acs3)
    };
    for (task, name) in demo::TASKS {
        let inputs = [("InstanceId", demo::INSTANCES[0].0), ("TaskId", task)];
        let answer = call.to(&running, "GetArtifactSubscriptionTaskResult", &inputs);
        assert_eq!(answer.status, 200, "{name}: {}", answer.json());
    }
}
