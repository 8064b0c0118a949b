//! Requests that come by HTTP/2: each is refused, or the same single request to whoever reads it by HTTP/1.1
//! (RFC 9113 sections 8.2, 8.3 and 10.3).

#![expect(clippy::too_many_lines, reason = "they are lists of cases")]

mod bodies;
mod fields;
mod heads;

use krater_tests::frames::{self, Frame, Framed, block, flag, frame, get, kind, request};
use serde_json::json;

use crate::{
    ground::{Ground, find, show, vip},
    witness::{Seen, WITNESSES},
};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What becomes of a case.
enum Wanted {
    /// Its stream, or the connection, ends with a reset, a goodbye or an answer of 4xx, and no member sees a whole request.
    Refused,
    /// A member sees this one.
    Passed(Seen),
}

use Wanted::{Passed, Refused};

struct Case {
    /// Frames on stream 1.
    frames: Vec<u8>,
    wanted: Wanted,
    /// What must not be in what a member sees, in lower case.
    never: &'static [&'static str],
    /// What must be in it, in lower case.
    always: Vec<String>,
}

#[derive(Default)]
struct Cases(Vec<Case>);

const HEAD: u8 = flag::END_HEADERS;
const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

impl Cases {
    fn add(&mut self, frames: Vec<u8>, wanted: Wanted) -> &mut Case {
        self.0.push(Case {
            frames,
            wanted,
            never: &[],
            always: vec![],
        });
        self.0.last_mut().expect("it was added")
    }

    /// A request without a body.
    fn head(&mut self, fields: &Fields, wanted: Wanted) -> &mut Case {
        self.add(frame(kind::HEADERS, WHOLE, 1, &block(fields)), wanted)
    }

    /// A GET of `/case` with further fields.
    fn with(&mut self, more: &[(&[u8], &[u8])], wanted: Wanted) -> &mut Case {
        let mut all = request("GET", "/case");
        let owned = more
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()));
        all.extend(owned);
        self.head(&all, wanted)
    }

    /// A POST of `/case` with further fields, a body in pieces, and trailers.
    fn post(
        &mut self,
        more: &[(&str, &str)],
        body: &[&[u8]],
        trailers: Option<&[(&str, &str)]>,
        wanted: Wanted,
    ) -> &mut Case {
        let mut all = request("POST", "/case");
        all.extend(frames::fields(more));
        let mut frames = frame(kind::HEADERS, HEAD, 1, &block(&all));
        for (at, piece) in body.iter().enumerate() {
            let last = at + 1 == body.len() && trailers.is_none();
            let flags = if last { flag::END_STREAM } else { 0 };
            frames.extend(frame(kind::DATA, flags, 1, piece));
        }
        if let Some(trailers) = trailers {
            frames.extend(frame(
                kind::HEADERS,
                WHOLE,
                1,
                &block(&frames::fields(trailers)),
            ));
        }
        self.add(frames, wanted)
    }
}

impl Case {
    fn never(&mut self, texts: &'static [&'static str]) {
        self.never = texts;
    }

    fn always(&mut self, texts: &[&str]) {
        self.always = texts.iter().map(|text| (*text).to_owned()).collect();
    }
}

fn seen(method: &str, target: &str, body: &str) -> Seen {
    Seen {
        method: method.into(),
        target: target.into(),
        host: Some("h".into()),
        body: body.into(),
    }
}

fn got() -> Wanted {
    Passed(seen("GET", "/case", ""))
}

/// Four pseudo-fields, in this order.
fn pseudo(method: &str, scheme: &str, authority: &str, path: &str) -> Fields {
    frames::fields(&[
        (":method", method),
        (":scheme", scheme),
        (":authority", authority),
        (":path", path),
    ])
}

fn judge(cases: Cases) {
    let ground = Ground::new(&json!({"insert_headers": {
        "x_forwarded_for": true, "x_forwarded_port": true, "x_forwarded_proto": true, "x_real_ip": true,
    }}));
    let mut faults = vec![];
    let count = cases.0.len();
    for case in cases.0 {
        let shown = show(&case.frames[..case.frames.len().min(300)]);
        let mut client = Framed::to(vip(), &[]);
        client.send(&case.frames);
        let answer = client.answer(1);
        let said: Vec<_> = answer
            .iter()
            .map(|frame| match frame.kind {
                kind::HEADERS => format!("status {}", frame.status()),
                kind::DATA => "data".to_owned(),
                kind::RST_STREAM => format!("reset {}", frame.code()),
                _ => format!("goodbye {}", frame.code()),
            })
            .collect();
        let goes_on = !matches!(
            answer.last(),
            None | Some(Frame {
                kind: kind::GOAWAY,
                ..
            })
        );
        // Whoever goes on is served what it asks for next.
        if goes_on && client.send(&get(3, "/sentinel")) {
            let next = client.answer(3);
            let status = next.first().filter(|frame| frame.kind == kind::HEADERS);
            if status.is_none_or(|frame| frame.status() != 200) {
                faults.push(format!("{shown}\n  the next request was not answered"));
            }
        }
        drop(client);
        ground.member.settle();
        let mut record = ground.member.take();
        record.retain(|bytes| !bytes.is_empty() && !bytes.starts_with(b"GET /sentinel "));
        if let Err(fault) = verdict(&case, &said, &record) {
            let record: Vec<_> = record.iter().map(|bytes| show(bytes)).collect();
            let record = record.concat();
            faults.push(format!(
                "{shown}\n  {fault}\n  the client: {said:?}\n  the member: {record:.600}"
            ));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {count}:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

fn verdict(case: &Case, said: &[String], record: &[Vec<u8>]) -> Result<(), String> {
    let all = record.concat();
    if find(&all, b"/sentinel").is_some() {
        return Err("the next request was joined to it".into());
    }
    match &case.wanted {
        Refused => {
            if said.iter().any(|word| word.starts_with("status 2")) {
                return Err("it was answered".into());
            }
            // The beginning of a body that turns out to be malformed may have been on its way.
            for witness in WITNESSES {
                if !all.is_empty() && witness.read(&all).is_ok() {
                    return Err(format!("it is a request to {}", witness.name));
                }
            }
        }
        Passed(wanted) => {
            let mut said = said.iter().filter(|word| *word != "status 100");
            if said.next().is_none_or(|word| word != "status 200") {
                return Err("it was not answered".into());
            }
            for witness in WITNESSES {
                match witness.read(&all) {
                    Ok(seen) if seen == std::slice::from_ref(wanted) => {}
                    other => return Err(format!("{} sees {other:?}", witness.name)),
                }
            }
        }
    }
    let lower = all.to_ascii_lowercase();
    if let Some(text) = case
        .never
        .iter()
        .find(|text| find(&lower, text.as_bytes()).is_some())
    {
        return Err(format!("a member sees {text:?}"));
    }
    let missing = |text: &&String| find(&lower, text.as_bytes()).is_none();
    if let (Some(text), Passed(_)) = (case.always.iter().find(missing), &case.wanted) {
        return Err(format!("a member does not see {text:?}"));
    }
    Ok(())
}
