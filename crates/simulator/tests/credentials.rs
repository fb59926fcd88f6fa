//! The simulated cloud's temporary credentials over real sockets: STS, the
//! metadata service, the credentials URI, and that what they hand out is good
//! for exactly as long as they say.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use alibaba_cloud::signing::{self, Algorithm, Key, Request, Signed};
use serde_json::{Value, json};
use simulator::faults::{Fault, FaultRule};
use simulator::{AccessKey, Issued, Issuing, Metadata, Running, Simulator, SimulatorConfig, demo};

/// 2026-01-02T03:04:05Z
const NOW: i64 = 1_767_323_045_000;
const BOTH: [Algorithm; 2] = [Algorithm::Acs3, Algorithm::HmacSha1];
const OWN: Key<'static> = Key {
    id: demo::KEY_ID,
    secret: demo::KEY_SECRET,
    token: None,
};
const ROLE_ARN: &str = "acs:ram::123456789012:role/reader";
const PROVIDER_ARN: &str = "acs:ram::123456789012:oidc-provider/ack-rrsa-c1";
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
const TTL: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aliyun-ecs-metadata-token";

/// A cloud whose clock stands still until it is set.
struct Cloud {
    clock: Clock,
    running: Running,
}

fn cloud(issuing: Issuing) -> Cloud {
    let clock = Clock::fixed(NOW);
    let running = Simulator::start(SimulatorConfig {
        clock: clock.clone(),
        issuing,
        ..SimulatorConfig::default()
    })
    .expect("the simulator starts");
    Cloud { clock, running }
}

struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, &self.json()["Code"]),
            (status, &json!(code)),
            "{}",
            self.body
        );
        for name in ["RequestId", "HostId", "Message", "Recommend"] {
            assert!(self.json()[name].is_string(), "{name}: {}", self.body);
        }
    }

    #[track_caller]
    fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()
    }
}

/// The key in `Credentials` of STS, or in the flat answer of the others.
fn key_of(answer: &Value) -> AccessKey {
    let fields = answer.get("Credentials").unwrap_or(answer);
    let text = |name: &str| fields[name].as_str().expect(name).to_owned();
    AccessKey {
        token: Some(text("SecurityToken")),
        ..AccessKey::new(text("AccessKeyId"), text("AccessKeySecret"))
    }
}

fn borrowed(key: &AccessKey) -> Key<'_> {
    Key {
        id: &key.id,
        secret: &key.secret,
        token: key.token.as_deref(),
    }
}

