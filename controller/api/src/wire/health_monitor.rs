//! Health monitors as JSON (reference 9).

use http::uri::PathAndQuery;
use krater_controller_core::{
    command::{HealthMonitorUpdate, NewHealthMonitor},
    model::{
        ExpectedCodes, HealthMonitor, HttpMonitor, HttpVersion, MonitorKind, MonitorType, Name,
        PoolId, Tags,
    },
    status::{OperatingStatus, ProvisioningStatus},
    tree::{Row, TreeView},
};
use serde_json::{Map, Value, json};

use super::row::{self, Item};
use crate::{
    body::{self, Fields, Given},
    fault::Fault,
};

/// Reads the body of POST `/healthmonitors`.
pub(crate) fn parse_new(body: Value) -> Result<(PoolId, NewHealthMonitor), Fault> {
    let (pool, monitor) = body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            fields.project_of_child()?;
            let pool = fields.uuid("pool_id")?.mandatory("pool_id")?;
            Ok((PoolId::new(pool), MonitorBody::read(fields)?))
        })
    })?;
    Ok((pool, monitor.into_new()))
}

/// Reads a monitor inside a pool of a whole tree.
pub(crate) fn read_nested(value: Value, path: &str) -> Result<MonitorBody, Fault> {
    body::read(value, path, MonitorBody::read)
}

/// Reads the body of PUT `/healthmonitors/{id}`. Whether the fields of HTTP fit the monitor's type is for the domain.
pub(crate) fn parse_update(body: Value) -> Result<HealthMonitorUpdate, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            Ok(HealthMonitorUpdate {
                name: fields.name()?.value(),
                admin_state_up: fields.admin_state_up()?.value(),
                delay_seconds: fields
                    .integer("delay", 0, SECONDS_MAX)?
                    .set_not_null("delay")?,
                timeout_seconds: fields
                    .integer("timeout", 0, SECONDS_MAX)?
                    .set_not_null("timeout")?,
                max_retries: fields
                    .integer("max_retries", 1, RETRIES_MAX)?
                    .set_not_null("max_retries")?,
                max_retries_down: fields
                    .integer("max_retries_down", 1, RETRIES_MAX)?
                    .set(MAX_RETRIES_DOWN_DEFAULT),
                http_method: fields
                    .choice("http_method", METHODS)?
                    .map(String::from)
                    .set(METHOD_DEFAULT.into()),
                url_path: url_path(fields)?.set(PATH_DEFAULT.into()),
                expected_codes: expected_codes(fields)?.set(codes_default()),
                http_version: http_version(fields)?.clear(),
                domain_name: domain_name(fields)?.clear(),
                tags: fields.tags()?,
            })
        })
    })
}

/// All that the body of a new monitor says.
pub(crate) struct MonitorBody {
    name: Name,
    admin_state_up: bool,
    kind: MonitorKind,
    delay_seconds: u32,
    timeout_seconds: u32,
    max_retries: u8,
    max_retries_down: u8,
    tags: Tags,
}

impl MonitorBody {
    fn read(fields: &mut Fields) -> Result<Self, Fault> {
        Ok(Self {
            name: fields.name()?.or_default(),
            admin_state_up: fields.admin_state_up()?.or(true),
            kind: read_kind(fields)?,
            delay_seconds: fields
                .integer("delay", 0, SECONDS_MAX)?
                .mandatory("delay")?,
            timeout_seconds: fields
                .integer("timeout", 0, SECONDS_MAX)?
                .mandatory("timeout")?,
            max_retries: fields
                .integer("max_retries", 1, RETRIES_MAX)?
                .mandatory("max_retries")?,
            max_retries_down: match fields.integer("max_retries_down", 1, RETRIES_MAX)? {
                Given::Null => return Err(Fault::option("None", "max_retries_down")),
                given => given.or(MAX_RETRIES_DOWN_DEFAULT),
            },
            tags: fields.tags()?.unwrap_or_default(),
        })
    }

