//! What may be written in a snapshot file, as tables: the fields of the contract, with ids and generation optional.
//!
//! Checked before the contract's own types read the file, because those stop at the first error and a person editing
//! a file wants all of them, each with its path. A test holds the tables against the contract.

use std::{fmt, net::IpAddr};

use hashbrown::HashSet;
use krater_amphora_api::{
    AccessLogSpec, Algorithm, AnnouncementSpec, CongestionControl, ExpectedCodes, Generation,
    HealthMonitorId, HttpVersion, L7PolicyId, ListenerId, ListenerProtocol, ListenerTlsSpec,
    LoadBalancerId, MemberId, PassiveHealthSpec, PersistenceSpec, PolicyAction, PoolId,
    PoolProtocol, PoolTlsSpec, RuleSpec,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::strict::{Flaw, kind_of};

/// The fields of one kind of object.
pub(super) type Shape = &'static [Field];

/// One field.
pub(super) struct Field {
    name: &'static str,
    need: Need,
    content: Content,
}

#[derive(Clone, Copy)]
enum Need {
    /// With what stands in for it while the rest is checked, as JSON.
    Required(&'static str),
    Optional,
}

/// What a field holds.
enum Content {
    /// Whatever this reads.
    Leaf(fn(&Value) -> Result<(), String>),
    /// A resource of its own, or `null`.
    Resource(Shape),
    /// Resources.
    Resources(Shape),
    /// Settings of the resource they are in.
    Part(Shape),
    /// An address, or an object that holds one.
    Vips,
    /// A probe: its fields depend on its type.
    Probe,
}

/// A load balancer.
pub(super) const LOAD_BALANCER: Shape = &[
    optional("load_balancer", leaf::<Option<LoadBalancerId>>()),
    optional("name", leaf::<String>()),
    optional("generation", leaf::<Option<Generation>>()),
    optional("enabled", leaf::<bool>()),
    required("vips", Content::Vips, r#"[{"address": "127.0.0.1"}]"#),
    optional("listeners", Content::Resources(LISTENER)),
    optional("pools", Content::Resources(POOL)),
    optional("member_drain_ms", leaf::<Option<u32>>()),
    optional("announcement", leaf::<Option<AnnouncementSpec>>()),
];

const VIP: Shape = &[required("address", leaf::<IpAddr>(), r#""127.0.0.1""#)];

const LISTENER: Shape = &[
    optional("id", leaf::<Option<ListenerId>>()),
    optional("name", leaf::<String>()),
    optional("enabled", leaf::<bool>()),
    required("protocol", leaf::<ListenerProtocol>(), r#""tcp""#),
    required("port", leaf::<u16>(), "1"),
    optional("connection_limit", leaf::<u32>()),
    // The id or the name of a pool.
    optional("default_pool", leaf::<Option<String>>()),
    optional("allowed_cidrs", leaf::<Vec<String>>()),
    optional("timeouts", Content::Part(TIMEOUTS)),
    optional("insert_headers", Content::Part(INSERT_HEADERS)),
    optional("source_rate", leaf::<Option<u32>>()),
    optional("policies", Content::Resources(POLICY)),
    optional("access_log", leaf::<Option<AccessLogSpec>>()),
    optional("tls", leaf::<Option<ListenerTlsSpec>>()),
    optional("congestion_control", leaf::<Option<CongestionControl>>()),
];

const POLICY: Shape = &[
    optional("id", leaf::<Option<L7PolicyId>>()),
    // A pool in it by its id or its name.
    required("action", leaf::<PolicyAction<String>>(), r#""reject""#),
    required(
        "rules",
        leaf::<Vec<RuleSpec>>(),
        r#"[{"subject": "path", "comparison": "starts_with", "value": "/"}]"#,
    ),
];

const TIMEOUTS: Shape = &[
    optional("client_data_ms", leaf::<u32>()),
    optional("member_connect_ms", leaf::<u32>()),
    optional("member_data_ms", leaf::<u32>()),
    optional("tcp_inspect_ms", leaf::<u32>()),
];

const INSERT_HEADERS: Shape = &[
    optional("x_forwarded_for", leaf::<bool>()),
    optional("x_forwarded_port", leaf::<bool>()),
    optional("x_forwarded_proto", leaf::<bool>()),
    optional("x_forwarded_ip", leaf::<bool>()),
    optional("x_client_ip", leaf::<bool>()),
    optional("x_real_ip", leaf::<bool>()),
    optional("x_ssl_client_verify", leaf::<bool>()),
    optional("x_ssl_client_has_cert", leaf::<bool>()),
    optional("x_ssl_client_dn", leaf::<bool>()),
    optional("x_ssl_client_cn", leaf::<bool>()),
    optional("x_ssl_issuer", leaf::<bool>()),
    optional("x_ssl_client_sha1", leaf::<bool>()),
    optional("x_ssl_client_not_before", leaf::<bool>()),
    optional("x_ssl_client_not_after", leaf::<bool>()),
];

const POOL: Shape = &[
    optional("id", leaf::<Option<PoolId>>()),
    optional("name", leaf::<String>()),
    optional("enabled", leaf::<bool>()),
    required("protocol", leaf::<PoolProtocol>(), r#""http""#),
    optional("algorithm", leaf::<Algorithm>()),
    optional("persistence", leaf::<Option<PersistenceSpec>>()),
    optional("members", Content::Resources(MEMBER)),
    optional("monitor", Content::Resource(MONITOR)),
    optional("passive_health", leaf::<Option<PassiveHealthSpec>>()),
    optional("slow_start_ms", leaf::<u32>()),
    optional("member_requests", leaf::<Option<u32>>()),
    optional("tls", leaf::<Option<PoolTlsSpec>>()),
];

const MEMBER: Shape = &[
    optional("id", leaf::<Option<MemberId>>()),
    optional("name", leaf::<String>()),
    optional("enabled", leaf::<bool>()),
    required("address", leaf::<IpAddr>(), r#""127.0.0.1""#),
    required("port", leaf::<u16>(), "1"),
    optional("weight", leaf::<u16>()),
    optional("backup", leaf::<bool>()),
    optional("monitor_address", leaf::<Option<IpAddr>>()),
    optional("monitor_port", leaf::<Option<u16>>()),
];

const MONITOR: Shape = &[
    optional("id", leaf::<Option<HealthMonitorId>>()),
    optional("enabled", leaf::<bool>()),
    required("probe", Content::Probe, r#"{"type": "tcp"}"#),
    required("delay_ms", leaf::<u32>(), "1000"),
    required("timeout_ms", leaf::<u32>(), "1000"),
    required("rise", leaf::<u8>(), "1"),
    required("fall", leaf::<u8>(), "1"),
];

const PROBE: Shape = &[required("type", leaf::<String>(), r#""tcp""#)];

const TLS_HELLO_PROBE: Shape = &[
    required("type", leaf::<String>(), r#""tls_hello""#),
    optional("server_name", leaf::<Option<String>>()),
];

const HTTP_PROBE: Shape = &[
    required("type", leaf::<String>(), r#""http""#),
    required("method", leaf::<String>(), r#""GET""#),
    required("path", leaf::<String>(), r#""/""#),
    required(
        "expected_codes",
        leaf::<Vec<ExpectedCodes>>(),
        r#"[{"first": 200, "last": 200}]"#,
    ),
    optional("version", leaf::<Option<HttpVersion>>()),
    optional("domain_name", leaf::<Option<String>>()),
];

const fn leaf<T: DeserializeOwned>() -> Content {
    Content::Leaf(|value| {
        T::deserialize(value)
            .map(drop)
            .map_err(|error| error.to_string())
    })
}

const fn required(name: &'static str, content: Content, sample: &'static str) -> Field {
    Field {
        name,
        need: Need::Required(sample),
        content,
    }
}

const fn optional(name: &'static str, content: Content) -> Field {
    Field {
        name,
        need: Need::Optional,
        content,
    }
}

/// Where something is written. Text only for those who ask: nearly all there is to check is well.
pub(super) enum Path<'a> {
    Root(&'a str),
    Field(&'a Self, &'a str),
    Element(&'a Self, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(path) => f.write_str(path),
            Self::Field(holder, name) => write!(f, "{holder}.{name}"),
            Self::Element(holder, index) => write!(f, "{holder}[{index}]"),
        }
    }
}

/// Finds what does not fit, and puts something harmless in its place, so that the meaning of all else can be checked
/// in the same go.
pub(super) struct Fitting<'a> {
    /// What was found.
    pub(super) flaws: &'a mut Vec<Flaw>,
    /// Paths of the resources in which something was replaced: what they mean now says nothing of the file.
    pub(super) mended: HashSet<String>,
}

impl Fitting<'_> {
    /// Fits a resource.
    pub(super) fn resource(&mut self, path: &Path<'_>, value: &mut Value, shape: Shape) {
        self.object(path, path, value, shape);
    }

    fn object(&mut self, owner: &Path<'_>, path: &Path<'_>, value: &mut Value, shape: Shape) {
        let Value::Object(fields) = value else {
            self.flaw(
                owner,
                path,
                format!("must be an object, not {}", kind_of(value)),
            );
            *value = sample_of(shape);
            return;
        };
        self.refuse_unknown(owner, path, fields, shape);
        for field in shape {
            let path = Path::Field(path, field.name);
            match (fields.get_mut(field.name), field.need) {
                (Some(value), need) => {
                    if let Err(Misfit) = self.content(owner, &path, value, &field.content) {
                        match need {
                            Need::Required(sample) => *value = parse_sample(sample),
                            Need::Optional => drop(fields.remove(field.name)),
                        }
                    }
                }
                (None, Need::Required(sample)) => {
                    self.flaw(owner, &path, "is required".to_owned());
                    fields.insert(field.name.to_owned(), parse_sample(sample));
                }
                (None, Need::Optional) => {}
            }
        }
    }

    fn refuse_unknown(
        &mut self,
        owner: &Path<'_>,
        path: &Path<'_>,
        fields: &mut Map<String, Value>,
        shape: Shape,
    ) {
        fields.retain(|name, _| {
            let is_known = shape.iter().any(|field| field.name == name);
            if !is_known {
                let known = shape
                    .iter()
                    .map(|field| field.name)
                    .collect::<Vec<_>>()
                    .join(", ");
                self.flaw(
                    owner,
                    &Path::Field(path, name),
                    format!("unknown field; known here: {known}"),
                );
            }
            is_known
        });
    }

    /// Fits the value of a field, or finds that it has to be replaced.
    fn content(
        &mut self,
        owner: &Path<'_>,
        path: &Path<'_>,
        value: &mut Value,
        content: &Content,
    ) -> Result<(), Misfit> {
        match content {
            Content::Leaf(read) => read(value).map_err(|reason| self.flaw(owner, path, reason)),
            Content::Resource(_) if value.is_null() => Ok(()),
            Content::Resource(shape) => {
                self.resource(path, value, shape);
                Ok(())
            }
            Content::Part(shape) => {
                self.object(owner, path, value, shape);
                Ok(())
            }
            Content::Resources(shape) => {
                for (index, element) in self.elements(owner, path, value)?.iter_mut().enumerate() {
                    self.resource(&Path::Element(path, index), element, shape);
                }
                Ok(())
            }
            Content::Vips => {
                for (index, element) in self.elements(owner, path, value)?.iter_mut().enumerate() {
                    let path = Path::Element(path, index);
                    if !element.is_string() {
                        self.object(owner, &path, element, VIP);
                    } else if let Err(Misfit) =
                        self.content(owner, &path, element, &leaf::<IpAddr>())
                    {
                        *element = sample_of(VIP);
                    }
                }
                Ok(())
            }
            Content::Probe => self.probe(owner, path, value),
        }
    }

    fn probe(
        &mut self,
        owner: &Path<'_>,
        path: &Path<'_>,
        value: &mut Value,
    ) -> Result<(), Misfit> {
        match value.get("type").and_then(Value::as_str) {
            Some("http" | "https") => self.object(owner, path, value, HTTP_PROBE),
            Some("tls_hello") => self.object(owner, path, value, TLS_HELLO_PROBE),
            Some("tcp" | "ping" | "udp_connect") | None => self.object(owner, path, value, PROBE),
            Some(other) => {
                let reason = format!(
                    "{other:?} is not a probe; known: tcp, ping, http, https, tls_hello, udp_connect"
                );
                return Err(self.flaw(owner, &Path::Field(path, "type"), reason));
            }
        }
        Ok(())
    }

    fn elements<'v>(
        &mut self,
        owner: &Path<'_>,
        path: &Path<'_>,
        value: &'v mut Value,
    ) -> Result<&'v mut Vec<Value>, Misfit> {
        if !value.is_array() {
            let reason = format!("must be an array, not {}", kind_of(value));
            return Err(self.flaw(owner, path, reason));
        }
        value.as_array_mut().ok_or(Misfit)
    }

    fn flaw(&mut self, owner: &Path<'_>, path: &Path<'_>, reason: String) -> Misfit {
        self.flaws.push(Flaw::new(path.to_string(), reason));
        self.mended.insert(owner.to_string());
        Misfit
    }
}

/// A value that cannot stay.
struct Misfit;

fn sample_of(shape: Shape) -> Value {
    let fields = shape.iter().filter_map(|field| match field.need {
        Need::Required(sample) => Some((field.name.to_owned(), parse_sample(sample))),
        Need::Optional => None,
    });
    Value::Object(fields.collect())
}

fn parse_sample(sample: &str) -> Value {
    // A test reads every sample; `null` would only cost a later message.
    serde_json::from_str(sample).unwrap_or_default()
}