/// A nonce of its own for each call.
fn nonce() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("nonce-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

type Inputs<'a> = &'a [(&'a str, &'a str)];

fn params(inputs: Inputs<'_>) -> Vec<signing::Param<'_>> {
    inputs.iter().map(|&(n, v)| (n, Cow::Borrowed(v))).collect()
}

impl Cloud {
    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.running.addr()).expect("connects");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.running.addr()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        Answer {
            status: head[9..12].parse().expect("a status"),
            body: body.to_owned(),
        }
    }

    fn signed(&self, method: &str, signed: &Signed) -> Answer {
        let headers: Vec<_> = signed.headers.iter().map(|(n, v)| (*n, &**v)).collect();
        self.send(
            method,
            &format!("/?{}", signed.query),
            &headers,
            &signed.body,
        )
    }

    fn list(&self, algorithm: Algorithm, key: Key<'_>) -> Answer {
        let host = self.running.addr().to_string();
        let request = Request {
            method: "GET",
            host: &host,
            action: "ListInstance",
            version: "2018-12-01",
            params: &[],
            form: &[],
        };
        let now = self.clock.now_millis();
        let signed = signing::sign(algorithm, &request, &key, now, &nonce());
        self.signed("GET", &signed)
    }

    #[track_caller]
    fn is_good(&self, key: &AccessKey) {
        for algorithm in BOTH {
            self.list(algorithm, borrowed(key)).ok();
        }
    }

    #[track_caller]
    fn is_over(&self, key: &AccessKey) {
        for algorithm in BOTH {
            self.list(algorithm, borrowed(key))
                .refused(400, "InvalidSecurityToken.Expired");
        }
    }

    fn assume(
        &self,
        algorithm: Algorithm,
        method: &str,
        key: Key<'_>,
        inputs: Inputs<'_>,
    ) -> Answer {
        let host = self.running.addr().to_string();
        let inputs = params(inputs);
        let (params, form) = match method {
            "POST" => (&[][..], &inputs[..]),
            _ => (&inputs[..], &[][..]),
        };
        let request = Request {
            method,
            host: &host,
            action: "AssumeRole",
            version: "2015-04-01",
            params,
            form,
        };
        let now = self.clock.now_millis();
        let signed = signing::sign(algorithm, &request, &key, now, &nonce());
        self.signed(method, &signed)
    }

    fn assume_with(&self, changed: Inputs<'_>) -> Answer {
        let mut inputs = vec![("RoleArn", ROLE_ARN), ("RoleSessionName", "s-1")];
        replace(&mut inputs, changed);
        self.assume(Algorithm::HmacSha1, "POST", OWN, &inputs)
    }

    fn oidc(&self, method: &str, changed: Inputs<'_>) -> Answer {
        let mut inputs = vec![
            ("RoleArn", ROLE_ARN),
            ("OIDCProviderArn", PROVIDER_ARN),
            ("OIDCToken", demo::OIDC_TOKEN),
            ("RoleSessionName", "s-1"),
            ("DurationSeconds", "900"),
        ];
        replace(&mut inputs, changed);
        let inputs = params(&inputs);
        let (params, form) = match method {
            "POST" => (&[][..], &inputs[..]),
            _ => (&inputs[..], &[][..]),
        };
        let request = Request {
            method,
            host: "ignored",
            action: "AssumeRoleWithOIDC",
            version: "2015-04-01",
            params,
            form,
        };
        self.signed(
            method,
            &signing::unsigned(&request, self.clock.now_millis()),
        )
    }

    fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let headers: Vec<_> = token.map(|token| (TOKEN, token)).into_iter().collect();
        self.send("GET", path, &headers, "")
    }

    fn metadata_token(&self, ttl: &str) -> Answer {
        self.send("PUT", "/latest/api/token", &[(TTL, ttl)], "")
    }

    fn role_path() -> String {
        format!("{ROLES}{}", demo::ROLE_NAME)
    }

    fn set(&self, change: impl FnOnce(&mut Issuing)) {
        self.running.update_issuing(change);
    }

    fn count(&self, action: &str) -> u64 {
        let counts = self.running.requests().counts;
        counts.get(action).copied().unwrap_or(0)
    }
}

/// An input that is empty now is left out.
fn replace<'a>(inputs: &mut Vec<(&'a str, &'a str)>, changed: Inputs<'a>) {
    for change in changed {
        inputs.retain(|(name, _)| *name != change.0);
        if !change.1.is_empty() {
            inputs.push(*change);
        }
    }
}

#[test]
fn a_role_is_assumed_with_both_signatures_in_query_and_form() {
    let cloud = cloud(Issuing::default());
    let policy = r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":"cr:Get*"}]}"#;
    let inputs = [
        ("RoleArn", ROLE_ARN),
        ("RoleSessionName", "ex.porter@pod_1-a"),
        ("DurationSeconds", "1800"),
        ("Policy", policy),
        ("ExternalId", "customer/7"),
    ];
    for algorithm in BOTH {
        for method in ["GET", "POST"] {
            let answer = cloud.assume(algorithm, method, OWN, &inputs).ok();
            assert_eq!(answer["Credentials"]["Expiration"], "2026-01-02T03:34:05Z");
            assert_eq!(
                answer["AssumedRoleUser"]["Arn"],
                "acs:ram::123456789012:assumed-role/reader/ex.porter@pod_1-a"
            );
            let key = key_of(&answer);
            assert!(key.id.starts_with("STS."), "{key:?}");
            cloud.is_good(&key);

            let issued = cloud.running.issued().pop().expect("one");
            assert_eq!(
                (&issued.key.id, issued.action, issued.signed_by.as_deref()),
                (&key.id, "AssumeRole", Some(demo::KEY_ID))
            );
            let seen: Vec<_> = issued.inputs.iter().map(|(n, v)| (*n, &**v)).collect();
            let mut sent = inputs.to_vec();
            sent.sort_unstable();
            assert_eq!(seen, sent);
        }
    }
    assert_eq!(cloud.count("AssumeRole"), 4);
}

