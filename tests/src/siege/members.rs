//! Members that note the token of each request, so that one which comes twice is seen.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, ensure};

use super::ground::Protocol;

/// The member of one load balancer. It answers each token with its own name and the token.
#[derive(Debug)]
pub(super) struct Witness {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    protocol: Protocol,
    seen: Mutex<HashSet<String>>,
    doubled: AtomicU64,
    stopped: AtomicBool,
}

impl Witness {
    /// Serves at a free port of an address.
    pub(super) fn start(name: &str, protocol: Protocol, address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has one");
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            protocol,
            seen: Mutex::default(),
            doubled: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let (accepting, own) = (listener.try_clone().expect("a handle"), Arc::clone(&shared));
        thread::spawn(move || {
            for stream in accepting.incoming().flatten() {
                if own.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&own);
                // A connection that breaks off is what clients note.
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self {
            address,
            listener,
            shared,
        }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tokens that came again.
    pub(super) fn doubled(&self) -> u64 {
        self.shared.doubled.load(Ordering::Relaxed)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(token) = read_token(&mut reader, shared.protocol)? {
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.insert(token.clone()) {
            shared.doubled.fetch_add(1, Ordering::Relaxed);
        }
        drop(seen);
        let answer = format!("{} {token}\n", shared.name);
        let bytes = match shared.protocol {
            Protocol::Tcp => answer,
            Protocol::Http => {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}",
                    answer.len()
                )
            }
        };
        reader.get_mut().write_all(bytes.as_bytes())?;
    }
    Ok(())
}

/// The token of the next request; `None` at the end.
fn read_token(reader: &mut BufReader<TcpStream>, protocol: Protocol) -> Result<Option<String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    ensure!(line.ends_with('\n'), "a line in two halves");
    if protocol == Protocol::Tcp {
        return Ok(Some(line.trim_end().to_owned()));
    }
    let path = line.split(' ').nth(1).context("a request has a path")?;
    let token = path.trim_start_matches('/').to_owned();
    let mut header = String::new();
    while header != "\r\n" {
        header.clear();
        ensure!(reader.read_line(&mut header)? > 0, "a head in two halves");
    }
    Ok(Some(token))
}
