//! A member that speaks TLS, and a client that trusts no other.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Result;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs, pki_types::ServerName,
};

/// An HTTP server inside TLS, with a certificate of its own make. Lives until the test ends.
#[derive(Debug)]
pub struct TlsMember {
    address: SocketAddr,
    client: Arc<ClientConfig>,
}

impl TlsMember {
    /// Serves at a free port.
    pub fn start(name: &str) -> Self {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let body = format!("{{\"member\":\"{name}\"}}");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, body) = (Arc::clone(&server), body.clone());
                // Whoever comes for a handshake alone is no mistake.
                thread::spawn(move || serve(stream, server, &body));
            }
        });
        Self { address, client }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The answer to a request by way of `address`, head and body, from this member and nobody else.
    pub fn fetch(&self, address: SocketAddr, path: &str) -> Result<String> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIME_MAX))?;
        let name = ServerName::try_from(NAME)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name)?;
        let mut stream = StreamOwned::new(connection, stream);
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {NAME}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = signing_key.serialize_der().try_into().expect("a key");
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("the key is the certificate's");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, body: &str) -> Result<()> {
    stream.set_read_timeout(Some(TIME_MAX))?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

const NAME: &str = "member.example";
const TIME_MAX: Duration = Duration::from_secs(20);
