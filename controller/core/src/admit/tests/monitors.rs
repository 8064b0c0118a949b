//! Rules of health monitors.

use alloc::{boxed::Box, string::ToString, vec};

use uuid::Uuid;

use crate::{
    command::{Command, HealthMonitorUpdate, NewHealthMonitor},
    limits,
    model::{
        ExpectedCodes, HealthMonitorId, HttpMonitor, HttpVersion, MonitorKind, PoolId, PoolProtocol,
    },
    refusal::Refusal,
    resource::ResourceId,
    sample::{House, http_kind, new_monitor, new_pool, tcp_kind},
};

fn with_pool() -> House {
    let mut house = House::empty();
    house.add_pool(new_pool(PoolProtocol::Http)).unwrap();
    house
}

fn create(house: &House, kind: MonitorKind) -> Command {
    Command::CreateHealthMonitor(house.pool(), Box::new(new_monitor(kind)))
}

fn update(house: &House, update: HealthMonitorUpdate) -> Command {
    Command::UpdateHealthMonitor(house.monitor(), Box::new(update))
}

fn http(edit: impl Fn(&mut HttpMonitor)) -> MonitorKind {
    let mut kind = http_kind();
    if let MonitorKind::Http(http) = &mut kind {
        edit(http);
    }
    kind
}

#[test]
fn a_pool_has_one_monitor() {
    let mut house = with_pool();
    house.run(create(&house, tcp_kind())).unwrap();
    assert_eq!(
        house.ask(create(&house, tcp_kind())),
        Err(Refusal::AlreadyMonitored(house.pool()))
    );
    house
        .run(Command::DeleteHealthMonitor(house.monitor()))
        .unwrap();
    house.run(create(&house, http_kind())).unwrap();
    assert_eq!(
        house.tree.monitor_of(house.pool()).unwrap().value.kind,
        http_kind()
    );
}

#[test]
fn its_pool_is_of_the_tree() {
    let mut house = with_pool();
    let pool = PoolId::new(Uuid::nil());
    let command = Command::CreateHealthMonitor(pool, Box::new(new_monitor(tcp_kind())));
    assert_eq!(
        house.ask(command),
        Err(Refusal::NotFound(ResourceId::Pool(pool)))
    );
    let monitor = HealthMonitorId::new(Uuid::nil());
    let unknown = Err(Refusal::NotFound(ResourceId::HealthMonitor(monitor)));
    assert_eq!(
        house.ask(Command::UpdateHealthMonitor(monitor, Box::default())),
        unknown
    );
    assert_eq!(house.ask(Command::DeleteHealthMonitor(monitor)), unknown);
}

#[test]
fn a_domain_name_needs_http_1_1() {
    let named = |version| {
        http(move |http| {
            http.domain_name = Some("app.example.test".into());
            http.http_version = version;
        })
    };
    let mut house = with_pool();
    house
        .ask(create(&house, named(Some(HttpVersion::Http11))))
        .unwrap();
    assert_eq!(
        house
            .ask(create(&house, named(None)))
            .unwrap_err()
            .to_string(),
        "'http_version' must be specified when 'domain_name' is provided."
    );
    assert_eq!(
        house
            .ask(create(&house, named(Some(HttpVersion::Http10))))
            .unwrap_err()
            .to_string(),
        "http_version 1.0 is not a valid option for health monitors HTTP 1.1 domain name health check"
    );
    house
        .run(create(&house, named(Some(HttpVersion::Http11))))
        .unwrap();
    // The version may not go while the name stays, but both may.
    let clear = HealthMonitorUpdate {
        http_version: Some(None),
        ..HealthMonitorUpdate::default()
    };
    assert!(matches!(
        house.ask(update(&house, clear.clone())),
        Err(Refusal::Invalid(_))
    ));
    house
        .run(update(
            &house,
            HealthMonitorUpdate {
                domain_name: Some(None),
                ..clear
            },
        ))
        .unwrap();
}