    /// The monitor.
    pub(crate) fn into_new(self) -> NewHealthMonitor {
        NewHealthMonitor {
            name: self.name,
            admin_state_up: self.admin_state_up,
            kind: self.kind,
            delay_seconds: self.delay_seconds,
            timeout_seconds: self.timeout_seconds,
            max_retries: self.max_retries,
            max_retries_down: self.max_retries_down,
            tags: self.tags,
        }
    }
}

/// Reads `type` and what depends on it.
fn read_kind(fields: &mut Fields) -> Result<MonitorKind, Fault> {
    let kind = fields
        .one_of("type", &MonitorType::ALL, MonitorType::name)?
        .mandatory("type")?;
    let http_method = fields.choice("http_method", METHODS)?.value();
    let url_path = url_path(fields)?.value();
    let expected = expected_codes(fields)?.value();
    let http_version = http_version(fields)?.value();
    let domain_name = domain_name(fields)?.value();
    if !kind.asks_http() {
        let given = [
            ("http_method", http_method.is_some()),
            ("url_path", url_path.is_some()),
            ("expected_codes", expected.is_some()),
        ];
        if let Some((name, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(Fault::option(
                name,
                &format!("health monitors of type {}", kind.name()),
            ));
        }
    }
    let (expected_codes, expected) = expected.unwrap_or_else(codes_default);
    let http = HttpMonitor {
        http_method: http_method.unwrap_or(METHOD_DEFAULT).into(),
        url_path: url_path.unwrap_or_else(|| PATH_DEFAULT.into()),
        expected_codes,
        expected,
        http_version,
        domain_name,
    };
    Ok(MonitorKind::new(kind, http))
}

/// A monitor of `view` as JSON.
pub(crate) fn render(view: &TreeView, row: &Row<HealthMonitor>) -> Item {
    let mut item = render_nested(view, row);
    item.object
        .insert("pools".into(), row::references([row.value.pool.uuid()]));
    item
}

/// The same inside a whole tree, which needs no way back.
pub(crate) fn render_nested(view: &TreeView, row: &Row<HealthMonitor>) -> Item {
    let monitor = &row.value;
    let mut object = row::shared_keys(
        view,
        monitor.id.uuid(),
        row,
        &monitor.tags,
        idle_status(view, row),
    );
    row::extend(
        &mut object,
        json!({
            "name": monitor.name.as_str(),
            "admin_state_up": monitor.admin_state_up,
            "type": monitor.kind.name(),
            "delay": monitor.delay_seconds,
            "timeout": monitor.timeout_seconds,
            "max_retries": monitor.max_retries,
            "max_retries_down": monitor.max_retries_down,
        }),
    );
    let http = monitor.kind.http();
    row::extend(
        &mut object,
        json!({
            "http_method": http.map(|http| &http.http_method),
            "url_path": http.map(|http| &http.url_path),
            "expected_codes": http.map(|http| &http.expected_codes),
            "http_version": monitor.kind.http_version().map(version_number),
            "domain_name": monitor.kind.domain_name(),
        }),
    );
    Item {
        created_at: row.created_at,
        object,
    }
}

/// A monitor as the status tree shows it (reference 5.6).
pub(crate) fn render_status(view: &TreeView, row: &Row<HealthMonitor>) -> Map<String, Value> {
    let monitor = &row.value;
    let id = monitor.id.uuid();
    let mut object = Map::new();
    row::put_statuses(&mut object, view, id, row, idle_status(view, row));
    row::extend(
        &mut object,
        json!({"id": id, "name": monitor.name.as_str(), "type": monitor.kind.name()}),
    );
    object
}

/// Amphorae do not report monitors: once in force they show whether they probe (reference 18.5).
fn idle_status(view: &TreeView, row: &Row<HealthMonitor>) -> OperatingStatus {
    let in_force = view.provisioning_status(row.value.id.uuid(), row) == ProvisioningStatus::Active;
    if in_force && row.value.admin_state_up {
        OperatingStatus::Online
    } else {
        OperatingStatus::Offline
    }
}

fn url_path(fields: &mut Fields) -> Result<Given<String>, Fault> {
    fields
        .text("url_path", body::TEXT_CHARACTERS_MAX)?
        .parse(|path| {
            let visible = path
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#');
            if !path.starts_with('/') || !visible || PathAndQuery::try_from(path.as_str()).is_err()
            {
                return Err(Fault::input(
                    "url_path",
                    &path,
                    "Value must be a valid URL Path string",
                ));
            }
            Ok(path)
        })
}

/// `expected_codes` as written and parsed (reference 9.2).
fn expected_codes(fields: &mut Fields) -> Result<Given<(String, Vec<ExpectedCodes>)>, Fault> {
    fields
        .text("expected_codes", EXPECTED_CODES_CHARACTERS_MAX)?
        .parse(|text| {
            let codes = parse_codes(&text).ok_or_else(|| {
                let pattern =
                    r"Value should match the pattern ^(\d{3}(\s*,\s*\d{3})*)$|^(\d{3}-\d{3})$";
                Fault::input("expected_codes", &text, pattern)
            })?;
            if codes.iter().any(|range| range.first > range.last) {
                return Err(Fault::input(
                    "expected_codes",
                    &text,
                    "The first code of a range is the smaller one",
                ));
            }
            if codes
                .iter()
                .any(|range| range.first < 100 || range.last > 599)
            {
                return Err(Fault::input(
                    "expected_codes",
                    &text,
                    "Codes are between 100 and 599",
                ));
            }
            Ok((text, codes))
        })
}

fn parse_codes(text: &str) -> Option<Vec<ExpectedCodes>> {
    let code = |text: &str| -> Option<u16> {
        let three_digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        if three_digits {
            text.parse().ok()
        } else {
            None
        }
    };
    if let Some((first, last)) = text.split_once('-') {
        return Some(vec![ExpectedCodes {
            first: code(first)?,
            last: code(last)?,
        }]);
    }
    text.split(',')
        .map(|text| {
            code(text.trim()).map(|code| ExpectedCodes {
                first: code,
                last: code,
            })
        })
        .collect()
}

fn http_version(fields: &mut Fields) -> Result<Given<HttpVersion>, Fault> {
    fields.take("http_version").parse(|value| {
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(1.0) => Ok(HttpVersion::Http10),
            Some(1.1) => Ok(HttpVersion::Http11),
            _ => Err(Fault::input(
                "http_version",
                &body::echo(&value),
                "Value should be one of: 1.0, 1.1",
            )),
        }
    })
}

