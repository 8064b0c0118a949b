//! The programs that are compared, each with the configuration of somebody who knows it.

use std::{
    fmt::Write,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use krater_tests::{Signal, binary};
use serde_json::{Value, json};

/// One program in one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Krater,
    /// Bytes of a buffer, and whether it splices.
    Haproxy(u32, bool),
    Nginx,
    Envoy,
}

/// What a proxy is to do.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) datagrams: bool,
    pub(super) address: SocketAddr,
    pub(super) members: Vec<SocketAddr>,
}

impl Peer {
    pub(super) const ALL: [Self; 7] = [
        Self::Krater,
        Self::Haproxy(16_384, false),
        Self::Haproxy(65_536, false),
        Self::Haproxy(16_384, true),
        Self::Haproxy(65_536, true),
        Self::Nginx,
        Self::Envoy,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Krater => "krater",
            Self::Haproxy(16_384, false) => "haproxy",
            Self::Haproxy(_, false) => "haproxy-64k",
            Self::Haproxy(16_384, true) => "haproxy-splice",
            Self::Haproxy(_, true) => "haproxy-splice64",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
        }
    }

    pub(super) fn is_haproxy(self) -> bool {
        matches!(self, Self::Haproxy(..))
    }

    /// Whether it only differs from another peer where many bytes are moved.
    pub(super) fn is_for_bulk(self) -> bool {
        !matches!(self, Self::Haproxy(16_384, false)) && self.is_haproxy()
    }

    /// Its program, if it is installed.
    pub(super) fn program(self) -> Option<PathBuf> {
        let (variable, name) = match self {
            Self::Krater => return Some(binary("krater-amphora")),
            Self::Haproxy(..) => ("HAPROXY", "haproxy"),
            Self::Nginx => ("NGINX", "nginx"),
            Self::Envoy => ("ENVOY", "envoy"),
        };
        if let Some(path) = std::env::var_os(variable) {
            return Some(path.into());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian's are where only root looks.
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    }

    /// Writes the configuration into `folder`; the arguments to start it with. What it reads again on a reload is the
    /// same file.
    pub(super) fn configure(self, folder: &Path, listeners: &[Listener]) -> Vec<String> {
        let file = |name: &str| folder.join(name).display().to_string();
        let arguments = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        match self {
            Self::Krater => {
                replace(&file("snapshot.json"), &snapshot(listeners));
                arguments(&[
                    "run",
                    "--workers",
                    "1",
                    "--snapshot",
                    &file("snapshot.json"),
                ])
            }
            Self::Haproxy(buffer, splices) => {
                replace(
                    &file("haproxy.cfg"),
                    &haproxy(folder, listeners, buffer, splices),
                );
                arguments(&["-W", "-f", &file("haproxy.cfg")])
            }
            Self::Nginx => {
                replace(&file("nginx.conf"), &nginx(folder, listeners));
                arguments(&[
                    "-p",
                    &file(""),
                    "-c",
                    &file("nginx.conf"),
                    "-e",
                    &file("error"),
                ])
            }
            Self::Envoy => {
                let (clusters, routes) = envoy(listeners);
                replace(&file("cds.json"), &clusters);
                replace(&file("lds.json"), &routes);
                let source = |name| json!({"path_config_source": {"path": file(name)}, "resource_api_version": "V3"});
                let start = json!({"node": {"id": "n", "cluster": "n"},
                    "dynamic_resources": {"cds_config": source("cds.json"), "lds_config": source("lds.json")}});
                replace(&file("envoy.json"), &start.to_string());
                arguments(&[
                    "-c",
                    &file("envoy.json"),
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "-l",
                    "error",
                ])
            }
        }
    }

    /// What tells it that its file has changed; `None` if it looks by itself.
    pub(super) fn reload_signal(self) -> Option<Signal> {
        match self {
            Self::Krater | Self::Nginx => Some(Signal::HUP),
            Self::Haproxy(..) => Some(Signal::USR2),
            Self::Envoy => None,
        }
    }

    /// Whether a reload replaces processes, whose time then has to be counted after their end.
    pub(super) fn replaces_processes(self) -> bool {
        self.is_haproxy() || self == Self::Nginx
    }

    pub(super) fn carries(self, datagrams: bool) -> bool {
        // HAProxy balances no UDP.
        !(datagrams && self.is_haproxy())
    }
}

/// Renames into place: nobody reads half a file.
fn replace(path: &str, text: &str) {
    let fresh = format!("{path}.new");
    fs::write(&fresh, text).expect("the configuration can be written");
    fs::rename(&fresh, path).expect("the configuration can be put in place");
}