#[test]
fn a_role_lives_an_hour_and_can_assume_the_next() {
    let cloud = cloud(Issuing::default());
    let first = cloud.assume_with(&[]).ok();
    assert_eq!(first["Credentials"]["Expiration"], "2026-01-02T04:04:05Z");
    let key = key_of(&first);
    for algorithm in BOTH {
        let inputs = [("RoleArn", ROLE_ARN), ("RoleSessionName", "next")];
        let next = cloud
            .assume(algorithm, "POST", borrowed(&key), &inputs)
            .ok();
        cloud.is_good(&key_of(&next));
        let issued = cloud.running.issued().pop().expect("one");
        assert_eq!(issued.signed_by.as_deref(), Some(&*key.id));
    }
}

#[test]
fn wrong_inputs_of_a_role_are_refused() {
    let cloud = cloud(Issuing::default());
    let refused = |name: &str, value: &str, code: &str| {
        cloud.assume_with(&[(name, value)]).refused(400, code);
    };
    refused("RoleArn", "", "MissingParameter");
    refused("RoleSessionName", "", "MissingParameter");
    for arn in [
        "reader",
        "acs:ram::123:user/reader",
        "acs:ram:::role/reader",
        "acs:ram::123:role/",
        "acs:ram::x:role/reader",
        "acs:ram::123:role/a b",
    ] {
        refused("RoleArn", arn, "InvalidParameter.RoleArn");
    }
    let long = "s".repeat(65);
    for session in ["s", "a b", "a:b", "ä-b", &long] {
        refused(
            "RoleSessionName",
            session,
            "InvalidParameter.RoleSessionName",
        );
    }
    for seconds in ["899", "43201", "-1", "1h"] {
        refused(
            "DurationSeconds",
            seconds,
            "InvalidParameter.DurationSeconds",
        );
    }
    for policy in ["{}", "no", r#"{"Version":"1","Statement":{}}"#] {
        refused("Policy", policy, "InvalidParameter.PolicyGrammar");
    }
    let long = " ".repeat(2049);
    refused("Policy", &long, "InvalidParameter.PolicySize");
    for id in ["a", "a b"] {
        refused("ExternalId", id, "InvalidParameter.ExternalId");
    }
    for good in ["900", "43200"] {
        cloud.assume_with(&[("DurationSeconds", good)]).ok();
    }
    let (short, long) = ("s".repeat(2), "s".repeat(64));
    for good in [&*short, &*long] {
        cloud.assume_with(&[("RoleSessionName", good)]).ok();
    }
    assert_eq!(cloud.running.issued().len(), 4, "none for what was refused");

    cloud.set(|issuing| issuing.min_duration = Duration::from_secs(2));
    let answer = cloud.assume_with(&[("DurationSeconds", "2")]).ok();
    assert_eq!(answer["Credentials"]["Expiration"], "2026-01-02T03:04:07Z");
}

#[test]
fn a_role_can_ask_for_an_external_id() {
    let cloud = cloud(Issuing {
        external_ids: [(ROLE_ARN.to_owned(), "customer-7".to_owned())].into(),
        ..Issuing::default()
    });
    cloud.assume_with(&[]).refused(403, "NoPermission");
    cloud
        .assume_with(&[("ExternalId", "customer-8")])
        .refused(403, "NoPermission");
    cloud.assume_with(&[("ExternalId", "customer-7")]).ok();
    let other = "acs:ram::123456789012:role/other";
    cloud.assume_with(&[("RoleArn", other)]).ok();
}

#[test]
fn sts_checks_keys_versions_and_products() {
    let cloud = cloud(Issuing::default());
    let inputs = [("RoleArn", ROLE_ARN), ("RoleSessionName", "s-1")];
    for algorithm in BOTH {
        let wrong = Key {
            secret: "wrong",
            ..OWN
        };
        cloud
            .assume(algorithm, "GET", wrong, &inputs)
            .refused(400, "SignatureDoesNotMatch");
        let unknown = Key {
            id: "STS.unknown",
            ..OWN
        };
        cloud
            .assume(algorithm, "POST", unknown, &inputs)
            .refused(404, "InvalidAccessKeyId.NotFound");
        // Each product knows its own operations only.
        for (action, version) in [
            ("AssumeRole", "2018-12-01"),
            ("ListInstance", "2015-04-01"),
            ("GetCallerIdentity", "2015-04-01"),
        ] {
            let host = cloud.running.addr().to_string();
            let request = Request {
                method: "GET",
                host: &host,
                action,
                version,
                params: &params(&inputs),
                form: &[],
            };
            let signed = signing::sign(algorithm, &request, &OWN, NOW, &nonce());
            let answer = cloud.signed("GET", &signed);
            answer.refused(404, "InvalidAction.NotFound");
        }
    }
    assert!(cloud.running.issued().is_empty());
}

