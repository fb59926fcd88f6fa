//! A request for one page of rows, and a key to sign it with.

use std::borrow::Cow;

use alibaba_cloud::signing::{Key, Request};

pub(crate) const REQUEST: Request<'static> = Request {
    method: "GET",
    host: "cr.cn-hangzhou.aliyuncs.com",
    action: "GetArtifactSubscriptionTaskResult",
    version: "2018-12-01",
    params: &[
        ("InstanceId", Cow::Borrowed("cri-90fxryf9pwf0abcd")),
        ("TaskId", Cow::Borrowed("crast-y64sq01bgad0abcd")),
        ("PageNo", Cow::Borrowed("1")),
        ("PageSize", Cow::Borrowed("100")),
    ],
    form: &[],
};

pub(crate) const KEY: Key<'static> = Key {
    id: "exampleAccessKeyId",
    secret: "EXAMPLEexampleEXAMPLEexample12",
    token: None,
};

pub(crate) const NOW_MS: i64 = 1_767_323_045_000;
pub(crate) const NONCE: &str = "3156853299f313e23d1673dc12e1703d";
