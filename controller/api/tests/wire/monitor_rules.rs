//! Rules of health monitors (reference 9.3): for each a body that breaks it, and one that keeps it.

use krater_controller_core::{
    model::{HealthMonitor, MonitorKind, PoolProtocol},
    rules::Rules,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{MONITOR, POOL, STRANGER},
};

const PATH: &str = "/v2/lbaas/healthmonitors";

fn new(patch: &Value) -> Value {
    let mut body =
        json!({"pool_id": POOL, "type": "TCP", "delay": 5, "timeout": 3, "max_retries": 2});
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    json!({"healthmonitor": body})
}

/// An API whose sample pool speaks `protocol` and has no monitor.
fn unmonitored(protocol: PoolProtocol, rules: Rules) -> Api {
    let api = Api::admitting(rules);
    {
        let tree = &mut api.fake.views.lock().unwrap()[0].tree;
        tree.pools[0].value.protocol = protocol;
        tree.health_monitors.clear();
    }
    api
}

fn monitored(edit: impl FnOnce(&mut HealthMonitor)) -> Api {
    let api = Api::admitting(Rules::default());
    edit(&mut api.fake.views.lock().unwrap()[0].tree.health_monitors[0].value);
    api
}

#[tokio::test]
async fn a_monitor_fits_its_pool() {
    let streams = ["HTTP", "HTTPS", "PING", "TCP", "TLS-HELLO"];
    let streamless = ["UDP-CONNECT", "SCTP", "TCP", "HTTP"];
    for protocol in PoolProtocol::ALL {
        let api = unmonitored(protocol, Rules::default());
        let none = matches!(protocol, PoolProtocol::Udp | PoolProtocol::Sctp);
        for kind in [
            "HTTP",
            "HTTPS",
            "PING",
            "TCP",
            "TLS-HELLO",
            "UDP-CONNECT",
            "SCTP",
        ] {
            let reply = api.post(PATH, new(&json!({"type": kind}))).await;
            let fits = if none {
                streamless.contains(&kind)
            } else {
                streams.contains(&kind)
            };
            if fits {
                assert_eq!(reply.status, 201, "{protocol:?} {kind}: {reply:?}");
                assert_eq!(reply.json()["healthmonitor"]["type"], kind);
            } else if none {
                reply.assert_fault(400, &format!(
                    "The associated pool protocol is {}, so only a UDP-CONNECT/SCTP/TCP/HTTP health monitor is supported.",
                    protocol.name()
                ));
            } else {
                let sentence =
                    format!("The {kind} type is only supported for pools of type UDP/SCTP.");
                reply.assert_fault(400, &sentence);
            }
        }
    }
}