#[test]
fn an_oidc_token_in_a_form_needs_no_signature() {
    let cloud = cloud(Issuing::default());
    let answer = cloud.oidc("POST", &[]).ok();
    assert_eq!(answer["Credentials"]["Expiration"], "2026-01-02T03:19:05Z");
    cloud.is_good(&key_of(&answer));
    let issued = cloud.running.issued().pop().expect("one");
    assert_eq!(issued.action, "AssumeRoleWithOIDC");
    assert_eq!(issued.inputs["OIDCProviderArn"], PROVIDER_ARN);
    assert!(!format!("{issued:?}").contains(demo::OIDC_TOKEN));
    assert_eq!(cloud.count("AssumeRoleWithOIDC"), 1);
}

#[test]
fn an_oidc_token_in_the_url_is_refused_unless_allowed() {
    let cloud = cloud(Issuing::default());
    cloud
        .oidc("GET", &[])
        .refused(400, "InvalidParameter.OIDCToken");
    cloud.set(|issuing| issuing.oidc_token_in_url = true);
    cloud.oidc("GET", &[]).ok();
}

#[test]
fn wrong_oidc_calls_are_refused() {
    let cloud = cloud(Issuing {
        oidc_tokens: vec!["first".to_owned(), "second".to_owned()],
        ..Issuing::default()
    });
    let refused = |name: &str, value: &str, code: &str| {
        let good = ("OIDCToken", "second");
        cloud
            .oidc("POST", &[good, (name, value)])
            .refused(400, code);
    };
    // One that was not trimmed, too.
    for token in ["third", "second\n"] {
        refused("OIDCToken", token, "AuthenticationFail.OIDCToken.Invalid");
    }
    for name in ["RoleArn", "OIDCProviderArn", "OIDCToken", "RoleSessionName"] {
        refused(name, "", "MissingParameter");
    }
    refused(
        "OIDCProviderArn",
        ROLE_ARN,
        "InvalidParameter.OIDCProviderArn",
    );
    refused("RoleArn", PROVIDER_ARN, "InvalidParameter.RoleArn");
    refused("DurationSeconds", "899", "InvalidParameter.DurationSeconds");
    cloud.oidc("POST", &[("OIDCToken", "second")]).ok();

    let form = "RoleArn=a&RoleSessionName=b";
    let ask = |query: &str| {
        let kind = [("content-type", signing::FORM)];
        cloud.send("POST", &format!("/?{query}"), &kind, form)
    };
    let call = "Action=AssumeRoleWithOIDC&Format=JSON";
    ask(call).refused(400, "MissingParameter");
    ask(&format!("{call}&Version=2015-04-01")).refused(400, "MissingParameter");
    ask(&format!(
        "{call}&Version=2018-12-01&Timestamp=2026-01-02T03%3A04%3A05Z"
    ))
    .refused(404, "InvalidAction.NotFound");
    ask(&format!(
        "{call}&Version=2015-04-01&Timestamp=2026-01-02T02%3A04%3A05Z"
    ))
    .refused(400, "InvalidTimeStamp.Expired");
    let xml = ask("Action=AssumeRoleWithOIDC&Version=2015-04-01");
    assert!(
        xml.body.contains("<Code>MissingParameter</Code>"),
        "{}",
        xml.body
    );
    // No other operation does without a signature.
    ask("Action=AssumeRole&Format=JSON&Version=2015-04-01").refused(400, "MissingParameter");
}