#[test]
fn fields_of_http_are_refused_on_other_types() {
    let mut house = with_pool();
    house.run(create(&house, tcp_kind())).unwrap();
    let codes = (
        "200".to_string(),
        vec![ExpectedCodes {
            first: 200,
            last: 200,
        }],
    );
    let fields = [
        HealthMonitorUpdate {
            http_method: Some("GET".into()),
            ..HealthMonitorUpdate::default()
        },
        HealthMonitorUpdate {
            url_path: Some("/".into()),
            ..HealthMonitorUpdate::default()
        },
        HealthMonitorUpdate {
            expected_codes: Some(codes),
            ..HealthMonitorUpdate::default()
        },
    ];
    for (change, field) in fields
        .into_iter()
        .zip(["http_method", "url_path", "expected_codes"])
    {
        assert_eq!(
            house
                .ask(update(&house, change.clone()))
                .unwrap_err()
                .to_string(),
            alloc::format!("{field} is not a valid option for health monitors of type TCP")
        );
        let mut house = with_pool();
        house.run(create(&house, http_kind())).unwrap();
        house.run(update(&house, change)).unwrap();
    }
    let shown = HealthMonitorUpdate {
        http_version: Some(Some(HttpVersion::Http11)),
        ..HealthMonitorUpdate::default()
    };
    house.run(update(&house, shown)).unwrap();
    assert_eq!(
        house.tree.health_monitors[0].value.kind.http_version(),
        Some(HttpVersion::Http11)
    );
}

#[test]
fn what_a_probe_could_not_send_is_refused() {
    let mut house = with_pool();
    for path in ["ready", "", "/a b", "/a\r\nHost: x", "/\u{e9}"] {
        let refusal = house.ask(create(&house, http(|http| http.url_path = path.into())));
        assert!(matches!(refusal, Err(Refusal::Invalid(_))), "{path:?}");
    }
    let long = alloc::format!("/{}", "a".repeat(limits::PROBE_TEXT_CHARACTERS_MAX));
    assert!(
        house
            .ask(create(
                &house,
                http(|http| http.url_path = long[..255].into())
            ))
            .is_ok()
    );
    assert!(
        house
            .ask(create(&house, http(|http| http.url_path = long.clone())))
            .is_err()
    );
    for domain in ["", "a b", "a\r\nx", "a/b"] {
        let kind = http(|http| {
            http.http_version = Some(HttpVersion::Http11);
            http.domain_name = Some(domain.into());
        });
        assert!(
            matches!(
                house.ask(create(&house, kind)),
                Err(Refusal::InvalidOption { .. })
            ),
            "{domain:?}"
        );
    }
}

#[test]
fn expected_codes_are_a_range_that_something_can_match() {
    let mut house = with_pool();
    for (first, last, fine) in [
        (200, 200, true),
        (100, 599, true),
        (299, 200, false),
        (99, 200, false),
        (200, 600, false),
    ] {
        let kind = http(|http| http.expected = vec![ExpectedCodes { first, last }]);
        assert_eq!(
            house.ask(create(&house, kind)).is_ok(),
            fine,
            "{first}-{last}"
        );
    }
    assert!(
        house
            .ask(create(&house, http(|http| http.expected.clear())))
            .is_err()
    );
}

#[test]
fn timers_fit_what_the_data_plane_counts_in() {
    let mut house = with_pool();
    let of = |delay_seconds, timeout_seconds| {
        Box::new(NewHealthMonitor {
            delay_seconds,
            timeout_seconds,
            ..new_monitor(tcp_kind())
        })
    };
    let most = limits::MONITOR_SECONDS_MAX;
    for (delay, timeout, fine) in [
        (0, 0, true),
        (most, most, true),
        (most + 1, 1, false),
        (1, most + 1, false),
    ] {
        let command = Command::CreateHealthMonitor(house.pool(), of(delay, timeout));
        assert_eq!(house.ask(command).is_ok(), fine, "{delay} {timeout}");
    }
}

#[test]
fn an_update_changes_what_it_names_and_keeps_the_rest() {
    let mut house = with_pool();
    house.run(create(&house, http_kind())).unwrap();
    let change = HealthMonitorUpdate {
        delay_seconds: Some(9),
        url_path: Some("/alive".into()),
        ..HealthMonitorUpdate::default()
    };
    house.run(update(&house, change)).unwrap();
    let monitor = &house.tree.health_monitors[0].value;
    assert_eq!(
        (
            monitor.delay_seconds,
            monitor.timeout_seconds,
            monitor.max_retries
        ),
        (9, 3, 2)
    );
    assert_eq!(monitor.kind, http(|http| http.url_path = "/alive".into()));
}

#[test]
fn one_that_is_being_deleted_may_be_deleted_again_and_nothing_else() {
    let mut house = with_pool();
    house.run(create(&house, http_kind())).unwrap();
    let id = house.monitor();
    house.run(Command::DeleteHealthMonitor(id)).unwrap();
    assert!(
        house
            .run(Command::DeleteHealthMonitor(id))
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        house.ask(Command::UpdateHealthMonitor(id, Box::default())),
        Err(Refusal::BeingDeleted(ResourceId::HealthMonitor(id)))
    );
}
