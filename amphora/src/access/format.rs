//! How records look: one JSON object each. Nothing that a client sent gets out of its quotes, or moves a terminal.

use std::{
    fmt::Arguments,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

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
    clock: Clock,
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
    pub(super) fn add(&mut self, format: &mut Format, record: &Record) {
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
            clock: Clock::default(),
        }
    }

    /// Writes a record, with its header if it has one.
    fn write(&mut self, record: &Record, text: &mut Vec<u8>) {
        if let Framing::Syslog { facility, .. } = self.framing {
            // Informational, or a warning.
            let severity = if record.cause.is_some() { 4 } else { 6 };
            let priority = u16::from(facility) * 8 + severity;
            let pid = std::process::id();
            let host = &self.host;
            put(text, format_args!("<{priority}>1 "));
            self.clock.moment(record.ended, text);
            put(text, format_args!(" {host} krater-amphora {pid} access - "));
        }
        json(record, &mut self.clock, text);
    }
}

fn json(record: &Record, clock: &mut Clock, text: &mut Vec<u8>) {
    text.extend_from_slice(b"{\"time\":\"");
    clock.moment(record.ended, text);
    text.push(b'"');
    if let Some((balancer, listener)) = record.of {
        id("load_balancer", balancer.uuid(), text);
        id("listener", listener.uuid(), text);
    }
    plain("protocol", record.kind.name(), text);
    for (name, port, address) in [
        ("client", "client_port", record.client),
        ("vip", "vip_port", record.vip),
    ] {
        if let Some(address) = address {
            begin(name, text);
            text.push(b'"');
            ip(address.ip().to_canonical(), text);
            text.push(b'"');
            count(port, u64::from(address.port()), text);
        }
    }
    request(record, text);
    count("bytes_in", record.bytes_in, text);
    count("bytes_out", record.bytes_out, text);
    if let Some(pool) = record.pool {
        id("pool", pool.uuid(), text);
    }
    if let Some((member, address)) = record.member {
        id("member", member.uuid(), text);
        begin("member_address", text);
        text.push(b'"');
        socket(address, text);
        text.push(b'"');
    }
    count("tries", u64::from(record.tries), text);
    for (name, time) in [
        ("connect_ms", record.connected),
        ("answer_ms", record.answered),
        ("total_ms", Some(record.total)),
    ] {
        if let Some(time) = time {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            count(name, micros / 1_000, text);
            text.push(b'.');
            padded(micros % 1_000, 3, text);
        }
    }
    if let Some(cause) = record.cause {
        plain("cause", cause.name(), text);
        plain("fault_of", cause.side().name(), text);
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
        plain("version", version, text);
    }
    if let Some(status) = record.status {
        count("status", u64::from(status), text);
    }
}

// By `format_args!` the writer would take twice as long, a tenth of what a small request costs.

/// What is ahead of the value of a field that is not the first.
fn begin(name: &str, text: &mut Vec<u8>) {
    text.extend_from_slice(b",\"");
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"\":");
}

/// A field with a word of ours.
fn plain(name: &str, value: &str, text: &mut Vec<u8>) {
    begin(name, text);
    text.push(b'"');
    text.extend_from_slice(value.as_bytes());
    text.push(b'"');
}

fn count(name: &str, value: u64, text: &mut Vec<u8>) {
    begin(name, text);
    number(value, text);
}

fn id(name: &str, value: Uuid, text: &mut Vec<u8>) {
    plain(
        name,
        value.hyphenated().encode_lower(&mut Uuid::encode_buffer()),
        text,
    );
}

/// A text of a client's, if there is one. Bytes that are not printable ASCII are told by their number, so it is valid
/// whatever they are.
fn string(name: &str, value: &[u8], text: &mut Vec<u8>) {
    if value.is_empty() {
        return;
    }
    begin(name, text);
    text.push(b'"');
    if value.iter().all(is_plain) {
        text.extend_from_slice(value);
    } else {
        for byte in value {
            match byte {
                b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
                plain if is_plain(plain) => text.push(*plain),
                other => put(text, format_args!("\\u{other:04x}")),
            }
        }
    }
    text.push(b'"');
}

/// Whether a byte stands for itself in a string of JSON, and moves no terminal.
const fn is_plain(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

fn number(value: u64, text: &mut Vec<u8>) {
    text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A number with at least so many digits.
fn padded(value: u64, digits: usize, text: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let value = buffer.format(value);
    text.extend(std::iter::repeat_n(
        b'0',
        digits.saturating_sub(value.len()),
    ));
    text.extend_from_slice(value.as_bytes());
}

fn ip(address: IpAddr, text: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push(b'.');
                }
                number(u64::from(octet), text);
            }
        }
        IpAddr::V6(address) => put(text, format_args!("{address}")),
    }
}

