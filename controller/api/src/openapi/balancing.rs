//! The resources of tenants, field for field (reference 5–11).

use super::{
    field::{
        Field,
        Mode::{
            Changed, Created, Needed, NeededChanged, NeededOnlySent, OnlySent, Shown,
            SometimesShown,
        },
        Null::{Both, Never, Sent},
        Takes::{
            Address, Boolean, Choice, Cidr, Component, Integer, List, Number, Object, References,
            Text, Texts, Time, Uuid,
        },
    },
    resource::{Resource, constants, fields},
};

/// Load balancers.
pub(super) const LOAD_BALANCER: Resource = Resource {
    component: "LoadBalancer",
    root: "loadbalancer",
    root_list: "loadbalancers",
    links: "loadbalancers_links",
    fields: fields! {
        [ID, NAME, DESCRIPTION, ADMIN_STATE_UP, PROVISIONING_STATUS, OPERATING_STATUS, STATUS_REASON,
            PROJECT_ID, TENANT_ID, CREATED_AT, UPDATED_AT, TAGS];
        "vip_address": Address, Created, Sent, "The address clients connect to; allocated if not given.";
        "vip_port_id": Uuid, Created, Sent, "The network port that holds the address.";
        "vip_subnet_id": Uuid, Created, Sent, "The subnet of the address.";
        "vip_network_id": Uuid, Created, Sent, "The network of the address.";
        "vip_qos_policy_id": Uuid, Changed, Both, "The QoS policy of the VIP's port.";
        "vip_vnic_type": Choice(&["normal", "direct"]), Shown, Never, "The kind of the VIP's port.";
        "vip_sg_ids": List(&Uuid), Changed, Sent, "Security groups of the VIP's port.";
        "additional_vips": List(&ADDITIONAL_VIP), Created, Sent, "Further addresses on the same port.";
        "provider": Text(0, 64), Created, Sent, "The provider.";
        "flavor_id": Uuid, Created, Both, "The flavor.";
        "availability_zone": Text(0, 255), Created, Both, "The availability zone, by name.";
        "listeners": List(&Component("NestedListener")), OnlySent, Sent, "Listeners to create along with it.";
        "pools": List(&Component("NestedPool")), OnlySent, Sent, "Pools to create along with it.";
        "listeners": References, Shown, Never, "Its listeners; with all they have in the answer to its creation.";
        "pools": References, Shown, Never, "Its pools; with all they have in the answer to its creation.";
    },
};

const ADDITIONAL_VIP: super::field::Takes = Object(fields! {
    [];
    "subnet_id": Uuid, Needed, Never, "The subnet, of the same network as the VIP's.";
    "ip_address": Address, Created, Sent, "The address; allocated if not given.";
    "port_id": Uuid, Created, Sent, "The port, always that of the VIP.";
});

/// Listeners.
pub(super) const LISTENER: Resource = Resource {
    component: "Listener",
    root: "listener",
    root_list: "listeners",
    links: "listeners_links",
    fields: fields! {
        [ID, NAME, DESCRIPTION, ADMIN_STATE_UP, PROVISIONING_STATUS, OPERATING_STATUS, STATUS_REASON,
            PROJECT_ID, TENANT_ID, CREATED_AT, UPDATED_AT, TAGS];
        "loadbalancer_id": Uuid, NeededOnlySent, Never, "The load balancer it belongs to.";
        "loadbalancers": References, Shown, Never, "The load balancer it belongs to.";
        "protocol": Choice(LISTENER_PROTOCOLS), Needed, Never, "What clients speak.";
        "protocol_port": PORT, Needed, Never, "The port.";
        "connection_limit": Integer(-1, 2_147_483_647), Changed, Sent, "Concurrent connections; -1 is the deployment's default.";
        "default_pool_id": Uuid, Changed, Both, "Where connections go.";
        "default_tls_container_ref": Text(0, 255), Changed, Both, "The certificate clients see.";
        "sni_container_refs": List(&Text(0, 255)), Changed, Sent, "Certificates chosen by server name.";
        "insert_headers": Texts, Changed, Sent, "Headers added to requests, each \"true\" or not.";
        "timeout_client_data": MILLISECONDS, Changed, Sent, "Client inactivity, ms.";
        "timeout_member_connect": MILLISECONDS, Changed, Sent, "Connecting to a member, ms.";
        "timeout_member_data": MILLISECONDS, Changed, Sent, "Member inactivity, ms.";
        "timeout_tcp_inspect": MILLISECONDS, Changed, Sent, "Wait for a client's first bytes, ms.";
        "client_ca_tls_container_ref": Text(0, 255), Changed, Both, "The authority of client certificates.";
        "client_authentication": Choice(&["NONE", "OPTIONAL", "MANDATORY"]), Changed, Sent, "Whether clients show a certificate.";
        "client_crl_container_ref": Text(0, 255), Changed, Both, "Client certificates that were revoked.";
        "allowed_cidrs": List(&Cidr), Changed, Both, "Networks clients may come from; everybody when null.";
        "tls_ciphers": Text(0, 2048), Changed, Both, "Ciphers, as an OpenSSL list.";
        "tls_versions": List(&Choice(TLS_VERSIONS)), Changed, Both, "Versions of TLS.";
        "alpn_protocols": List(&Choice(ALPN)), Changed, Both, "Protocols offered by ALPN.";
        "hsts_max_age": Integer(0, 2_147_483_647), Changed, Both, "HSTS: seconds to remember.";
        "hsts_include_subdomains": Boolean, Changed, Sent, "HSTS: subdomains too.";
        "hsts_preload": Boolean, Changed, Sent, "HSTS: may be put on preload lists.";
        "l7policies": References, Shown, Never, "Its policies, by position.";
    },
};

