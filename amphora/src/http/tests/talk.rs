//! Plain HTTP/1.1 over std sockets, for both ends of a test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::testbed::{connect, member};

/// A message as it was read.
#[derive(Debug)]
pub(super) struct Message {
    /// The request or status line.
    pub(super) start: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|header| header.0 == name)
            .map(|header| header.1.as_str())
            .collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Whether a message has the body that its head announces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Request,
    Answer,
    AnswerToHead,
}

/// One end of a connection.
pub(super) struct Talk<S: Read + Write = TcpStream> {
    pub(super) stream: BufReader<S>,
}

impl Talk {
    pub(super) fn to(address: SocketAddr) -> Self {
        Self::over(connect(address))
    }
}

impl<S: Read + Write> Talk<S> {
    pub(super) fn over(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(super) fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Sends a GET and reads the answer.
    pub(super) fn get(&mut self, path: &str) -> Message {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: example\r\n\r\n"));
        self.read(Expect::Answer)
    }

    pub(super) fn read(&mut self, expect: Expect) -> Message {
        self.try_read(expect)
            .expect("the connection was closed instead")
    }

    /// `None` if the connection ends before a message begins.
    pub(super) fn try_read(&mut self, expect: Expect) -> Option<Message> {
        let start = self.line()?;
        let mut headers = vec![];
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut message = Message {
            start,
            headers,
            body: vec![],
        };
        let bodiless = expect == Expect::AnswerToHead
            || (expect == Expect::Answer && matches!(message.status(), 100..=199 | 204 | 304));
        if !bodiless {
            message.body = self.body(&mut message, expect);
        }
        Some(message)
    }

    fn body(&mut self, message: &mut Message, expect: Expect) -> Vec<u8> {
        let mut body = vec![];
        if message.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line().unwrap(), 16).unwrap();
                if size == 0 {
                    // Trailers, then an empty line.
                    while let Some(line) = self.line().filter(|line| !line.is_empty()) {
                        let (name, value) = line.split_once(": ").unwrap();
                        message.headers.push((name.to_owned(), value.to_owned()));
                    }
                    return body;
                }
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk).unwrap();
                body.extend(chunk);
                assert_eq!(self.line().unwrap(), "");
            }
        } else if let Some(length) = message.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).unwrap();
        } else if expect == Expect::Answer {
            self.stream.read_to_end(&mut body).unwrap();
        }
        body
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }
}

/// A member that answers each request with what `answer` makes of it, and keeps its connections.
pub(super) fn http_member(
    answer: impl Fn(&Message) -> String + Send + Sync + 'static,
) -> SocketAddr {
    member(move |stream| {
        let mut talk = Talk::over(stream);
        while let Some(request) = talk.try_read(Expect::Request) {
            if talk
                .stream
                .get_mut()
                .write_all(answer(&request).as_bytes())
                .is_err()
            {
                return;
            }
        }
    })
}

/// A 200 with that body.
pub(super) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Shows a request as the member got it.
pub(super) fn show(request: &Message) -> String {
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    format!(
        "{}\n{}\n{}",
        request.start,
        headers.concat(),
        String::from_utf8_lossy(&request.body)
    )
}
