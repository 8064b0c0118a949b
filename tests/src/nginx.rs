//! nginx as a member: it ends TLS, and tells how it was spoken to.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{authority::Issued, process::Program, wait::until};

/// A member that answers each request with what it knows of the connection. Ends when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    program: Program,
    /// Where its files are.
    _folder: TempDir,
}

impl Nginx {
    /// Serves at `address` with that certificate. `listen` says more of the socket (`http2`, `proxy_protocol`), `further`
    /// is put into the server as it is; a file `clients.pem` beside it holds `clients`.
    pub fn start(
        address: &str,
        shown: &Issued,
        clients: &str,
        listen: &str,
        further: &str,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let files = [
            ("chain.pem", shown.chain.as_str()),
            ("key.pem", &shown.key),
            ("clients.pem", clients),
        ];
        for (name, text) in files {
            fs::write(path.join(name), text).expect("a file");
        }
        let home = path.display();
        let said = "$server_protocol $ssl_protocol $ssl_cipher name=[$ssl_server_name] \
            client=[$ssl_client_s_dn] resumed=[$ssl_session_reused] for=[$proxy_protocol_addr]";
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {home}/{kind};\n"))
            .concat();
        let config = format!(
            "pid {home}/pid;\nworker_processes 1;\nerror_log stderr;\nevents {{ worker_connections 256; }}\n\
             http {{\n{temporary}    access_log off;\n    server {{\n\
             \x20       listen {address} ssl {listen};\n\
             \x20       ssl_certificate {home}/chain.pem;\n        ssl_certificate_key {home}/key.pem;\n\
             \x20       ssl_protocols TLSv1.2 TLSv1.3;\n        {further}\n\
             \x20       location / {{ return 200 \"{said}\\n\"; }}\n    }}\n}}\n"
        );
        let config = config.replace("clients.pem", &format!("{home}/clients.pem"));
        let file = path.join("nginx.conf");
        fs::write(&file, config).expect("a file");
        let mut command = Command::new("nginx");
        command
            .args(["-e", "stderr", "-g", "daemon off; user root;", "-p"])
            .arg(path)
            .arg("-c")
            .arg(&file);
        let mut program = Program::start("nginx", &mut command, &path.join("log"));
        let address: SocketAddr = address.parse().expect("an address");
        until("nginx listens", Duration::from_secs(10), || {
            program.assert_runs();
            std::net::TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            program,
            _folder: folder,
        }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker goes with its master, if that is asked.
        if self.program.is_running() {
            self.program.terminate();
        }
    }
}