#[tokio::test]
async fn fields_of_http_are_for_http_and_https() {
    let api = unmonitored(PoolProtocol::Http, Rules::default());
    for (field, value) in [
        ("http_method", "GET"),
        ("url_path", "/"),
        ("expected_codes", "200"),
    ] {
        for kind in ["TCP", "PING", "TLS-HELLO", "UDP-CONNECT", "SCTP"] {
            let sentence =
                format!("{field} is not a valid option for health monitors of type {kind}");
            api.post(PATH, new(&json!({"type": kind, field: value})))
                .await
                .assert_fault(400, &sentence);
        }
        for kind in ["HTTP", "HTTPS"] {
            let reply = api
                .post(PATH, new(&json!({"type": kind, field: value})))
                .await;
            assert_eq!(reply.json()["healthmonitor"][field], value, "{reply:?}");
        }
        let item = format!("{PATH}/{MONITOR}");
        let plain = monitored(|monitor| {
            monitor.kind = MonitorKind::TlsHello {
                http_version: None,
                domain_name: None,
            }
        });
        for value in [json!(value), Value::Null] {
            let body = json!({"healthmonitor": {field: value}});
            let sentence =
                format!("{field} is not a valid option for health monitors of type TLS-HELLO");
            plain
                .put(&item, body.clone())
                .await
                .assert_fault(400, &sentence);
            assert_eq!(monitored(|_| ()).put(&item, body).await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_domain_name_needs_http_1_1_given_or_stored() {
    let api = unmonitored(PoolProtocol::Http, Rules::default());
    let version = "'http_version' must be specified when 'domain_name' is provided.";
    let old = "http_version 1.0 is not a valid option for health monitors HTTP 1.1 domain name health check";
    for kind in ["HTTP", "HTTPS", "TCP", "TLS-HELLO"] {
        let with = |patch: Value| {
            let mut body = new(&patch);
            body["healthmonitor"]["type"] = json!(kind);
            body
        };
        api.post(PATH, with(json!({"domain_name": "a.test"})))
            .await
            .assert_fault(400, version);
        let body = with(json!({"domain_name": "a.test", "http_version": 1.0}));
        api.post(PATH, body).await.assert_fault(400, old);
        let body = with(json!({"domain_name": "a.test", "http_version": 1.1}));
        let shown = api.post(PATH, body).await.json()["healthmonitor"].clone();
        assert_eq!(
            (&shown["http_version"], &shown["domain_name"]),
            (&json!(1.1), &json!("a.test"))
        );
        assert_eq!(
            api.post(PATH, with(json!({"http_version": 1.0})))
                .await
                .status,
            201
        );
    }
    let item = format!("{PATH}/{MONITOR}");
    for (body, sentence) in [
        (json!({"http_version": null}), version),
        (json!({"http_version": 1.0}), old),
    ] {
        let api = monitored(|_| ());
        api.put(&item, json!({"healthmonitor": body}))
            .await
            .assert_fault(400, sentence);
    }
    for body in [
        json!({"domain_name": "b.test"}),
        json!({"http_version": null, "domain_name": null}),
    ] {
        assert_eq!(
            monitored(|_| ())
                .put(&item, json!({"healthmonitor": body}))
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn a_deployment_bounds_monitors() {
    let rules = Rules {
        ping_monitors: false,
        udp_connect_delay_min_seconds: 4,
        ..Rules::default()
    };
    let api = unmonitored(PoolProtocol::Http, rules.clone());
    api.post(PATH, new(&json!({"type": "PING"})))
        .await
        .assert_fault(
            400,
            "The selected type is not allowed in this deployment: PING",
        );
    let allowed = unmonitored(PoolProtocol::Http, Rules::default());
    assert_eq!(
        allowed
            .post(PATH, new(&json!({"type": "PING"})))
            .await
            .status,
        201
    );
    let api = unmonitored(PoolProtocol::Udp, rules);
    let sentence =
        "The request delay value 3 should be larger than 4 for UDP-CONNECT health monitor type.";
    api.post(PATH, new(&json!({"type": "UDP-CONNECT", "delay": 3})))
        .await
        .assert_fault(400, sentence);
    for body in [
        json!({"type": "UDP-CONNECT", "delay": 4}),
        json!({"type": "SCTP", "delay": 0}),
    ] {
        assert_eq!(api.post(PATH, new(&body)).await.status, 201);
    }
    let api = monitored(|monitor| {
        monitor.kind = MonitorKind::UdpConnect {
            http_version: None,
            domain_name: None,
        }
    });
    let item = format!("{PATH}/{MONITOR}");
    let sentence =
        "The request delay value 2 should be larger than 3 for UDP-CONNECT health monitor type.";
    let body = json!({"healthmonitor": {"delay": 2}});
    api.put(&item, body).await.assert_fault(400, sentence);
    assert_eq!(
        api.put(&item, json!({"healthmonitor": {"delay": 3}}))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_pool_has_one_monitor_and_is_there() {
    let api = Api::admitting(Rules::default());
    api.post(PATH, new(&json!({})))
        .await
        .assert_fault(409, "This pool already has a health monitor");
    api.post(PATH, new(&json!({"pool_id": STRANGER})))
        .await
        .assert_fault(404, &format!("Pool {STRANGER} not found."));
    let api = unmonitored(PoolProtocol::Http, Rules::default());
    // A timeout may be as long as the delay (reference 9.3, last rows).
    assert_eq!(
        api.post(PATH, new(&json!({"timeout": 5}))).await.status,
        201
    );
}
