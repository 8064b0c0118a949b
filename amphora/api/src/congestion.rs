//! Congestion control of TCP, by name.

use alloc::string::String;
use core::{error::Error, fmt, str, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A name that an algorithm of congestion control can have: `cubic`, `bbr`, `reno`. Whether a system has one of that
/// name it alone knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CongestionControl([u8; Self::BYTES_MAX]);

impl CongestionControl {
    /// The longest name: Linux has room for 16 bytes, of which the last is NUL (`TCP_CA_NAME_MAX`).
    pub const BYTES_MAX: usize = 15;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Behind a shorter one there are zeros.
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        str::from_utf8(name).unwrap_or_default()
    }
}

impl FromStr for CongestionControl {
    type Err = NoCongestionControl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let mut name = [0; Self::BYTES_MAX];
        match name.get_mut(..text.len()) {
            Some(place) if !text.is_empty() && text.bytes().all(is_allowed) => {
                place.copy_from_slice(text.as_bytes());
                Ok(Self(name))
            }
            _ => Err(NoCongestionControl),
        }
    }
}

/// A text is not the name of any congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCongestionControl;

impl fmt::Display for NoCongestionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a congestion control has a name of 1 to 15 characters, each of a to z, 0 to 9, _ and -",
        )
    }
}

impl Error for NoCongestionControl {}

impl fmt::Display for CongestionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CongestionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CongestionControl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CongestionControl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_are_short_and_of_few_characters() {
        for text in ["cubic", "bbr", "a", "dctcp-2_x", "fifteen-letters"] {
            let name: CongestionControl = text.parse().unwrap();
            assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
        }
        for text in [
            "",
            "sixteen--letters",
            "CUBIC",
            "cu bic",
            "b\0r",
            "ü",
            "../x",
        ] {
            assert_eq!(
                text.parse::<CongestionControl>(),
                Err(NoCongestionControl),
                "{text:?}"
            );
        }
    }
}
