//! Messages as users of registries and container runtimes report them, and the
//! cause that an engineer on call would name.

use super::Cause::{Network, NotFound, Other, Quota, RateLimited, Unauthorized};
use super::*;

const MESSAGES: [(Cause, &str); 70] = [
    // Docker Hub
    (
        RateLimited,
        "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
    ),
    (
        RateLimited,
        "toomanyrequests: You have reached your unauthenticated pull rate limit.",
    ),
    (
        RateLimited,
        "httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/nginx/manifests/sha256:8d0b: 429 Too Many Requests - Server message: toomanyrequests",
    ),
    (
        RateLimited,
        "You have reached your pull limit; authenticate to raise it",
    ),
    (RateLimited, "ERROR: pull QPS exceeded"),
    (
        Unauthorized,
        "pull access denied for foo/bar, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
    ),
    (
        Unauthorized,
        "failed to resolve reference \"docker.io/library/controller:latest\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
    ),
    (Unauthorized, "unauthorized: incorrect username or password"),
    (Unauthorized, "unauthorized: authentication required"),
    (Unauthorized, "UNAUTHORIZED"),
    (Unauthorized, "unauthorised"),
    (
        Unauthorized,
        "unauthorized: your account must log in with a Personal Access Token (PAT)",
    ),
    (
        NotFound,
        "manifest for library/nginx:9.99 not found: manifest unknown: manifest unknown",
    ),
    (NotFound, "MANIFEST_UNKNOWN"),
    (NotFound, "manifest unknown"),
    (NotFound, "manifest for library/nginx:alpine-foo not found"),
    (
        NotFound,
        "failed to resolve reference \"docker.io/library/nginx:9.99\": docker.io/library/nginx:9.99: not found",
    ),
    (
        NotFound,
        "rpc error: code = NotFound desc = failed to pull and unpack image",
    ),
    (
        NotFound,
        "could not fetch content descriptor sha256:ab12 (application/vnd.docker.distribution.manifest.v2+json) from remote: not found",
    ),
    (
        NotFound,
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
    ),
    (
        NotFound,
        "no match for platform in manifest sha256:ab12: not found",
    ),
    // GCR and Artifact Registry
    (
        RateLimited,
        "toomanyrequests: Quota exceeded for quota metric 'Requests per project per region' and limit 'Requests per project per region per minute per region'",
    ),
    (
        RateLimited,
        "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service",
    ),
    (
        Unauthorized,
        "denied: Permission \"artifactregistry.repositories.downloadArtifacts\" denied on resource \"projects/p/locations/us/repositories/gcr.io\" (or it may not exist)",
    ),
    (
        Unauthorized,
        "Unauthenticated request. Unauthenticated requests do not have permission \"artifactregistry.repositories.downloadArtifacts\"",
    ),
    (
        Unauthorized,
        "robot@p.iam does not have permission storage.objects.get on the bucket",
    ),
    (NotFound, "name unknown: Repository \"gcr.io\" not found"),
    (
        NotFound,
        "Failed to fetch \"1.2.3\" from request \"/v2/google-containers/pause/manifests/1.2.3\": HTTP 404",
    ),
    // Quay
    (
        Unauthorized,
        "unauthorized: access to the requested resource is not authorized",
    ),
    (
        Unauthorized,
        "Error: reading manifest latest in quay.io/a/b: unauthorized",
    ),
    (
        NotFound,
        "reading manifest 1.0 in quay.io/a/b: manifest unknown",
    ),
    (
        NotFound,
        "Tag v1.2 was deleted or has expired. To pull, revive via time machine: manifest unknown",
    ),
    (Network, "received unexpected HTTP status: 502 Bad Gateway"),
    (
        Network,
        "received unexpected HTTP status: 503 Service Unavailable",
    ),
    (Network, "504 Gateway Time-out"),
    // Other registries
    (RateLimited, "toomanyrequests: Rate exceeded"),
    (RateLimited, "http status code: 429, body: retry later"),
    (
        Unauthorized,
        "http error: code 401, message {\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}",
    ),
    (
        Unauthorized,
        "failed to check the existence of the manifest on the destination registry: http status code: 401, body: ",
    ),
    (Unauthorized, "403 Forbidden"),
    (Unauthorized, "no basic auth credentials"),
    (
        Unauthorized,
        "denied: Your authorization token has expired. Reauthenticate and try again.",
    ),
    (
        Unauthorized,
        "error authorizing context: insufficient scope",
    ),
    (NotFound, "repository name not known to registry"),
    (NotFound, "NAME_UNKNOWN"),
    (NotFound, "The image does not exist"),
    (NotFound, "image not found"),
    (
        Quota,
        "denied: adding 1.3 GiB of storage resource, which when updated to current usage of 18.5 GiB will exceed the configured upper limit of 20.0 GiB",
    ),
    (Quota, "Project quota exceeded, current usage 100"),
    (Quota, "REPO_QUOTA_EXCEEDED"),
    (
        Quota,
        "write /var/lib/registry/blob: no space left on device",
    ),
    (Quota, "insufficient storage"),
    (
        Quota,
        "the number of repositories exceeds the maximum number of the edition",
    ),
    // The network between them
    (
        Network,
        "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io on 127.0.0.53:53: no such host",
    ),
    (
        Network,
        "Get \"https://gcr.io/v2/\": net/http: TLS handshake timeout",
    ),
    (
        Network,
        "Get \"https://quay.io/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
    ),
    (Network, "context deadline exceeded"),
    (Network, "read tcp 10.0.0.2:443: i/o timeout"),
    (Network, "connect: connection refused"),
    (Network, "read: connection reset by peer"),
    (Network, "unexpected EOF"),
    (Network, "connect: network is unreachable"),
    (Network, "connect: no route to host"),
    (Network, "Temporary failure in name resolution"),
    (Network, "getaddrinfo ENOTFOUND gcr.io"),
    (
        Network,
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
    ),
    (Network, "NETWORK_ERROR"),
    // What says nothing
    (Other, ""),
    (Other, "sync failed"),
    (
        Other,
        "failed to resolve reference \"docker.io/a/b:1.401\": unexpected status from HEAD request: 500 Internal Server Error",
    ),
];

