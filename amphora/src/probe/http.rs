//! The HTTP probe: one request, of whose answer only the status line is read.

use std::fmt::Write as _;

use krater_amphora_api::HttpVersion;
use krater_amphora_core::monitor::{HttpProbe, ProbeFailure, Stage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::tcp::{Allowance, Target, connect};
use crate::limits::STATUS_LINE_BYTES_MAX;

/// Succeeds when the answer's status is an expected one. No redirect is followed (reference 19.7).
pub(super) async fn probe(
    target: Target,
    request: &HttpProbe,
    time: Allowance,
) -> Result<(), ProbeFailure> {
    ask(connect(target, time).await?, request, time).await
}

/// Makes the request over a connection, and judges the answer.
pub(super) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &HttpProbe,
    time: Allowance,
) -> Result<(), ProbeFailure> {
    let text = request_text(request);
    time.bound(Stage::Answer, async {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await
    })
    .await?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < STATUS_LINE_BYTES_MAX {
        let mut chunk = [0; 512];
        let read = time.bound(Stage::Answer, stream.read(&mut chunk)).await?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
    if answer.is_empty() {
        return Err(ProbeFailure::Closed);
    }
    let status = status_of(&answer).ok_or(ProbeFailure::Malformed)?;
    if request.expected.contains(status) {
        Ok(())
    } else {
        Err(ProbeFailure::Status(status))
    }
}

/// Every text in the request was checked when the snapshot was parsed: none can end its line.
fn request_text(request: &HttpProbe) -> String {
    let version = match request.version {
        HttpVersion::Http10 => "1.0",
        HttpVersion::Http11 => "1.1",
    };
    let mut text = format!("{} {} HTTP/{version}\r\n", request.method, request.path);
    if let Some(host) = &request.host {
        let _ = write!(text, "Host: {host}\r\n");
    }
    // A POST without a length would leave servers waiting for one.
    if matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
        text.push_str("Content-Length: 0\r\n");
    }
    text.push_str("Connection: close\r\n\r\n");
    text
}

/// The status of `HTTP/1.x NNN reason`.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?;
    let (code, after) = digits.split_at_checked(3)?;
    if !minor.is_ascii_digit()
        || !code.iter().all(u8::is_ascii_digit)
        || after.first().is_some_and(|b| *b != b' ')
    {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_is_a_status_line() {
        assert_eq!(status_of(b"HTTP/1.1 200 OK\r\nServer: x"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 503"), Some(503));
        assert_eq!(status_of(b"HTTP/1.1 404\r\n"), Some(404));
        for wrong in [
            "",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 20\r\n",
            "HTTP/1.1 2000 x\r\n",
            "HTTP/2 200\r\n",
            "HTTP/1.1  200",
        ] {
            assert_eq!(status_of(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