fn domain_name(fields: &mut Fields) -> Result<Given<String>, Fault> {
    fields
        .text("domain_name", body::TEXT_CHARACTERS_MAX)?
        .parse(|name| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            let is_label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(fits)
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            if !name
                .strip_suffix('.')
                .unwrap_or(&name)
                .split('.')
                .all(is_label)
            {
                return Err(Fault::input(
                    "domain_name",
                    &name,
                    "Value should be a host name",
                ));
            }
            Ok(name)
        })
}

fn codes_default() -> (String, Vec<ExpectedCodes>) {
    (
        "200".into(),
        vec![ExpectedCodes {
            first: 200,
            last: 200,
        }],
    )
}

const fn version_number(version: HttpVersion) -> f64 {
    match version {
        HttpVersion::Http10 => 1.0,
        HttpVersion::Http11 => 1.1,
    }
}

/// What monitors can be filtered and sorted by, beside what all resources can (reference 4.1).
pub(crate) const ATTRIBUTES: &[&str] = &[
    "type",
    "delay",
    "timeout",
    "max_retries",
    "max_retries_down",
    "http_method",
    "url_path",
    "expected_codes",
    "http_version",
    "domain_name",
];

/// The argument's name in errors.
pub(crate) const ARGUMENT: &str = "health_monitor_";
/// The key of one.
pub(crate) const ROOT: &str = "healthmonitor";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "healthmonitors";
const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH",
];
const METHOD_DEFAULT: &str = "GET";
const PATH_DEFAULT: &str = "/";
const MAX_RETRIES_DOWN_DEFAULT: u8 = 3;
const RETRIES_MAX: i64 = 10;
/// 24 days: what an amphora's timers hold.
const SECONDS_MAX: i64 = 2_073_600;
const EXPECTED_CODES_CHARACTERS_MAX: usize = 64;
