//! Readers of requests as they are found behind load balancers, each lenient in a way of its own.

/// A request as a witness understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// In what a witness is lenient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Witness {
    pub(crate) name: &'static str,
    /// A line may end with LF alone, or with CR alone.
    line_ends: LineEnds,
    /// Which framing counts where both are given.
    prefers: Prefers,
    /// Which of several fields of one name counts.
    of_many: OfMany,
    /// Names with underscores are those with hyphens.
    underscores: bool,
    /// What is no number is read as far as it is one.
    prefixes: bool,
    /// A line that begins with white space goes on with the one before.
    folds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnds {
    CrLf,
    Lf,
    Cr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefers {
    Length,
    Coding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OfMany {
    First,
    Last,
}

const STRICT: Witness = Witness {
    name: "a strict one",
    line_ends: LineEnds::CrLf,
    prefers: Prefers::Coding,
    of_many: OfMany::First,
    underscores: false,
    prefixes: false,
    folds: false,
};

pub(crate) const WITNESSES: [Witness; 7] = [
    STRICT,
    Witness {
        name: "one that goes by the length",
        prefers: Prefers::Length,
        ..STRICT
    },
    Witness {
        name: "one that takes LF for the end of a line, and the last of several fields",
        line_ends: LineEnds::Lf,
        of_many: OfMany::Last,
        ..STRICT
    },
    Witness {
        name: "one that takes CR for the end of a line",
        line_ends: LineEnds::Cr,
        ..STRICT
    },
    Witness {
        name: "one that takes underscores for hyphens, and the last of several fields",
        underscores: true,
        of_many: OfMany::Last,
        ..STRICT
    },
    Witness {
        name: "one that reads numbers as far as they go",
        prefixes: true,
        prefers: Prefers::Length,
        ..STRICT
    },
    Witness {
        name: "one that folds lines",
        folds: true,
        of_many: OfMany::Last,
        ..STRICT
    },
];

impl Witness {
    /// All requests in `bytes`; the rest that is none is an error.
    pub(crate) fn read(self, mut bytes: &[u8]) -> Result<Vec<Seen>, String> {
        let mut seen = vec![];
        while !bytes.is_empty() {
            seen.push(self.one(&mut bytes)?);
        }
        Ok(seen)
    }

    fn one(self, rest: &mut &[u8]) -> Result<Seen, String> {
        let start = text(self.line(rest)?);
        let mut words = start.split(' ');
        let (method, target) = (words.next(), words.next());
        let (Some(method), Some(target)) = (method, target) else {
            return Err(format!("no request line: {start:?}"));
        };
        let mut fields: Vec<(String, String)> = vec![];
        loop {
            let line = text(self.line(rest)?);
            if line.is_empty() {
                break;
            }
            if self.folds && line.starts_with([' ', '\t']) {
                let last = fields.last_mut().ok_or("a fold without a field")?;
                last.1 = format!("{} {}", last.1, line.trim());
                continue;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("no field: {line:?}"))?;
            let mut name = name.trim().to_ascii_lowercase();
            if self.underscores {
                name = name.replace('_', "-");
            }
            fields.push((name, value.trim().to_owned()));
        }
        let field = |name: &str| {
            let mut all = fields.iter().filter(|field| field.0 == name);
            match self.of_many {
                OfMany::First => all.next(),
                OfMany::Last => all.next_back(),
            }
            .map(|field| field.1.clone())
        };
        let coding = field("transfer-encoding").filter(|coding| coding.contains("chunked"));
        let length = field("content-length");
        let body = match (coding, length) {
            (Some(_), length) if length.is_none() || self.prefers == Prefers::Coding => {
                self.chunks(rest)?
            }
            (_, Some(length)) => {
                let length = self.number(&length, 10)?;
                let body = rest
                    .get(..length)
                    .ok_or_else(|| format!("{length} bytes are not there"))?;
                *rest = &rest[length..];
                body.to_vec()
            }
            _ => vec![],
        };
        Ok(Seen {
            method: method.into(),
            target: target.into(),
            host: field("host"),
            body,
        })
    }

    fn chunks(self, rest: &mut &[u8]) -> Result<Vec<u8>, String> {
        let mut body = vec![];
        loop {
            let line = text(self.line(rest)?);
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = self.number(size, 16)?;
            if size == 0 {
                while !self.line(rest)?.is_empty() {}
                return Ok(body);
            }
            let data = rest.get(..size).ok_or("a chunk is cut")?;
            body.extend(data);
            *rest = &rest[size..];
            if !self.line(rest)?.is_empty() {
                return Err("no end of a chunk".into());
            }
        }
    }

    fn number(self, digits: &str, radix: u32) -> Result<usize, String> {
        let digits = if self.prefixes {
            let end = digits.find(|digit: char| !digit.is_digit(radix));
            &digits[..end.unwrap_or(digits.len())]
        } else {
            digits
        };
        usize::from_str_radix(digits, radix).map_err(|error| format!("{digits:?}: {error}"))
    }

    fn line<'a>(self, rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
        let ends: &[&[u8]] = match self.line_ends {
            LineEnds::CrLf => &[b"\r\n"],
            LineEnds::Lf => &[b"\r\n", b"\n"],
            LineEnds::Cr => &[b"\r\n", b"\r"],
        };
        let bytes = *rest;
        for at in 0..bytes.len() {
            if let Some(end) = ends.iter().find(|end| bytes[at..].starts_with(end)) {
                *rest = &bytes[at + end.len()..];
                return Ok(&bytes[..at]);
            }
        }
        Err(format!("a line without an end: {}", bytes.escape_ascii()))
    }
}

fn text(line: &[u8]) -> String {
    line.iter().copied().map(char::from).collect()
}