#[test]
fn the_metadata_service_answers_with_and_without_a_token() {
    let cloud = cloud(Issuing::default());
    let token = cloud.metadata_token("21600");
    assert_eq!(token.status, 200);
    for token in [None, Some(&*token.body)] {
        let role = cloud.get(ROLES, token);
        assert_eq!((role.status, &*role.body), (200, demo::ROLE_NAME));
        let answer = cloud.get(&Cloud::role_path(), token).ok();
        assert_eq!(
            (
                &answer["Code"],
                &answer["Expiration"],
                &answer["LastUpdated"]
            ),
            (
                &json!("Success"),
                &json!("2026-01-02T09:04:05Z"),
                &json!("2026-01-02T03:04:05Z")
            )
        );
        cloud.is_good(&key_of(&answer));
    }
    assert_eq!(cloud.get(ROLES, Some("wrong")).status, 403);
    assert_eq!(cloud.get(&format!("{ROLES}other"), None).status, 404);
    assert_eq!(cloud.get("/latest/api/token", None).status, 405);
    assert_eq!(cloud.send("POST", ROLES, &[], "").status, 405);
    for ttl in ["0", "21601", "long"] {
        assert_eq!(cloud.metadata_token(ttl).status, 400, "{ttl}");
    }
    let without = cloud.send("PUT", "/latest/api/token", &[], "");
    assert_eq!(without.status, 400);

    assert_eq!(
        ["MetadataToken", "MetadataRole", "MetadataCredentials"].map(|a| cloud.count(a)),
        [6, 4, 3]
    );
    let issued = cloud.running.issued();
    let of: Vec<_> = issued
        .iter()
        .map(|i| (i.action, &*i.inputs["RoleName"]))
        .collect();
    assert_eq!(of, [("MetadataCredentials", demo::ROLE_NAME); 2]);
}

#[test]
fn the_metadata_service_can_insist_on_tokens_and_not_know_them() {
    let cloud = cloud(Issuing {
        metadata: Metadata::TokenRequired,
        ..Issuing::default()
    });
    let token = cloud.metadata_token("60").body;
    for path in [ROLES, &Cloud::role_path()] {
        assert_eq!(cloud.get(path, None).status, 403);
        assert_eq!(cloud.get(path, Some("wrong")).status, 403);
        assert_eq!(cloud.get(path, Some(&token)).status, 200);
    }
    cloud.clock.set(NOW + 60_000);
    assert_eq!(cloud.get(ROLES, Some(&token)).status, 403, "its time is up");

    cloud.set(|issuing| issuing.metadata = Metadata::WithoutTokens);
    assert_eq!(cloud.metadata_token("60").status, 405);
    for token in [None, Some("whatever")] {
        assert_eq!(cloud.get(ROLES, token).status, 200);
    }

    cloud.set(|issuing| issuing.metadata = Metadata::Off);
    assert_eq!(cloud.metadata_token("60").status, 404);
    assert_eq!(cloud.get(ROLES, None).status, 404);
    assert_eq!(cloud.get(&Cloud::role_path(), None).status, 404);

    cloud.set(|issuing| {
        issuing.metadata = Metadata::TokenOptional;
        issuing.role_name = None;
    });
    assert_eq!(cloud.metadata_token("60").status, 200);
    assert_eq!(
        cloud.get(ROLES, None).status,
        404,
        "a machine without a role"
    );
}

#[test]
fn the_credentials_uri_answers_where_it_exists() {
    let cloud = cloud(Issuing::default());
    let url = cloud.running.credentials_uri();
    let path = url
        .strip_prefix(&cloud.running.url())
        .expect("on the same address");
    let answer = cloud.get(&format!("{path}?from=test"), None).ok();
    assert_eq!(answer["Code"], "Success");
    assert_eq!(answer["Expiration"], "2026-01-02T04:04:05Z");
    cloud.is_good(&key_of(&answer));
    assert_eq!(cloud.send("POST", path, &[], "").status, 405);
    cloud.set(|issuing| issuing.uri = false);
    assert_eq!(cloud.get(path, None).status, 404);
    assert_eq!(cloud.count("CredentialsUri"), 3);
}

#[test]
fn what_was_handed_out_ends_exactly_when_told() {
    let cloud = cloud(Issuing {
        lifetime: Some(Duration::from_secs(60)),
        ..Issuing::default()
    });
    let keys: Vec<_> = [
        cloud.assume_with(&[]),
        cloud.oidc("POST", &[]),
        cloud.get(&Cloud::role_path(), None),
        cloud.get("/credentials", None),
    ]
    .iter()
    .map(|answer| {
        let answer = answer.ok();
        let fields = answer.get("Credentials").unwrap_or(&answer);
        assert_eq!(fields["Expiration"], "2026-01-02T03:05:05Z");
        key_of(&answer)
    })
    .collect();
    cloud.clock.set(NOW + 59_999);
    for key in &keys {
        cloud.is_good(key);
    }
    cloud.clock.set(NOW + 60_000);
    for key in &keys {
        cloud.is_over(key);
        let inputs = [("RoleArn", ROLE_ARN), ("RoleSessionName", "s-1")];
        cloud
            .assume(Algorithm::Acs3, "POST", borrowed(key), &inputs)
            .refused(400, "InvalidSecurityToken.Expired");
    }
}