/// Pools.
pub(super) const POOL: Resource = Resource {
    component: "Pool",
    root: "pool",
    root_list: "pools",
    links: "pools_links",
    fields: fields! {
        [ID, NAME, DESCRIPTION, ADMIN_STATE_UP, PROVISIONING_STATUS, OPERATING_STATUS, STATUS_REASON,
            PROJECT_ID, TENANT_ID, CREATED_AT, UPDATED_AT, TAGS];
        "loadbalancer_id": Uuid, OnlySent, Sent, "The load balancer it belongs to; this or a listener is needed.";
        "listener_id": Uuid, OnlySent, Sent, "The listener whose default pool it becomes.";
        "loadbalancers": References, Shown, Never, "The load balancer it belongs to.";
        "listeners": References, Shown, Never, "The listeners whose default pool it is.";
        "protocol": Choice(POOL_PROTOCOLS), Needed, Never, "What members speak.";
        "lb_algorithm": Choice(ALGORITHMS), NeededChanged, Never, "How a member is chosen.";
        "session_persistence": PERSISTENCE, Changed, Both, "How a client stays with its member.";
        "tls_enabled": Boolean, Changed, Sent, "Whether members are reached over TLS.";
        "tls_container_ref": Text(0, 255), Changed, Both, "The certificate shown to members.";
        "ca_tls_container_ref": Text(0, 255), Changed, Both, "The authority of the members' certificates.";
        "crl_container_ref": Text(0, 255), Changed, Both, "Members' certificates that were revoked.";
        "tls_ciphers": Text(0, 2048), Changed, Both, "Ciphers towards members, as an OpenSSL list.";
        "tls_versions": List(&Choice(TLS_VERSIONS)), Changed, Both, "Versions of TLS towards members.";
        "alpn_protocols": List(&Choice(ALPN)), Changed, Both, "Protocols offered to members by ALPN.";
        "members": References, Shown, Never, "Its members.";
        "healthmonitor_id": Uuid, SometimesShown, Never, "Its health monitor; left out when there is none.";
    },
};

const PERSISTENCE: super::field::Takes = Object(fields! {
    [];
    "type": Choice(&["SOURCE_IP", "HTTP_COOKIE", "APP_COOKIE"]), Created, Sent, "The kind; an update may leave it out.";
    "cookie_name": Text(0, 255), Created, Both, "The application's cookie, for APP_COOKIE.";
    "persistence_timeout": Integer(0, 2_147_483_647), Created, Both, "Seconds, for UDP and SCTP.";
    "persistence_granularity": Address, Created, Both, "The netmask of clients taken for one, for UDP and SCTP.";
});

