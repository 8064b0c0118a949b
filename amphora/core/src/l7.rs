//! L7 policies: what becomes of a request, by rules over its head (reference 19.6).

use alloc::{string::String, vec::Vec};

use krater_amphora_api::{
    Comparison, L7PolicyId, PATTERN_BYTES_MAX, PolicyAction, PoolId, RuleSubject,
};
use regex::bytes::{Regex, RegexBuilder};

use crate::cookie;

/// The head of a request, as policies look at it. Everything is as the client sent it.
pub trait Head {
    /// The host asked for, with the port if there is one; empty when there is none.
    fn host(&self) -> &[u8];

    /// The path, without query.
    fn path(&self) -> &[u8];

    /// Whether any line of the header `name` satisfies `test`.
    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;

    /// Whether the client showed a certificate. It was judged well then: nobody else gets so far.
    fn shows_certificate(&self) -> bool {
        false
    }

    /// The first field of that name in the subject of the client's certificate.
    fn certificate_subject(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

/// The policies of a listener, in the order in which they are evaluated: those that reject first, then redirections,
/// then those that choose a pool; by position within each. That kind beats position is what the API promises.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies(Vec<Policy>);

/// One policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Which policy this is.
    pub id: L7PolicyId,
    /// What becomes of a request that it matches.
    pub action: PolicyAction,
    /// All of these must match; never empty.
    pub rules: Vec<Rule>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// No policy matches: it goes to the default pool.
    Default,
    /// It is refused.
    Reject,
    /// The client is sent to a URL.
    Redirect {
        /// The URL.
        url: &'a str,
        /// Whether the request's path and query go behind it.
        with_target: bool,
        /// The status code.
        code: u16,
    },
    /// It goes to this pool of the snapshot.
    Pool(PoolId),
}

impl Policies {
    /// Policies given by position, in the order of evaluation.
    #[must_use]
    pub fn new(mut by_position: Vec<Policy>) -> Self {
        by_position.sort_by_key(|policy| match policy.action {
            PolicyAction::Reject => 0_u8,
            PolicyAction::RedirectToUrl { .. } | PolicyAction::RedirectPrefix { .. } => 1,
            PolicyAction::RedirectToPool(_) => 2,
        });
        Self(by_position)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pools they may choose.
    pub fn pools(&self) -> impl Iterator<Item = PoolId> {
        self.0.iter().filter_map(|policy| match policy.action {
            PolicyAction::RedirectToPool(pool) => Some(pool),
            _ => None,
        })
    }

    /// What becomes of a request.
    #[must_use]
    pub fn evaluate(&self, head: &impl Head) -> Verdict<'_> {
        let matches = |policy: &&Policy| policy.rules.iter().all(|rule| rule.matches(head));
        match self.0.iter().find(matches).map(|policy| &policy.action) {
            None => Verdict::Default,
            Some(PolicyAction::Reject) => Verdict::Reject,
            Some(PolicyAction::RedirectToUrl { url, code }) => Verdict::Redirect {
                url,
                with_target: false,
                code: *code,
            },
            Some(PolicyAction::RedirectPrefix { prefix, code }) => Verdict::Redirect {
                url: prefix,
                with_target: true,
                code: *code,
            },
            Some(PolicyAction::RedirectToPool(pool)) => Verdict::Pool(*pool),
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    subject: RuleSubject,
    test: Test,
    invert: bool,
}

impl Rule {
    /// Prepares a rule.
    ///
    /// # Errors
    /// Why `value` is no regular expression that can be taken.
    pub fn new(
        subject: RuleSubject,
        comparison: Comparison,
        value: &str,
        invert: bool,
    ) -> Result<Self, String> {
        let ignore_case = subject == RuleSubject::HostName;
        let test = match comparison {
            Comparison::Regex => Test::Pattern(Pattern::new(value, ignore_case)?),
            other => Test::Text {
                comparison: other,
                value: value.into(),
                ignore_case,
            },
        };
        Ok(Self {
            subject,
            test,
            invert,
        })
    }

    fn matches(&self, head: &impl Head) -> bool {
        let found = match &self.subject {
            RuleSubject::HostName => self.test.holds(head.host()),
            RuleSubject::Path => self.test.holds(head.path()),
            RuleSubject::Header(name) => head.any_line(name, &mut |line| self.test.holds_in(line)),
            RuleSubject::Cookie(name) => head.any_line("cookie", &mut |line| {
                cookie::pairs(line)
                    .any(|(key, value)| key == name.as_bytes() && self.test.holds(unquoted(value)))
            }),
            RuleSubject::CertificateShown => {
                let shown: &[u8] = if head.shows_certificate() { b"1" } else { b"0" };
                self.test.holds(shown)
            }
            // Well, if there is one; nothing was found wrong, if there is none.
            RuleSubject::CertificateVerified => self.test.holds(b"0"),
            RuleSubject::CertificateSubject(name) => head
                .certificate_subject(name)
                .is_some_and(|value| self.test.holds(value)),
        };
        found != self.invert
    }
}

/// What a value is held against.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Text {
        comparison: Comparison,
        value: String,
        ignore_case: bool,
    },
    Pattern(Pattern),
}

impl Test {
    fn holds(&self, subject: &[u8]) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.regex.is_match(subject),
            Self::Text {
                comparison,
                value,
                ignore_case,
            } => compare(*comparison, subject, value.as_bytes(), *ignore_case),
        }
    }

    /// A line of a header is one value, or a list of them; a rule means either.
    fn holds_in(&self, line: &[u8]) -> bool {
        if self.holds(line) {
            return true;
        }
        let mut elements = line.split(|byte| *byte == b',');
        line.contains(&b',') && elements.any(|element| self.holds(element.trim_ascii()))
    }
}

fn compare(comparison: Comparison, subject: &[u8], value: &[u8], ignore_case: bool) -> bool {
    let same = |part: &[u8]| {
        if ignore_case {
            part.eq_ignore_ascii_case(value)
        } else {
            part == value
        }
    };
    match comparison {
        Comparison::EqualTo => same(subject),
        Comparison::StartsWith => subject.get(..value.len()).is_some_and(same),
        Comparison::EndsWith => subject
            .len()
            .checked_sub(value.len())
            .and_then(|start| subject.get(start..))
            .is_some_and(same),
        Comparison::Contains => value.is_empty() || subject.windows(value.len()).any(same),
        // Is a pattern, not a text.
        Comparison::Regex => false,
    }
}

/// A regular expression, compiled. It searches, anchored only where it says so, in time linear in what it searches.
#[derive(Clone, Debug)]
struct Pattern {
    regex: Regex,
    ignore_case: bool,
}

impl Pattern {
    fn new(text: &str, ignore_case: bool) -> Result<Self, String> {
        let built = RegexBuilder::new(text)
            .unicode(false)
            .case_insensitive(ignore_case)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        match built {
            Ok(regex) => Ok(Self { regex, ignore_case }),
            Err(error) => Err(alloc::format!("{error}")),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.ignore_case == other.ignore_case
    }
}

/// The value of a cookie without the quotes around it.
fn unquoted(value: &[u8]) -> &[u8] {
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    bare.unwrap_or(value)
}

#[cfg(test)]
mod tests;
