//! How records look: one JSON object each. Nothing that a client sent gets out of its quotes, or moves a terminal.

use std::{
    fmt::Arguments,
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::record::Record;

/// What is around a record on its way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    /// A line feed after it.
    Line,
    /// A syslog header ahead of it; and ahead of that the length of both, if `counted`.
    Syslog { facility: u8, counted: bool },
}

/// Makes messages of records.
pub(super) struct Format {
    framing: Framing,
    host: String,
}

/// Messages to be written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    /// Where each message ends.
    ends: Vec<usize>,
    message: Vec<u8>,
}

impl Batch {
    /// Adds a record as it is sent.
    pub(super) fn add(&mut self, format: &Format, record: &Record) {
        self.message.clear();
        format.write(record, &mut self.message);
        if matches!(format.framing, Framing::Syslog { counted: true, .. }) {
            let length = self.message.len();
            put(&mut self.text, format_args!("{length} "));
        }
        self.text.append(&mut self.message);
        if matches!(format.framing, Framing::Line) {
            self.text.push(b'\n');
        }
        self.ends.push(self.text.len());
    }

    /// All of them, one behind the other.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Each for itself.
    pub(super) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let ranges = starts.zip(&self.ends).map(|(start, end)| *start..*end);
        ranges.filter_map(|range| self.text.get(range))
    }

    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) const fn records(&self) -> u64 {
        self.ends.len() as u64
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

impl Format {
    pub(super) fn new(framing: Framing) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        Self {
            framing,
            host: if plain { host } else { "-" }.to_owned(),
        }
    }

    /// Writes a record, with its header if it has one.
    fn write(&self, record: &Record, text: &mut Vec<u8>) {
        if let Framing::Syslog { facility, .. } = self.framing {
            // Informational, or a warning.
            let severity = if record.cause.is_some() { 4 } else { 6 };
            let priority = u16::from(facility) * 8 + severity;
            let pid = std::process::id();
            let host = &self.host;
            put(text, format_args!("<{priority}>1 "));
            moment(record.ended, text);
            put(text, format_args!(" {host} krater-amphora {pid} access - "));
        }
        json(record, text);
    }
}

/// Writing to memory cannot fail.
fn put(text: &mut Vec<u8>, what: Arguments<'_>) {
    let _ = text.write_fmt(what);
}

fn json(record: &Record, text: &mut Vec<u8>) {
    text.extend_from_slice(b"{\"time\":\"");
    moment(record.ended, text);
    text.push(b'"');
    if let Some((balancer, listener)) = record.of {
        put(
            text,
            format_args!(",\"load_balancer\":\"{balancer}\",\"listener\":\"{listener}\""),
        );
    }
    put(
        text,
        format_args!(",\"protocol\":\"{}\"", record.kind.name()),
    );
    for (name, address) in [("client", record.client), ("vip", record.vip)] {
        if let Some(address) = address {
            let (ip, port) = (address.ip().to_canonical(), address.port());
            put(
                text,
                format_args!(",\"{name}\":\"{ip}\",\"{name}_port\":{port}"),
            );
        }
    }
    request(record, text);
    let (bytes_in, bytes_out) = (record.bytes_in, record.bytes_out);
    put(
        text,
        format_args!(",\"bytes_in\":{bytes_in},\"bytes_out\":{bytes_out}"),
    );
    if let Some(pool) = record.pool {
        put(text, format_args!(",\"pool\":\"{pool}\""));
    }
    if let Some((id, address)) = record.member {
        put(
            text,
            format_args!(",\"member\":\"{id}\",\"member_address\":\"{address}\""),
        );
    }
    put(text, format_args!(",\"tries\":{}", record.tries));
    for (name, time) in [
        ("connect_ms", record.connected),
        ("answer_ms", record.answered),
        ("total_ms", Some(record.total)),
    ] {
        if let Some(time) = time {
            let (whole, part) = milliseconds(time);
            put(text, format_args!(",\"{name}\":{whole}.{part:03}"));
        }
    }
    if let Some(cause) = record.cause {
        let (name, side) = (cause.name(), cause.side().name());
        put(
            text,
            format_args!(",\"cause\":\"{name}\",\"fault_of\":\"{side}\""),
        );
    }
    string("trace_id", &record.trace_id, text);
    string("request_id", &record.request_id, text);
    text.push(b'}');
}

