//! Version discovery (reference 3.1).

use serde_json::{Value, json};

/// The version document; `base` is the address of the API without a trailing slash.
pub(crate) fn versions(base: &str) -> Value {
    let last = VERSIONS.len().saturating_sub(1);
    let href = format!("{base}/v2");
    let entries = VERSIONS.iter().enumerate().map(|(position, updated)| {
        let status = if position == last {
            "CURRENT"
        } else {
            "SUPPORTED"
        };
        json!({
            "id": format!("v2.{position}"),
            "status": status,
            "updated": updated,
            "links": [{"href": href, "rel": "self"}],
        })
    });
    json!({"versions": entries.collect::<Vec<_>>()})
}

/// When each minor version appeared, v2.0 first. A server of the last speaks them all: minors only tell clients what
/// exists, and some read the last entry of the list as the newest.
const VERSIONS: &[&str] = &[
    "2016-12-11T00:00:00Z",
    "2018-04-20T00:00:00Z",
    "2018-07-31T00:00:00Z",
    "2018-12-18T00:00:00Z",
    "2018-12-19T00:00:00Z",
    "2019-01-21T00:00:00Z",
    "2019-01-25T00:00:00Z",
    "2018-01-25T12:00:00Z",
    "2019-02-12T00:00:00Z",
    "2019-03-04T00:00:00Z",
    "2019-03-05T00:00:00Z",
    "2019-06-24T00:00:00Z",
    "2019-09-11T00:00:00Z",
    "2019-09-13T00:00:00Z",
    "2019-11-10T00:00:00Z",
    "2020-03-10T00:00:00Z",
    "2020-03-15T00:00:00Z",
    "2020-04-29T00:00:00Z",
    "2020-04-29T01:00:00Z",
    "2020-05-12T00:00:00Z",
    "2020-08-02T00:00:00Z",
    "2020-09-03T00:00:00Z",
    "2020-09-04T00:00:00Z",
    "2020-09-07T00:00:00Z",
    "2020-10-15T00:00:00Z",
    "2021-10-02T00:00:00Z",
    "2022-08-29T00:00:00Z",
    "2023-05-05T00:00:00Z",
    "2023-11-08T00:00:00Z",
    "2024-10-15T00:00:00Z",
    "2025-02-26T00:00:00Z",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_version_is_2_30_and_the_only_current_one() {
        let document = versions("http://lb.example.test");
        let versions = document["versions"].as_array().unwrap();
        assert_eq!(versions.len(), 31);
        assert_eq!(versions[0]["id"], "v2.0");
        assert_eq!(versions[30]["id"], "v2.30");
        assert_eq!(versions[30]["updated"], "2025-02-26T00:00:00Z");
        assert_eq!(
            versions[30]["links"][0]["href"],
            "http://lb.example.test/v2"
        );
        let current = versions
            .iter()
            .filter(|version| version["status"] == "CURRENT")
            .count();
        assert_eq!(
            (current, versions[30]["status"].as_str()),
            (1, Some("CURRENT"))
        );
    }
}
