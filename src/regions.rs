//! The regions of the service: which hosts answer in each, the service's and
//! those of STS. The configuration and the credentials both look here.

/// Serves every account, whatever its region.
const CENTRAL_STS: &str = "sts.aliyuncs.com";

/// Each region, whether the service has a VPC endpoint there, and its STS. Source:
/// the vendor's endpoint metadata (`tests/testdata/endpoints.json`).
const REGIONS: [(&str, bool, Sts); 39] = [
    ("ap-northeast-1", true, Sts::Regional),
    ("ap-northeast-2", true, Sts::Regional),
    ("ap-south-1", true, Sts::None),
    ("ap-southeast-1", true, Sts::Regional),
    ("ap-southeast-2", true, Sts::None),
    ("ap-southeast-3", true, Sts::Regional),
    ("ap-southeast-5", true, Sts::Regional),
    ("ap-southeast-6", true, Sts::None),
    ("ap-southeast-7", true, Sts::Regional),
    ("cn-beijing", true, Sts::Regional),
    ("cn-beijing-finance-1", true, Sts::Regional),
    ("cn-chengdu", true, Sts::Regional),
    ("cn-fuzhou", true, Sts::Regional),
    ("cn-guangzhou", true, Sts::Regional),
    ("cn-hangzhou", true, Sts::Regional),
    ("cn-hangzhou-finance", true, Sts::Central),
    ("cn-heyuan", false, Sts::Regional),
    ("cn-heyuan-acdr-1", true, Sts::None),
    ("cn-hongkong", true, Sts::Regional),
    ("cn-huhehaote", false, Sts::Regional),
    ("cn-nanjing", true, Sts::Regional),
    ("cn-qingdao", true, Sts::Regional),
    ("cn-shanghai", true, Sts::Regional),
    ("cn-shanghai-finance-1", true, Sts::Regional),
    ("cn-shenzhen", true, Sts::Regional),
    ("cn-shenzhen-finance-1", true, Sts::CentralOrVpc),
    ("cn-wuhan-lr", true, Sts::Regional),
    ("cn-wulanchabu", false, Sts::Regional),
    ("cn-wulanchabu-gic-1", true, Sts::None),
    ("cn-zhangjiakou", true, Sts::Regional),
    ("cn-zhengzhou-jva", true, Sts::None),
    ("eu-central-1", true, Sts::Regional),
    ("eu-west-1", true, Sts::Regional),
    ("me-central-1", true, Sts::Regional),
    ("me-east-1", true, Sts::Regional),
    ("na-south-1", true, Sts::Regional),
    ("us-east-1", true, Sts::Regional),
    ("us-southeast-1", true, Sts::None),
    ("us-west-1", true, Sts::Regional),
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
    REGIONS.iter().map(|(id, _, _)| *id)
}

/// The host of the service in `region`.
pub fn service_host(region: &str, vpc: bool) -> Result<String, NoEndpoint> {
    let (has_vpc_endpoint, _) = find(region)?;
    match (vpc, has_vpc_endpoint) {
        (false, _) => Ok(format!("cr.{region}.aliyuncs.com")),
        (true, true) => Ok(format!("cr-vpc.{region}.aliyuncs.com")),
        (true, false) => Err(NoEndpoint::NotInVpc),
    }
}

/// The host of STS for `region`; the central one without a region.
pub fn sts_host(region: Option<&str>, vpc: bool) -> Result<String, NoEndpoint> {
    let Some(region) = region else {
        return Ok(CENTRAL_STS.to_owned());
    };
    let (_, sts) = find(region)?;
    match (sts, vpc) {
        (Sts::Regional, false) => Ok(format!("sts.{region}.aliyuncs.com")),
        (Sts::Regional | Sts::CentralOrVpc, true) => Ok(format!("sts-vpc.{region}.aliyuncs.com")),
        (Sts::CentralOrVpc | Sts::Central, false) => Ok(CENTRAL_STS.to_owned()),
        (Sts::Central, true) => Err(NoEndpoint::NotInVpc),
        (Sts::None, _) => Err(NoEndpoint::NotInRegion),
    }
}

fn find(region: &str) -> Result<(bool, Sts), NoEndpoint> {
    let known = REGIONS.iter().find(|(id, _, _)| *id == region);
    known
        .map(|(_, vpc, sts)| (*vpc, *sts))
        .ok_or(NoEndpoint::UnknownRegion)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// All regions and both networks, as the vendor's metadata lists them.
    #[test]
    fn hosts_are_those_of_the_vendors_metadata() {
        let list: Value = serde_json::from_str(include_str!("../tests/testdata/endpoints.json"))
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
                let host = expected("cr", region, network);
                assert_eq!(service_host(region, vpc), host, "{region} {network}");
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
        assert_eq!(service_host("cn-heyuan", true), Err(NotInVpc));
        assert_eq!(service_host("cn-hangzou", false), Err(UnknownRegion));
        assert_eq!(
            service_host("cn-wulanchabu-gic-1", false),
            host("cr.cn-wulanchabu-gic-1.aliyuncs.com")
        );
    }
}