#[test]
fn what_was_handed_out_is_good_whole_only() {
    let cloud = cloud(Issuing::default());
    let Issued { key, .. } = cloud.running.issue(Duration::from_secs(900));
    let other = cloud.running.issue(Duration::from_secs(900)).key;
    let good = borrowed(&key);
    for algorithm in BOTH {
        let refused = |key, status, code| cloud.list(algorithm, key).refused(status, code);
        let token = None;
        refused(Key { token, ..good }, 400, "MissingSecurityToken");
        let token = Some("wrong");
        refused(Key { token, ..good }, 400, "InvalidSecurityToken.Malformed");
        let token = other.token.as_deref();
        let code = "InvalidSecurityToken.MismatchWithAccessKey";
        refused(Key { token, ..good }, 400, code);
        let secret = &other.secret;
        refused(Key { secret, ..good }, 400, "SignatureDoesNotMatch");
        let id = "STS.unknown";
        refused(Key { id, ..good }, 404, "InvalidAccessKeyId.NotFound");
    }
    cloud.is_good(&key);
}

#[test]
fn what_was_handed_out_can_be_revoked() {
    let cloud = cloud(Issuing::default());
    let hour = Duration::from_secs(3600);
    let [first, second, third] = [(); 3].map(|()| cloud.running.issue(hour).key);
    assert!(cloud.running.revoke(&second.id));
    assert!(!cloud.running.revoke("unknown"));
    cloud.is_good(&first);
    cloud.is_over(&second);
    cloud.running.revoke_all();
    cloud.is_over(&first);
    cloud.is_over(&third);
    cloud.is_good(&cloud.running.issue(hour).key);
}

#[test]
fn faults_strike_the_sources_of_credentials_too() {
    let cloud = cloud(Issuing::default());
    let role_path = Cloud::role_path();
    let fault = |fault, action: &str| {
        cloud.running.clear_faults();
        cloud
            .running
            .add_fault(FaultRule::new(fault).action(action));
    };
    fault(Fault::HtmlPage { status: 200 }, "Metadata");
    for answer in [
        cloud.metadata_token("60"),
        cloud.get(ROLES, None),
        cloud.get(&role_path, None),
    ] {
        assert!(answer.body.starts_with("<html>"), "{}", answer.body);
    }
    cloud.get("/credentials", None).ok();
    cloud.assume_with(&[]).ok();

    fault(Fault::Garbage, "MetadataCredentials");
    assert_eq!(cloud.get(ROLES, None).body, demo::ROLE_NAME);
    let garbage = cloud.get(&role_path, None);
    assert!(serde_json::from_str::<Value>(&garbage.body).is_err());

    fault(Fault::EmptyBody, "CredentialsUri");
    assert_eq!(cloud.get("/credentials", None).body, "");

    let busy = Fault::Error {
        status: 503,
        code: "ServiceUnavailable".to_owned(),
        message: String::new(),
    };
    fault(busy, "AssumeRoleWithOIDC");
    cloud.oidc("POST", &[]).refused(503, "ServiceUnavailable");
    cloud.assume_with(&[]).ok();

    let before = std::time::Instant::now();
    fault(Fault::Slow { ms: 300 }, "Metadata");
    assert_eq!(cloud.get(ROLES, None).status, 200);
    assert!(before.elapsed() >= Duration::from_millis(300));

    let faults: Vec<_> = cloud.running.requests().requests;
    let struck = faults.iter().filter(|seen| seen.fault.is_some()).count();
    assert_eq!(struck, 7);
}

#[test]
fn a_denial_says_what_is_missing() {
    let cloud = cloud(Issuing::default());
    let denied: Fault = serde_json::from_value(json!({"kind": "denied"})).expect("a fault");
    cloud.running.add_fault(FaultRule::new(denied));
    let answer = cloud.list(Algorithm::Acs3, OWN);
    answer.refused(403, "NoPermission");
    let body = answer.json();
    let detail = &body["AccessDeniedDetail"];
    assert_eq!(detail["AuthAction"], "cr:ListInstance");
    assert_eq!(detail["AuthPrincipalType"], "AssumedRoleUser");
    assert_eq!(detail["NoPermissionType"], "ImplicitDeny");
    let answer = cloud.assume_with(&[]);
    answer.refused(403, "NoPermission");
    assert_eq!(
        answer.json()["AccessDeniedDetail"]["AuthAction"],
        "sts:AssumeRole"
    );
}
