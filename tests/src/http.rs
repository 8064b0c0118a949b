//! A small HTTP/1.1 client: one connection, kept alive, every answer read whole and checked for its length.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    reusable: bool,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header names in lower case, with values, in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Connection {
    /// Connects; every later step is bounded by twenty seconds.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, STEP_MAX)
            .with_context(|| format!("connect {address}"))?;
        Self::over(stream)
    }

    /// Speaks over a stream that is connected already.
    pub fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STEP_MAX))?;
        stream.set_write_timeout(Some(STEP_MAX))?;
        Ok(Self {
            stream: BufReader::new(stream),
            reusable: true,
        })
    }

    /// Whether the server left the connection open for another request.
    pub fn is_reusable(&self) -> bool {
        self.reusable
    }

    /// A GET without a body.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.request("GET", path, &[], None)
    }

    /// One request and its answer.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: krater.test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        self.stream
            .get_mut()
            .write_all(&bytes)
            .context("send the request")?;
        self.read_answer(method == "HEAD")
    }

    /// Reads one answer.
    pub fn read_answer(&mut self, without_body: bool) -> Result<Answer> {
        loop {
            let answer = self.read_one(without_body)?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    /// The connection itself, for tests that do more than HTTP.
    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    fn read_one(&mut self, without_body: bool) -> Result<Answer> {
        let status_line = self.line().context("read the status line")?;
        let mut parts = status_line.split(' ');
        let version = parts.next().unwrap_or_default().to_owned();
        let status: u16 = parts
            .next()
            .and_then(|code| code.parse().ok())
            .context("a status code")?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().context("read a header")?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header has a colon")?;
            headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let closes = answer
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.reusable = version == "HTTP/1.1" && !closes;
        if without_body || status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        answer.body = self.read_body(&answer)?;
        Ok(answer)
    }

    fn read_body(&mut self, answer: &Answer) -> Result<Vec<u8>> {
        if answer
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            return self.read_chunks();
        }
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().context("content-length is a number")?, 0);
            self.stream.read_exact(&mut body).context("read the body")?;
        } else {
            self.reusable = false;
            self.stream
                .read_to_end(&mut body)
                .context("read the body to its end")?;
        }
        Ok(body)
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().context("read a chunk size")?;
            let size =
                usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
            if size == 0 {
                while !self.line().context("read the trailer")?.is_empty() {}
                return Ok(body);
            }
            let start = body.len();
            body.resize(start + size, 0);
            self.stream
                .read_exact(&mut body[start..])
                .context("read a chunk")?;
            self.line().context("read the end of a chunk")?;
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the connection ended");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// One GET over a connection of its own.
pub fn fetch(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut connection = Connection::open(address)?;
    connection.request("GET", path, &[("connection", "close")], None)
}

const STEP_MAX: Duration = Duration::from_secs(20);
