//! The regions of the cloud, and the host of STS in each.

/// Serves every account, whatever its region.
const CENTRAL_STS: &str = "sts.aliyuncs.com";

/// Each region and its STS. Source: the vendor's endpoint metadata
/// (`testdata/endpoints.json`).
const REGIONS: [(&str, Sts); 39] = [
    ("ap-northeast-1", Sts::Regional),
    ("ap-northeast-2", Sts::Regional),
    ("ap-south-1", Sts::None),
    ("ap-southeast-1", Sts::Regional),
    ("ap-southeast-2", Sts::None),
    ("ap-southeast-3", Sts::Regional),
    ("ap-southeast-5", Sts::Regional),
    ("ap-southeast-6", Sts::None),
    ("ap-southeast-7", Sts::Regional),
    ("cn-beijing", Sts::Regional),
    ("cn-beijing-finance-1", Sts::Regional),
    ("cn-chengdu", Sts::Regional),
    ("cn-fuzhou", Sts::Regional),
    ("cn-guangzhou", Sts::Regional),
    ("cn-hangzhou", Sts::Regional),
    ("cn-hangzhou-finance", Sts::Central),
    ("cn-heyuan", Sts::Regional),
    ("cn-heyuan-acdr-1", Sts::None),
    ("cn-hongkong", Sts::Regional),
    ("cn-huhehaote", Sts::Regional),
    ("cn-nanjing", Sts::Regional),
    ("cn-qingdao", Sts::Regional),
    ("cn-shanghai", Sts::Regional),
    ("cn-shanghai-finance-1", Sts::Regional),
    ("cn-shenzhen", Sts::Regional),
    ("cn-shenzhen-finance-1", Sts::CentralOrVpc),
    ("cn-wuhan-lr", Sts::Regional),
    ("cn-wulanchabu", Sts::Regional),
    ("cn-wulanchabu-gic-1", Sts::None),
    ("cn-zhangjiakou", Sts::Regional),
    ("cn-zhengzhou-jva", Sts::None),
    ("eu-central-1", Sts::Regional),
    ("eu-west-1", Sts::Regional),
    ("me-central-1", Sts::Regional),
    ("me-east-1", Sts::Regional),
    ("na-south-1", Sts::Regional),
    ("us-east-1", Sts::Regional),
    ("us-southeast-1", Sts::None),
    ("us-west-1", Sts::Regional),
];

/// The STS endpoints of a region.
#[derive(Clone, Copy)]
enum Sts {
    /// A public endpoint and a VPC endpoint.
    Regional,
    /// A VPC endpoint; the central endpoint is the public one.
    CentralOrVpc,
    /// No VPC endpoint; the central endpoint is the public one.
    Central,
    /// The metadata lists no endpoint.
    None,
}

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
    REGIONS.iter().map(|(id, _)| *id)
}

/// The host of STS for `region`; the central one without a region.
pub fn sts_host(region: Option<&str>, vpc: bool) -> Result<String, NoEndpoint> {
    let Some(region) = region else {
        return Ok(CENTRAL_STS.to_owned());
    };
    let (_, sts) = REGIONS
        .iter()
        .find(|(id, _)| *id == region)
        .ok_or(NoEndpoint::UnknownRegion)?;
    match (sts, vpc) {
        (Sts::Regional, false) => Ok(format!("sts.{region}.aliyuncs.com")),
        (Sts::Regional | Sts::CentralOrVpc, true) => Ok(format!("sts-vpc.{region}.aliyuncs.com")),
        (Sts::CentralOrVpc | Sts::Central, false) => Ok(CENTRAL_STS.to_owned()),
        (Sts::Central, true) => Err(NoEndpoint::NotInVpc),
        (Sts::None, _) => Err(NoEndpoint::NotInRegion),
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