fn request(record: &Record, text: &mut Vec<u8>) {
    string("method", &record.method, text);
    string("path", &record.path, text);
    string("host", &record.host, text);
    if let Some(version) = record.version {
        put(text, format_args!(",\"version\":\"{version}\""));
    }
    if let Some(status) = record.status {
        put(text, format_args!(",\"status\":{status}"));
    }
}

/// A text of a client's, if there is one. Bytes that are not printable ASCII are told by their number, so it is valid
/// whatever they are.
fn string(name: &str, value: &[u8], text: &mut Vec<u8>) {
    if value.is_empty() {
        return;
    }
    put(text, format_args!(",\"{name}\":\""));
    for byte in value {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => text.push(*byte),
            other => put(text, format_args!("\\u{other:04x}")),
        }
    }
    text.push(b'"');
}

fn milliseconds(time: Duration) -> (u128, u128) {
    let micros = time.as_micros();
    (micros / 1_000, micros % 1_000)
}

/// A moment in UTC, as RFC 3339 has it.
fn moment(at: Option<SystemTime>, text: &mut Vec<u8>) {
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let since = since.unwrap_or_default();
    let seconds = since.as_secs();
    // Days to a date, by eras of 400 years that begin in March (H. Hinnant, "chrono-compatible date algorithms").
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let millisecond = since.subsec_millis();
    put(
        text,
        format_args!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z"
        ),
    );
}

#[cfg(test)]
mod tests {
    use krater_amphora_api::Cause;
    use proptest::prelude::*;

    use super::*;

    fn written(framing: Framing, record: &Record) -> String {
        let mut batch = Batch::default();
        batch.add(&Format::new(framing), record);
        assert_eq!(batch.messages().collect::<Vec<_>>(), [batch.text()]);
        String::from_utf8(batch.text().to_vec()).unwrap()
    }

    fn failed() -> Record {
        Record {
            ended: Some(UNIX_EPOCH + Duration::from_millis(1_709_210_096_789)),
            client: Some("[::ffff:192.0.2.7]:1234".parse().unwrap()),
            method: b"GET".to_vec(),
            path: b"/\"}\n\x1b[2J\xff#\\".to_vec(),
            version: Some("1.1"),
            status: Some(502),
            bytes_out: 7,
            total: Duration::from_micros(1_234_567),
            tries: 4,
            cause: Some(Cause::MemberRefused),
            ..Record::default()
        }
    }

    #[test]
    fn a_record_is_one_line_of_json() {
        let text = written(Framing::Line, &failed());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["time"], "2024-02-29T12:34:56.789Z");
        assert_eq!(value["client"], "192.0.2.7");
        assert_eq!(value["path"], "/\"}\n\u{1b}[2J\u{ff}#\\");
        assert_eq!(value["total_ms"], 1_234.567);
        assert_eq!(value["cause"], "member_refused");
        assert_eq!(value["fault_of"], "member");
        assert_eq!(value.get("host"), None);
    }

    #[test]
    fn syslog_messages_have_their_header_and_their_length() {
        let framing = |counted| Framing::Syslog {
            facility: 16,
            counted,
        };
        let plain = written(framing(false), &failed());
        let pid = std::process::id();
        assert!(
            plain.starts_with("<132>1 2024-02-29T12:34:56.789Z "),
            "{plain}"
        );
        assert!(plain.contains(&format!(" krater-amphora {pid} access - {{")));
        let counted = written(framing(true), &failed());
        assert_eq!(counted, format!("{} {plain}", plain.len()));
    }

    #[test]
    fn leap_days_and_the_ends_of_years_are_where_they_are() {
        for (second, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
        ] {
            let mut text = Vec::new();
            moment(Some(UNIX_EPOCH + Duration::from_secs(second)), &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), date);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_a_line_of_its_own_and_read_back_as_it_was(
            path in proptest::collection::vec(any::<u8>(), 0..200),
            host in "[ -~\\PC\"\\\\\r\n]{0,40}",
        ) {
            let record = Record {
                path: path.clone(),
                host: host.clone().into_bytes(),
                trace_id: path.clone(),
                ..failed()
            };
            let text = written(Framing::Line, &record);
            let lines = text.matches('\n').count();
            prop_assert_eq!((text.ends_with('\n'), lines), (true, 1));
            prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let read = |name: &str| -> Vec<u8> {
                let text = value.get(name).and_then(|value| value.as_str()).unwrap_or_default();
                text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
            };
            prop_assert_eq!(read("path"), path.clone());
            prop_assert_eq!(read("trace_id"), path);
            prop_assert_eq!(read("host"), host.into_bytes());
            prop_assert_eq!(&value["cause"], "member_refused");
        }
    }
}
