//! A member that expects a PROXY header ahead of HTTP.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use krater_amphora_core::proxy_protocol::{Origin, Parsed, Version, parse};

/// Answers each request with what the header of its connection said: version, source, destination. Lives until the test
/// ends.
#[derive(Debug)]
pub struct ProxiedMember {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    relayed: AtomicUsize,
    own: AtomicUsize,
}

impl ProxiedMember {
    /// Serves at a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = Arc::clone(&shared);
                // A client that goes away in the middle is its own affair.
                thread::spawn(move || serve(stream, &counts));
            }
        });
        Self { address, counts }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far that were relayed for somebody.
    pub fn relayed(&self) -> usize {
        self.counts.relayed.load(Ordering::SeqCst)
    }

    /// Connections so far that spoke for nobody.
    pub fn own(&self) -> usize {
        self.counts.own.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, counts: &Counts) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut start = Vec::new();
    let mut byte = [0];
    let (version, origin) = loop {
        stream.read_exact(&mut byte)?;
        start.push(byte[0]);
        match parse(&start) {
            Ok(Parsed::Header {
                version, origin, ..
            }) => break (version, origin),
            Ok(Parsed::Incomplete) => {}
            Err(fault) => bail!("{fault:?}: {}", start.escape_ascii()),
        }
    };
    let form = match version {
        Version::V1 => 1,
        Version::V2 => 2,
    };
    let (counter, told) = match origin {
        Origin::Relayed {
            source,
            destination,
        } => (&counts.relayed, format!("v{form} {source} {destination}")),
        Origin::Own => (&counts.own, format!("v{form}")),
    };
    counter.fetch_add(1, Ordering::SeqCst);
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            let length = told.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{told}"
            )?;
        }
        line.clear();
    }
    Ok(())
}