fn socket(address: SocketAddr, text: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(address) => {
            ip(IpAddr::V4(*address.ip()), text);
            text.push(b':');
            number(u64::from(address.port()), text);
        }
        // With its scope, which an address alone has not.
        SocketAddr::V6(address) => put(text, format_args!("{address}")),
    }
}

/// Writing to memory cannot fail.
fn put(text: &mut Vec<u8>, what: Arguments<'_>) {
    let _ = text.write_fmt(what);
}

/// Says what time it was, and reckons with dates once a second.
#[derive(Debug, Default)]
struct Clock {
    /// What was last reckoned, and the text up to its fraction.
    second: Option<u64>,
    text: Vec<u8>,
}

impl Clock {
    /// A moment in UTC, as RFC 3339 has it.
    fn moment(&mut self, at: Option<SystemTime>, text: &mut Vec<u8>) {
        let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let since = since.unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.text.clear();
            second(since.as_secs(), &mut self.text);
            self.second = Some(since.as_secs());
        }
        text.extend_from_slice(&self.text);
        text.push(b'.');
        padded(u64::from(since.subsec_millis()), 3, text);
        text.push(b'Z');
    }
}

/// A second since 1970 up to its fraction.
fn second(seconds: u64, text: &mut Vec<u8>) {
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
    put(
        text,
        format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"),
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use krater_amphora_api::{Cause, ListenerId, LoadBalancerId, MemberId, PoolId};
    use proptest::prelude::*;

    use super::*;

    fn written(framing: Framing, record: &Record) -> String {
        let mut batch = Batch::default();
        batch.add(&mut Format::new(framing), record);
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
    fn everything_that_is_known_is_told() {
        let uuid =
            |last: u8| Uuid::from_bytes([0xab, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, last]);
        let record = Record {
            of: Some((LoadBalancerId::new(uuid(1)), ListenerId::new(uuid(2)))),
            vip: Some("[2001:db8::1]:443".parse().unwrap()),
            host: b"a.example".to_vec(),
            bytes_in: u64::MAX,
            pool: Some(PoolId::new(uuid(3))),
            member: Some((MemberId::new(uuid(4)), "10.0.200.3:8080".parse().unwrap())),
            connected: Some(Duration::from_micros(7)),
            answered: Some(Duration::from_millis(20)),
            trace_id: b"4bf92f35".to_vec(),
            request_id: b"r".to_vec(),
            ..failed()
        };
        let text = written(Framing::Line, &record);
        assert_eq!(
            text,
            "{\"time\":\"2024-02-29T12:34:56.789Z\",\
             \"load_balancer\":\"ab000102-0304-0506-0708-090a0b0c0d01\",\
             \"listener\":\"ab000102-0304-0506-0708-090a0b0c0d02\",\"protocol\":\"http\",\
             \"client\":\"192.0.2.7\",\"client_port\":1234,\"vip\":\"2001:db8::1\",\"vip_port\":443,\
             \"method\":\"GET\",\"path\":\"/\\\"}\\u000a\\u001b[2J\\u00ff#\\\\\",\"host\":\"a.example\",\
             \"version\":\"1.1\",\"status\":502,\"bytes_in\":18446744073709551615,\"bytes_out\":7,\
             \"pool\":\"ab000102-0304-0506-0708-090a0b0c0d03\",\
             \"member\":\"ab000102-0304-0506-0708-090a0b0c0d04\",\"member_address\":\"10.0.200.3:8080\",\
             \"tries\":4,\"connect_ms\":0.007,\"answer_ms\":20.000,\"total_ms\":1234.567,\
             \"cause\":\"member_refused\",\"fault_of\":\"member\",\
             \"trace_id\":\"4bf92f35\",\"request_id\":\"r\"}\n"
        );
        let member = Some((MemberId::new(uuid(4)), "[fe80::1%2]:80".parse().unwrap()));
        let text = written(Framing::Line, &Record { member, ..record });
        assert!(
            text.contains("\"member_address\":\"[fe80::1%2]:80\""),
            "{text}"
        );
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
        let mut clock = Clock::default();
        for (second, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
        ] {
            let mut text = Vec::new();
            clock.moment(Some(UNIX_EPOCH + Duration::from_secs(second)), &mut text);
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
