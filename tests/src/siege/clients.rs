//! Clients that check each answer: whose it is, and what it answers.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    ground::{Balancer, Protocol},
    scores::{Fate, Scores},
};

/// A client of one load balancer.
#[derive(Debug)]
pub(super) struct Client {
    balancer: usize,
    name: String,
    address: SocketAddr,
    protocol: Protocol,
    /// Whether its connection serves more than one request.
    keeps: bool,
    pause: Duration,
}

impl Client {
    /// Two of each load balancer: one that keeps its connection, one that makes another for each request.
    pub(super) fn all(balancers: &[Balancer], pause: Duration) -> Vec<Self> {
        let of = |(number, balancer): (usize, &Balancer)| {
            [true, false].map(|keeps| Self {
                balancer: number,
                name: balancer.name.clone(),
                address: balancer.address,
                protocol: balancer.protocol,
                keeps,
                pause,
            })
        };
        balancers.iter().enumerate().flat_map(of).collect()
    }

    /// Asks until told to stop.
    pub(super) fn work(&self, number: usize, scores: &Scores, stop: &AtomicBool) {
        let mut kept = None;
        for request in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let token = format!("{number}-{request}");
            let begun = scores.current();
            let fate = self.ask(&token, &mut kept);
            scores.note(self.balancer, fate, begun);
            thread::sleep(self.pause);
        }
    }

    fn ask(&self, token: &str, kept: &mut Option<BufReader<TcpStream>>) -> Fate {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match self.connect() {
                Ok(connection) => connection,
                Err(error) => return Fate::Refused(reason(&error)),
            },
        };
        match self.exchange(token, &mut connection) {
            Ok((answer, is_last)) => {
                if answer != format!("{} {token}", self.name) {
                    return Fate::Wrong(format!(
                        "{answer} is no answer to {token} of {}",
                        self.name
                    ));
                }
                if self.keeps && !is_last {
                    *kept = Some(connection);
                }
                Fate::Done
            }
            Err(error) => Fate::Lost(reason(&error)),
        }
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = self.reach().context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(BufReader::new(stream))
    }

    /// Begins anew again and again, since a lost SYN is repeated after one second, then two, then four: what is measured
    /// is when somebody answers, not when that is noticed.
    fn reach(&self) -> io::Result<TcpStream> {
        let began = Instant::now();
        loop {
            match TcpStream::connect_timeout(&self.address, CONNECT_TRY) {
                Err(error)
                    if error.kind() == io::ErrorKind::TimedOut && began.elapsed() < CONNECT_MAX => {
                }
                reached => return reached,
            }
        }
    }

    /// The answer, and whether the connection ends with it.
    fn exchange(
        &self,
        token: &str,
        connection: &mut BufReader<TcpStream>,
    ) -> Result<(String, bool)> {
        let request = match self.protocol {
            Protocol::Tcp => format!("{token}\n"),
            Protocol::Http => format!("GET /{token} HTTP/1.1\r\nhost: {}\r\n\r\n", self.name),
        };
        connection
            .get_mut()
            .write_all(request.as_bytes())
            .context("send")?;
        if self.protocol == Protocol::Tcp {
            return Ok((line(connection)?, false));
        }
        let status = line(connection)?;
        let (mut length, mut is_last) = (0, false);
        loop {
            let header = line(connection)?.to_ascii_lowercase();
            match header.split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = value.parse().context("a length")?,
                Some(("connection", "close")) => is_last = true,
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).context("read a body")?;
        let status = status.split(' ').nth(1).unwrap_or_default();
        ensure!(status == "200", "answered with {status}");
        Ok((String::from_utf8(body)?.trim_end().to_owned(), is_last))
    }
}

fn line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line).context("read a line")?;
    if !line.ends_with('\n') {
        bail!("the connection ended");
    }
    Ok(line.trim_end().to_owned())
}

/// In few words and without numbers, so that reasons can be counted.
fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Whoever waits in a queue is served sooner.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// How precisely it is measured when somebody answers again.
const CONNECT_TRY: Duration = Duration::from_millis(250);
/// A host that is gone says nothing.
const ANSWER_MAX: Duration = Duration::from_secs(4);
