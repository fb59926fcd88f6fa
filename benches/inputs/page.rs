//! One page of artifacts as the cloud sends it.

/// Compact, fields in the documented order.
pub(crate) fn page(rows: u32) -> Vec<u8> {
    let rows: Vec<_> = (0..rows)
        .map(|n| {
            format!(
                r#"{{"Status":"COMPLETED","RepoName":"nginx","EndTime":1640164439{n:03},"InstanceId":"cri-90fxryf9pwf0abcd","Tag":"1.27.{n}-alpine","Result":"SUCCESS","StartTime":1640164430{n:03},"TaskId":"crast-y64sq01bgad0abcd","NamespaceName":"mirror"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"PageNo":1,"RequestId":"30D2EC43-5E7D-4C0C-9FA5-D8E2D8D1F0B4","PageSize":100,"TotalCount":{},"Code":"success","IsSuccess":true,"TaskResults":[{}]}}"#,
        rows.len(),
        rows.join(",")
    )
    .into_bytes()
}
