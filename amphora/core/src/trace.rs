//! W3C trace context: which trace a request says that it is part of. It is passed on as it came, whatever it is; here it
//! is only read.

/// The trace id of a `traceparent`, if that is valid (Trace Context, section 3.2).
#[must_use]
pub fn trace_id(parent: &[u8]) -> Option<&[u8]> {
    let version = field(parent, 0, 2)?;
    let id = field(parent, 3, 32)?;
    let span = field(parent, 36, 16)?;
    field(parent, 53, 2)?;
    let dashes = [2, 35, 52]
        .into_iter()
        .all(|at| parent.get(at) == Some(&b'-'));
    // Later versions may have more behind a further dash.
    let ends = match parent.get(55) {
        None => true,
        Some(b'-') => version != b"00",
        Some(_) => false,
    };
    let says_something = |text: &[u8]| text.iter().any(|byte| *byte != b'0');
    (dashes && ends && version != b"ff" && says_something(id) && says_something(span)).then_some(id)
}

/// That many lower-case hexadecimal digits at a place.
fn field(parent: &[u8], at: usize, digits: usize) -> Option<&[u8]> {
    let text = parent.get(at..at.checked_add(digits)?)?;
    text.iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        .then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_trace_id_is_told_of_what_is_valid_alone() {
        for valid in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "fe-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(valid.as_bytes()), Some(ID.as_bytes()), "{valid}");
        }
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7 01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
