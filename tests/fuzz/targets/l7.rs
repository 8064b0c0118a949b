//! Rules over requests: lines of a header, cookies, hosts and paths of any bytes, against values of any text.
//!
//! An input is a byte for the subject, one for the comparison, a line that is a name, a line that is a value, and what
//! the request is made of.

use krater_amphora_api::{Comparison, L7PolicyId, PolicyAction, RuleSubject};
use krater_amphora_core::l7::{Head, Policies, Policy, Rule, Verdict};
use uuid::Uuid;

/// A request of which every part is the same bytes.
struct Any<'a>(&'a [u8]);

impl Head for Any<'_> {
    fn host(&self) -> &[u8] {
        self.0
    }

    fn path(&self) -> &[u8] {
        self.0
    }

    fn any_line(&self, _name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.split(|byte| *byte == b'\n').any(test)
    }

    fn certificate_subject(&self, _name: &str) -> Option<&[u8]> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

pub(super) fn take(bytes: &[u8]) {
    let [subject, comparison, rest @ ..] = bytes else {
        return;
    };
    let mut parts = rest.splitn(3, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default());
    let (Ok(name), Ok(value)) = (text(), text()) else {
        return;
    };
    let bytes = parts.next().unwrap_or_default();
    let name = name.to_owned();
    let subject = match subject % 7 {
        0 => RuleSubject::HostName,
        1 => RuleSubject::Path,
        2 => RuleSubject::Header(name),
        3 => RuleSubject::Cookie(name),
        4 => RuleSubject::CertificateShown,
        5 => RuleSubject::CertificateVerified,
        _ => RuleSubject::CertificateSubject(name),
    };
    let comparison = match comparison % 5 {
        0 => Comparison::EqualTo,
        1 => Comparison::StartsWith,
        2 => Comparison::EndsWith,
        3 => Comparison::Contains,
        _ => Comparison::Regex,
    };
    let rule = |invert| Rule::new(subject.clone(), comparison, value, invert);
    let (Ok(plain), Ok(inverted)) = (rule(false), rule(true)) else {
        assert_eq!(comparison, Comparison::Regex);
        return;
    };
    let matches = |rule| {
        let policy = Policy {
            id: L7PolicyId::new(Uuid::nil()),
            action: PolicyAction::Reject,
            rules: vec![rule],
        };
        Policies::new(vec![policy]).evaluate(&Any(bytes)) == Verdict::Reject
    };
    assert_ne!(matches(plain), matches(inverted));
}