#[test]
fn messages_of_registries_and_runtimes_have_the_cause_that_an_engineer_would_name() {
    let causes = Causes::default();
    let wrong: Vec<_> = MESSAGES
        .iter()
        .filter(|(expected, message)| causes.of(message) != *expected)
        .map(|(expected, message)| (expected, causes.of(message), message))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (expected, message) in MESSAGES {
        assert_eq!(causes.of(&message.to_uppercase()), expected, "{message}");
    }
}

#[test]
fn patterns_of_the_user_are_tried_first_and_in_the_order_of_the_causes() {
    let pattern = |text: &str| Regex::new(&format!("(?i){text}")).expect("a valid pattern");
    let causes = Causes::with([
        (Cause::Other, pattern("planned")),
        (Cause::Quota, pattern("^ *$")),
        (Cause::Network, pattern("^proxy .* says no$")),
        (Cause::RateLimited, pattern("says NO")),
        (Cause::Quota, pattern("full|fu")),
    ]);
    for (message, expected) in [
        ("Proxy squid says no", RateLimited),
        ("the proxy squid says yes", Other),
        ("FULL", Quota),
        // A built-in pattern would name another cause.
        ("planned: 403 Forbidden", Other),
        ("403 Forbidden", Unauthorized),
        // Nothing is no reason.
        ("", Other),
        (" ", Other),
    ] {
        assert_eq!(causes.of(message), expected, "{message}");
    }
}

#[test]
fn a_long_message_is_searched_at_its_start_alone() {
    let causes = Causes::default();
    let late = format!("{}403 Forbidden", "é ".repeat(SEARCHED));
    assert_eq!(causes.of(&late), Other);
    let early = format!("403 Forbidden{}", "é ".repeat(SEARCHED));
    assert_eq!(causes.of(&early), Unauthorized);
}