/// One load balancer for each listener, as tenants have them.
fn snapshot(listeners: &[Listener]) -> String {
    let balancer = |listener: &Listener| {
        let protocol = if listener.datagrams { "udp" } else { "tcp" };
        let address = listener.address;
        let members: Vec<_> = listener
            .members
            .iter()
            .map(|member| json!({"address": member.ip(), "port": member.port()}))
            .collect();
        json!({
            "name": address.to_string(), "vips": [address.ip()],
            "listeners": [{"protocol": protocol, "port": address.port(), "default_pool": "p",
                "connection_limit": 1_000_000}],
            "pools": [{"name": "p", "protocol": protocol, "members": members}],
        })
    };
    let balancers: Vec<Value> = listeners.iter().map(balancer).collect();
    json!({"load_balancers": balancers}).to_string()
}

fn haproxy(folder: &Path, listeners: &[Listener], buffer: u32, splices: bool) -> String {
    let pipes = if splices {
        " maxpipes 400\n tune.pipesize 1048576\n"
    } else {
        ""
    };
    let splice = if splices {
        " option splice-request\n option splice-response\n"
    } else {
        ""
    };
    let connections = if splices { 4000 } else { 9300 };
    let mut text = format!(
        "global\n nbthread 1\n maxconn {connections}\n tune.bufsize {buffer}\n{pipes} stats socket {}/socket mode 600 \
         level admin expose-fd listeners\ndefaults\n mode tcp\n maxconn {connections}\n timeout connect 5s\n timeout \
         client 300s\n timeout server 300s\n{splice}",
        folder.display()
    );
    for (index, listener) in listeners.iter().enumerate() {
        let _ = writeln!(
            text,
            "frontend f{index}\n bind {}\n default_backend b{index}\nbackend b{index}\n balance roundrobin",
            listener.address
        );
        for (member, address) in listener.members.iter().enumerate() {
            let _ = writeln!(text, " server s{member} {address}");
        }
    }
    text
}

fn nginx(folder: &Path, listeners: &[Listener]) -> String {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let mut text = String::new();
    if Path::new(MODULE).exists() {
        let _ = writeln!(text, "load_module {MODULE};");
    }
    let _ = writeln!(
        text,
        "daemon off; user root; worker_processes 1; pid {}/pid; worker_rlimit_nofile 20000;\n\
         events {{ worker_connections 19900; multi_accept on; }}\nstream {{",
        folder.display()
    );
    for (index, listener) in listeners.iter().enumerate() {
        let _ = write!(text, "upstream u{index} {{");
        for member in &listener.members {
            let _ = write!(text, " server {member};");
        }
        let (options, rest) = if listener.datagrams {
            ("udp reuseport", "proxy_timeout 2s")
        } else {
            ("backlog=65535", "proxy_timeout 300s; tcp_nodelay on")
        };
        let address = listener.address;
        let _ = writeln!(
            text,
            " }}\nserver {{ listen {address} {options}; proxy_pass u{index}; {rest}; }}"
        );
    }
    text.push_str("}\n");
    text
}

/// Its clusters and its listeners, as it reads them from files.
fn envoy(listeners: &[Listener]) -> (String, String) {
    const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions.filters";
    let at = |address: &SocketAddr, protocol| json!({"socket_address": {"address": address.ip(), "port_value": address.port(), "protocol": protocol}});
    let cluster = |(index, listener): (usize, &Listener)| {
        let members: Vec<_> = listener
            .members
            .iter()
            .map(|member| json!({"endpoint": {"address": at(member, "TCP")}}))
            .collect();
        let name = format!("c{index}");
        let many = json!([{"max_connections": 1_000_000, "max_pending_requests": 1_000_000, "max_requests": 1_000_000}]);
        json!({
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": name, "type": "STATIC",
            "lb_policy": "ROUND_ROBIN", "connect_timeout": "5s", "circuit_breakers": {"thresholds": many},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": members}]},
        })
    };
    let route = |(index, listener): (usize, &Listener)| {
        let protocol = if listener.datagrams { "UDP" } else { "TCP" };
        let mut route = json!({
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": format!("l{index}"),
            "address": at(&listener.address, protocol),
        });
        if listener.datagrams {
            let to = json!({"name": "route", "typed_config": {
                "@type": format!("{EXTENSIONS}.udp.udp_proxy.v3.Route"), "cluster": format!("c{index}")}});
            route["listener_filters"] = json!([{"name": "u", "typed_config": {
                "@type": format!("{EXTENSIONS}.udp.udp_proxy.v3.UdpProxyConfig"), "stat_prefix": "s",
                "idle_timeout": "2s", "matcher": {"on_no_match": {"action": to}}}}]);
        } else {
            let proxy = json!({"@type": format!("{EXTENSIONS}.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "s", "cluster": format!("c{index}")});
            route["filter_chains"] = json!([{"filters": [{"name": "t", "typed_config": proxy}]}]);
        }
        route
    };
    let clusters: Vec<_> = listeners.iter().enumerate().map(cluster).collect();
    let routes: Vec<_> = listeners.iter().enumerate().map(route).collect();
    (
        json!({"resources": clusters}).to_string(),
        json!({"resources": routes}).to_string(),
    )
}
