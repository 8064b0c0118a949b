//! Texts people give to resources.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A text is longer than its field allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The most characters allowed.
    pub characters_max: usize,
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes a text of at most 255 characters (reference 1.4).
            ///
            /// # Errors
            /// [`TooLong`] when it has more.
            pub fn parse(text: String) -> Result<Self, TooLong> {
                if text.chars().count() > limits::TEXT_CHARACTERS_MAX {
                    return Err(TooLong { characters_max: limits::TEXT_CHARACTERS_MAX });
                }
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

texts! {
    /// The name of a resource: not unique, may be empty.
    Name;
    /// What a tenant notes about a resource.
    Description;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_at_most_255_characters_however_many_bytes() {
        let longest = "\u{1f980}".repeat(limits::TEXT_CHARACTERS_MAX);
        assert_eq!(Name::parse(longest.clone()).unwrap().as_str(), longest);
        assert_eq!(
            Name::parse(longest + "x"),
            Err(TooLong {
                characters_max: 255
            })
        );
        assert_eq!(
            Description::parse(String::new()).unwrap(),
            Description::default()
        );
    }
}
