//! Tags: words tenants attach to resources to find them again.

use alloc::{collections::BTreeSet, string::String};

use serde::{Deserialize, Serialize};

use crate::limits;

/// A set of tags. Duplicates are merged, where the reference answers 409 or 500 (reference 23.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeSet<String>);

/// Why a tag is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagError {
    /// A tag has at least one character.
    Empty,
    /// A tag has at most 255 characters.
    TooLong {
        /// The tag.
        tag: String,
    },
    /// There are more than [`limits::TAGS_MAX`].
    TooMany,
}

impl Tags {
    /// Takes tags of 1 to 255 characters each.
    ///
    /// # Errors
    /// [`TagError`] for the first one that breaks a rule.
    pub fn parse(tags: impl IntoIterator<Item = String>) -> Result<Self, TagError> {
        let mut set = BTreeSet::new();
        for tag in tags {
            if tag.is_empty() {
                return Err(TagError::Empty);
            }
            if tag.chars().count() > limits::TEXT_CHARACTERS_MAX {
                return Err(TagError::TooLong { tag });
            }
            set.insert(tag);
        }
        if set.len() > limits::TAGS_MAX {
            return Err(TagError::TooMany);
        }
        Ok(Self(set))
    }

    /// The tags in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether `tag` is one of them.
    #[must_use]
    pub fn contains(&self, tag: &str) -> bool {
        self.0.contains(tag)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString, vec::Vec};

    use super::*;

    #[test]
    fn tags_are_merged_and_counted() {
        let tags = Tags::parse(["b".to_string(), "a".to_string(), "b".to_string()]).unwrap();
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(tags.contains("a") && !tags.contains("c"));
        let many = |count: usize| (0..count).map(|n| format!("{n}"));
        assert!(Tags::parse(many(limits::TAGS_MAX)).is_ok());
        assert_eq!(
            Tags::parse(many(limits::TAGS_MAX + 1)),
            Err(TagError::TooMany)
        );
    }

    #[test]
    fn a_tag_has_1_to_255_characters() {
        let longest = "\u{e9}".repeat(limits::TEXT_CHARACTERS_MAX);
        assert!(Tags::parse([longest.clone()]).is_ok());
        let tag = format!("{longest}x");
        assert_eq!(Tags::parse([tag.clone()]), Err(TagError::TooLong { tag }));
        assert_eq!(Tags::parse([String::new()]), Err(TagError::Empty));
    }
}
