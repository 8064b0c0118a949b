//! Durations and sizes with their unit in the value, as people write them: `5s`, `64KiB`.

use std::time::Duration;

/// Reads a duration: `500ms`, `5s`, `2m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration like 500ms, 5s, 2m or 1h");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let unit_ms = DURATION_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, ms)| *ms)
        .ok_or_else(wrong)?;
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// Reads a number of bytes: `512B`, `64KiB`, `1MiB`.
pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is not a size like 512B, 64KiB or 1MiB");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let bytes = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, bytes)| *bytes)
        .ok_or_else(wrong)?;
    number
        .checked_mul(bytes)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(wrong)
}

/// Writes what [`parse_duration`] reads, in the largest unit that fits.
pub(crate) fn print_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    print(ms, &DURATION_UNITS)
}

/// Writes what [`parse_bytes`] reads, in the largest unit that fits.
pub(crate) fn print_bytes(bytes: usize) -> String {
    print(bytes as u64, &SIZE_UNITS)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    Some((number.parse().ok()?, unit))
}

fn print(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, size): &&(&str, u64)| number != 0 && number.is_multiple_of(*size);
    let (name, size) = units
        .iter()
        .rev()
        .find(fits)
        .or_else(|| units.first())
        .copied()
        .unwrap_or(("", 1));
    format!("{}{name}", number / size)
}

/// From the smallest to the largest.
const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u64); 3] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_reads_back_as_it_was_printed() {
        for ms in [0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1_000, 1_024, 114_688, 1 << 20] {
            assert_eq!(parse_bytes(&print_bytes(bytes)), Ok(bytes));
        }
        assert_eq!(print_duration(Duration::from_secs(90)), "90s");
        assert_eq!(print_bytes(114_688), "112KiB");
    }

    #[test]
    fn a_number_without_unit_and_an_overflow_are_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "5sec",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "64", "KiB", "64KB", "18446744073709551615MiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
