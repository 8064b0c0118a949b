//! What browsers are told so that they come by TLS alone from then on (RFC 6797).

use alloc::{format, string::String};

use krater_amphora_api::HstsSpec;

/// The value of `Strict-Transport-Security` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hsts(String);

impl Hsts {
    /// The value that says what `spec` does.
    #[must_use]
    pub fn new(spec: &HstsSpec) -> Self {
        let HstsSpec {
            max_age_seconds,
            include_subdomains,
            preload,
        } = *spec;
        let mut value = format!("max-age={max_age_seconds}");
        let flags = [
            (include_subdomains, "; includeSubDomains"),
            (preload, "; preload"),
        ];
        for (_, directive) in flags.into_iter().filter(|(set, _)| *set) {
            value.push_str(directive);
        }
        Self(value)
    }

    /// The value: letters, digits and signs that may stand in a header.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_says_what_is_set_and_no_more() {
        for (max_age_seconds, include_subdomains, preload, value) in [
            (0, false, false, "max-age=0"),
            (1, true, false, "max-age=1; includeSubDomains"),
            (31_536_000, false, true, "max-age=31536000; preload"),
            (
                u32::MAX,
                true,
                true,
                "max-age=4294967295; includeSubDomains; preload",
            ),
        ] {
            let spec = HstsSpec {
                max_age_seconds,
                include_subdomains,
                preload,
            };
            assert_eq!(Hsts::new(&spec).value(), value);
        }
    }
}
