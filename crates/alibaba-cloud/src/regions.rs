//! The regions of the cloud, and the host of STS in each.

/// Serves every account, whatever its region.
const CENTRAL_STS: &str = "sts.aliyuncs.com";

/// Every region. Source of this and of the exceptions: the vendor's endpoint metadata
/// (`testdata/endpoints.json`).
#[rustfmt::skip]
const REGIONS: [&str; 39] = [
    "ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2",
    "ap-southeast-3", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "cn-beijing",
    "cn-beijing-finance-1", "cn-chengdu", "cn-fuzhou", "cn-guangzhou", "cn-hangzhou",
    "cn-hangzhou-finance", "cn-heyuan", "cn-heyuan-acdr-1", "cn-hongkong", "cn-huhehaote",
    "cn-nanjing", "cn-qingdao", "cn-shanghai", "cn-shanghai-finance-1", "cn-shenzhen",
    "cn-shenzhen-finance-1", "cn-wuhan-lr", "cn-wulanchabu", "cn-wulanchabu-gic-1",
    "cn-zhangjiakou", "cn-zhengzhou-jva", "eu-central-1", "eu-west-1", "me-central-1", "me-east-1",
    "na-south-1", "us-east-1", "us-southeast-1", "us-west-1",
];

/// Regions without STS.
#[rustfmt::skip]
const WITHOUT_STS: [&str; 7] = [
    "ap-south-1", "ap-southeast-2", "ap-southeast-6", "cn-heyuan-acdr-1",
    "cn-wulanchabu-gic-1", "cn-zhengzhou-jva", "us-southeast-1",
];

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// The region is not in the table.
    UnknownRegion,
    /// The region has a public endpoint only.
    NotInVpc,
    /// The region has no endpoint.
    NotInRegion,
}

/// The ids of all regions.
pub fn ids() -> impl Iterator<Item = &'static str> {
    REGIONS.into_iter()
}

/// The host of STS for `region`; the central one without a region.
pub fn sts_host(region: Option<&str>, vpc: bool) -> Result<String, NoEndpoint> {
    let Some(region) = region else {
        return Ok(CENTRAL_STS.to_owned());
    };
    if !REGIONS.contains(&region) {
        return Err(NoEndpoint::UnknownRegion);
    }
    match (region, vpc) {
        _ if WITHOUT_STS.contains(&region) => Err(NoEndpoint::NotInRegion),
        ("cn-hangzhou-finance", true) => Err(NoEndpoint::NotInVpc),
        ("cn-hangzhou-finance" | "cn-shenzhen-finance-1", false) => Ok(CENTRAL_STS.to_owned()),
        (_, false) => Ok(format!("sts.{region}.aliyuncs.com")),
        (_, true) => Ok(format!("sts-vpc.{region}.aliyuncs.com")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// All regions and both networks, as the vendor's metadata lists them.
    #[test]
    fn hosts_are_those_of_the_vendors_metadata() {
        let list: Value = serde_json::from_str(include_str!("../testdata/endpoints.json"))
            .expect("endpoints.json");
        let expected = |product: &str, region: &str, network: &str| {
            let hosts = list[product].get(region).ok_or(NoEndpoint::NotInRegion)?;
            let host = hosts.get(network).ok_or(NoEndpoint::NotInVpc)?;
            Ok(host.as_str().expect("a host").to_owned())
        };
        let listed = list["cr"].as_object().expect("regions").keys();
        assert_eq!(ids().collect::<Vec<_>>(), listed.collect::<Vec<_>>());
        assert_eq!(ids().count(), 39);
        for region in ids() {
            for (vpc, network) in [(false, "public"), (true, "vpc")] {
                let host = expected("sts", region, network);
                assert_eq!(sts_host(Some(region), vpc), host, "{region} {network}");
            }
        }
    }

    #[test]
    fn exceptions_by_hand() {
        use NoEndpoint::{NotInRegion, NotInVpc, UnknownRegion};
        let sts = |region, vpc| sts_host(region, vpc);
        let host = |host: &str| Ok(host.to_owned());
        assert_eq!(sts(None, false), host("sts.aliyuncs.com"));
        assert_eq!(sts(None, true), host("sts.aliyuncs.com"));
        assert_eq!(
            sts(Some("cn-hangzhou-finance"), false),
            host("sts.aliyuncs.com")
        );
        assert_eq!(sts(Some("cn-hangzhou-finance"), true), Err(NotInVpc));
        assert_eq!(
            sts(Some("cn-shenzhen-finance-1"), false),
            host("sts.aliyuncs.com")
        );
        assert_eq!(
            sts(Some("cn-shenzhen-finance-1"), true),
            host("sts-vpc.cn-shenzhen-finance-1.aliyuncs.com")
        );
        assert_eq!(sts(Some("cn-wulanchabu-gic-1"), false), Err(NotInRegion));
        assert_eq!(sts(Some("cn-hangzou"), false), Err(UnknownRegion));
    }
}
