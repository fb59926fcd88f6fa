//! The hosts of the registry's API by region.

use alibaba_cloud::regions::{self, NoEndpoint};

/// Regions without an endpoint within VPCs.
const NOT_IN_VPC: [&str; 3] = ["cn-heyuan", "cn-huhehaote", "cn-wulanchabu"];

/// The host of the registry's API in `region`.
pub fn service_host(region: &str, vpc: bool) -> Result<String, NoEndpoint> {
    if regions::ids().all(|id| id != region) {
        return Err(NoEndpoint::UnknownRegion);
    }
    match vpc {
        false => Ok(format!("cr.{region}.aliyuncs.com")),
        true if NOT_IN_VPC.contains(&region) => Err(NoEndpoint::NotInVpc),
        true => Ok(format!("cr-vpc.{region}.aliyuncs.com")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// All regions and both networks, as the vendor's metadata lists them.
    #[test]
    fn hosts_are_those_of_the_vendors_metadata() {
        let list: Value = serde_json::from_str(include_str!(
            "../crates/alibaba-cloud/testdata/endpoints.json"
        ))
        .expect("endpoints.json");
        for region in regions::ids() {
            for (vpc, network) in [(false, "public"), (true, "vpc")] {
                let host = list["cr"][region][network].as_str();
                let host = host.map(str::to_owned).ok_or(NoEndpoint::NotInVpc);
                assert_eq!(service_host(region, vpc), host, "{region} {network}");
            }
        }
        assert_eq!(
            service_host("cn-hangzou", false),
            Err(NoEndpoint::UnknownRegion)
        );
    }
}
