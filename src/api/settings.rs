//! `api:`

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use settings::Count;

/// How the cloud is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "ApiSettings", default, deny_unknown_fields)]
pub struct Settings {
    /// How requests are signed.
    pub signature: Signature,
    /// Which endpoints are used: `vpc` for those within the region's VPCs.
    pub network: Network,
    /// Requests a second of one account, since the cloud counts per account; requests to STS are
    /// not among them.
    pub requests_per_second: Rate,
    /// Requests of one account that may follow one another at once.
    pub burst: Count<5, 1, 10_000>,
    /// Attempts after the first.
    pub retries: Count<3, 0, 10>,
    /// Rows asked for in one request.
    pub page_size: Count<100, 1, 100>,
    /// Pages of one list; a longer one is a failed poll, never a partial page.
    pub max_pages: Count<100, 1, 1_000_000>,
}

/// How requests are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Signature {
    /// In headers.
    #[default]
    #[serde(rename = "acs3-hmac-sha256")]
    Acs3HmacSha256,
    /// In the query ("V2 for RPC").
    #[serde(rename = "hmac-sha1")]
    HmacSha1,
}

/// Which endpoints are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The public ones.
    #[default]
    Public,
    /// Those within the region's VPCs.
    Vpc,
}

impl Network {
    /// Whether it is the VPCs'.
    pub fn is_vpc(self) -> bool {
        self == Self::Vpc
    }
}

/// Requests a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate(pub f64);

impl Default for Rate {
    fn default() -> Self {
        Self(5.0)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor)
    }
}

struct RateVisitor;

impl Visitor<'_> for RateVisitor {
    type Value = Rate;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number")
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Rate, E> {
        // Beyond i32 it is out of range anyway.
        i32::try_from(number)
            .ok()
            .and_then(|number| rate(f64::from(number)))
            .ok_or_else(|| E::custom(format!("{RANGE}{}", settings::not(&number))))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Rate, E> {
        rate(number).ok_or_else(|| E::custom(format!("{RANGE}{}", settings::not(&number))))
    }
}

const RANGE: &str = "must be a number from 0.001 to 1000";

fn rate(number: f64) -> Option<Rate> {
    (0.001..=1000.0).contains(&number).then_some(Rate(number))
}

impl JsonSchema for Rate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0.001, "maximum": 1000 })
    }
}
