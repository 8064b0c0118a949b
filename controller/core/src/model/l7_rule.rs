//! The L7 rule (reference 11).

use alloc::string::String;

use krater_amphora_api::{L7PolicyId, L7RuleId};
use serde::{Deserialize, Serialize};

use super::Tags;

/// An L7 rule as the tenant wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct L7Rule {
    /// Its id.
    pub id: L7RuleId,
    /// The policy it belongs to.
    pub policy: L7PolicyId,
    /// `false`: as if it were not there, which lets its policy match more.
    pub admin_state_up: bool,
    /// What of a request it looks at.
    pub rule_type: L7RuleType,
    /// How that is compared with `value`.
    pub compare_type: CompareType,
    /// Which header, cookie or field it looks at. Types that need none may have been created with one, which is shown
    /// and has no effect (reference 11.3).
    pub key: Option<String>,
    /// What is compared with.
    pub value: String,
    /// Whether it matches what otherwise would not.
    pub invert: bool,
    /// Its tags.
    pub tags: Tags,
}

/// What of a request a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum L7RuleType {
    /// The host asked for.
    HostName,
    /// The path.
    Path,
    /// How the path ends.
    FileType,
    /// A header.
    Header,
    /// A cookie.
    Cookie,
    /// Whether the client showed a certificate.
    SslConnHasCert,
    /// What the verification of the client's certificate came to.
    SslVerifyResult,
    /// A field of the distinguished name in the client's certificate.
    SslDnField,
}

impl L7RuleType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::HostName,
        Self::Path,
        Self::FileType,
        Self::Header,
        Self::Cookie,
        Self::SslConnHasCert,
        Self::SslVerifyResult,
        Self::SslDnField,
    ];

    /// Whether it needs a certificate of the client's, which only TLS has.
    #[must_use]
    pub const fn looks_at_certificates(self) -> bool {
        matches!(
            self,
            Self::SslConnHasCert | Self::SslVerifyResult | Self::SslDnField
        )
    }

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostName => "HOST_NAME",
            Self::Path => "PATH",
            Self::FileType => "FILE_TYPE",
            Self::Header => "HEADER",
            Self::Cookie => "COOKIE",
            Self::SslConnHasCert => "SSL_CONN_HAS_CERT",
            Self::SslVerifyResult => "SSL_VERIFY_RESULT",
            Self::SslDnField => "SSL_DN_FIELD",
        }
    }
}

/// How a rule compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareType {
    /// A regular expression finds something.
    Regex,
    /// It begins with the value.
    StartsWith,
    /// It ends with the value.
    EndsWith,
    /// The value is in it.
    Contains,
    /// It is the value.
    EqualTo,
}

impl CompareType {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Regex,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
        Self::EqualTo,
    ];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regex => "REGEX",
            Self::StartsWith => "STARTS_WITH",
            Self::EndsWith => "ENDS_WITH",
            Self::Contains => "CONTAINS",
            Self::EqualTo => "EQUAL_TO",
        }
    }
}