/// Members.
pub(super) const MEMBER: Resource = Resource {
    component: "Member",
    root: "member",
    root_list: "members",
    links: "members_links",
    fields: fields! {
        [ID, NAME, ADMIN_STATE_UP, PROVISIONING_STATUS, OPERATING_STATUS, STATUS_REASON, PROJECT_ID,
            TENANT_ID, CREATED_AT, UPDATED_AT, TAGS];
        "address": Address, Needed, Never, "Where it listens.";
        "protocol_port": PORT, Needed, Never, "The port it listens on.";
        "weight": Integer(0, 256), Changed, Sent, "Its share; 0 takes nothing new.";
        "backup": Boolean, Changed, Sent, "Used only while no other can be.";
        "subnet_id": Uuid, Created, Both, "The subnet through which it is reached.";
        "monitor_address": Address, Changed, Both, "Probed instead of the address.";
        "monitor_port": PORT, Changed, Both, "Probed instead of the port.";
        "request_sriov": Boolean, OnlySent, Sent, "Whether an SR-IOV port is asked for.";
        "vnic_type": Choice(&["normal", "direct"]), Shown, Never, "The kind of port it is reached through.";
    },
};

/// Health monitors.
pub(super) const HEALTH_MONITOR: Resource = Resource {
    component: "HealthMonitor",
    root: "healthmonitor",
    root_list: "healthmonitors",
    links: "healthmonitors_links",
    fields: fields! {
        [ID, NAME, ADMIN_STATE_UP, PROVISIONING_STATUS, OPERATING_STATUS, STATUS_REASON, PROJECT_ID,
            TENANT_ID, CREATED_AT, UPDATED_AT, TAGS];
        "pool_id": Uuid, NeededOnlySent, Never, "The pool whose members it judges.";
        "pools": References, Shown, Never, "The pool whose members it judges.";
        "type": Choice(MONITORS), Needed, Never, "What a probe does.";
        "delay": SECONDS, NeededChanged, Never, "Seconds between probes.";
        "timeout": SECONDS, NeededChanged, Never, "Seconds a probe may take.";
        "max_retries": Integer(1, 10), NeededChanged, Never, "Successes until a member is taken for healthy.";
        "max_retries_down": Integer(1, 10), Changed, Sent, "Failures until a member is taken for dead.";
        "http_method": Choice(METHODS), Changed, Both, "Method of a probe.";
        "url_path": Text(1, 255), Changed, Both, "Path of a probe.";
        "expected_codes": Text(3, 64), Changed, Both, "Codes that pass, e.g. 200,202 or 200-204.";
        "http_version": Number(&[1.0, 1.1]), Changed, Both, "Version in the request line.";
        "domain_name": Text(1, 255), Changed, Both, "Host of a probe.";
    },
};

/// L7 policies.
pub(super) const L7_POLICY: Resource = Resource {
    component: "L7Policy",
    root: "l7policy",
    root_list: "l7policies",
    links: "l7policies_links",
    fields: fields! {
        [ID, NAME, DESCRIPTION, ADMIN_STATE_UP, PROVISIONING_STATUS, OPERATING_STATUS, STATUS_REASON,
            PROJECT_ID, TENANT_ID, CREATED_AT, UPDATED_AT, TAGS];
        "listener_id": Uuid, Needed, Never, "The listener whose requests it sees.";
        "action": Choice(ACTIONS), NeededChanged, Never, "What becomes of a request that matches.";
        "redirect_pool_id": Uuid, Changed, Both, "The pool it goes to.";
        "redirect_url": Text(0, 255), Changed, Both, "The address the client is sent to.";
        "redirect_prefix": Text(0, 255), Changed, Both, "What goes before the request's path in that address.";
        "redirect_http_code": Integer(301, 308), Changed, Both, "301, 302, 303, 307 or 308.";
        "position": Integer(1, 2_147_483_647), Changed, Sent, "Its place among the listener's policies.";
        "rules": References, Shown, Never, "Its rules; all have to match.";
    },
};

/// L7 rules.
pub(super) const L7_RULE: Resource = Resource {
    component: "L7Rule",
    root: "rule",
    root_list: "rules",
    links: "rules_links",
    fields: fields! {
        [ID, ADMIN_STATE_UP, PROVISIONING_STATUS, OPERATING_STATUS, STATUS_REASON, PROJECT_ID, TENANT_ID,
            CREATED_AT, UPDATED_AT, TAGS];
        "type": Choice(RULES), NeededChanged, Never, "What of the request is looked at.";
        "compare_type": Choice(COMPARISONS), NeededChanged, Never, "How it is compared.";
        "key": Text(0, 255), Changed, Both, "Which header, cookie or field.";
        "value": Text(1, 255), NeededChanged, Never, "With what.";
        "invert": Boolean, Changed, Sent, "Whether it matches when the comparison does not.";
    },
};

/// A listener within the creation of a load balancer (reference 17).
pub(super) const NESTED_LISTENER: &[Field] = fields! {
    [];
    "default_pool": Component("NestedPool"), Created, Sent, "A pool to create, or the name of one of this request.";
    "l7policies": List(&Component("NestedL7Policy")), Created, Sent, "Policies to create along with it.";
};

/// A pool within the creation of a load balancer, or its name alone.
pub(super) const NESTED_POOL: &[Field] = fields! {
    [];
    "members": List(&Component("NestedMember")), Created, Sent, "Members to create along with it.";
    "healthmonitor": Component("NestedHealthMonitor"), Created, Sent, "The monitor to create along with it.";
};

/// A policy within the creation of a load balancer.
pub(super) const NESTED_L7_POLICY: &[Field] = fields! {
    [];
    "redirect_pool": Component("NestedPool"), Created, Sent, "A pool to create, or the name of one of this request.";
    "rules": List(&Component("NestedL7Rule")), Created, Sent, "Rules to create along with it.";
};

constants! {
    ID = "id": Uuid, Shown, Never, "Its id.";
    NAME = "name": Text(0, 255), Changed, Sent, "Its name; need not be unique.";
    DESCRIPTION = "description": Text(0, 255), Changed, Sent, "A note.";
    ADMIN_STATE_UP = "admin_state_up": Boolean, Changed, Sent, "Whether it is in use; null is false.";
    PROVISIONING_STATUS = "provisioning_status": Choice(PROVISIONING), Shown, Never, "How far its last change is.";
    OPERATING_STATUS = "operating_status": Choice(OPERATING), Shown, Never, "Whether it works.";
    STATUS_REASON = "status_reason": Component("StatusReason"), SometimesShown, Never, "Why it is in ERROR.";
    PROJECT_ID = "project_id": Text(0, 36), Created, Sent, "Whose it is; a child's is its parent's.";
    TENANT_ID = "tenant_id": Text(0, 36), Created, Sent, "The same.";
    CREATED_AT = "created_at": Time, Shown, Never, "When it was created.";
    UPDATED_AT = "updated_at": Time, Shown, Both, "When it was last changed.";
    TAGS = "tags": List(&Text(1, 255)), Changed, Sent, "Words to find it by.";
}

const PORT: super::field::Takes = Integer(1, 65_535);
const MILLISECONDS: super::field::Takes = Integer(0, 2_073_600_000);
const SECONDS: super::field::Takes = Integer(0, 2_147_483);

const LISTENER_PROTOCOLS: &[&str] = &[
    "TCP",
    "HTTP",
    "HTTPS",
    "TERMINATED_HTTPS",
    "UDP",
    "SCTP",
    "PROMETHEUS",
];
const POOL_PROTOCOLS: &[&str] = &["TCP", "HTTP", "HTTPS", "PROXY", "PROXYV2", "UDP", "SCTP"];
const ALGORITHMS: &[&str] = &[
    "ROUND_ROBIN",
    "LEAST_CONNECTIONS",
    "SOURCE_IP",
    "SOURCE_IP_PORT",
];
const MONITORS: &[&str] = &[
    "HTTP",
    "HTTPS",
    "PING",
    "TCP",
    "TLS-HELLO",
    "UDP-CONNECT",
    "SCTP",
];
const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH",
];
const ACTIONS: &[&str] = &[
    "REJECT",
    "REDIRECT_TO_URL",
    "REDIRECT_TO_POOL",
    "REDIRECT_PREFIX",
];
const RULES: &[&str] = &[
    "HOST_NAME",
    "PATH",
    "FILE_TYPE",
    "HEADER",
    "COOKIE",
    "SSL_CONN_HAS_CERT",
    "SSL_VERIFY_RESULT",
    "SSL_DN_FIELD",
];
const COMPARISONS: &[&str] = &["REGEX", "STARTS_WITH", "ENDS_WITH", "CONTAINS", "EQUAL_TO"];
const TLS_VERSIONS: &[&str] = &["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
const ALPN: &[&str] = &["h2", "http/1.1", "http/1.0"];
const PROVISIONING: &[&str] = &[
    "ACTIVE",
    "PENDING_CREATE",
    "PENDING_UPDATE",
    "PENDING_DELETE",
    "ERROR",
];
const OPERATING: &[&str] = &[
    "ONLINE",
    "OFFLINE",
    "DEGRADED",
    "ERROR",
    "NO_MONITOR",
    "DRAINING",
];
