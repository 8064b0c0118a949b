//! Changes of what may be agreed on in a TLS handshake (reference 6.2, 7.2).

use crate::{command::TlsTermsUpdate, model::TlsTerms, refusal::Refusal, rules::Rules};

/// Checks what an update names. What is stored stays, though the deployment may have become stricter since.
pub(super) fn check_terms_update(update: &TlsTermsUpdate, rules: &Rules) -> Result<(), Refusal> {
    let given = TlsTerms {
        ciphers: update.ciphers.clone().flatten(),
        versions: update.versions.clone().flatten(),
        alpn: update.alpn.clone().flatten(),
    };
    rules.check_terms(&given).map_err(Refusal::Invalid)
}

/// Changes `terms`; what an update sets to nothing has its value of `defaults`.
pub(super) fn apply_terms(terms: &mut TlsTerms, update: TlsTermsUpdate, defaults: &TlsTerms) {
    let TlsTermsUpdate {
        ciphers,
        versions,
        alpn,
    } = update;
    if let Some(ciphers) = ciphers {
        terms.ciphers = ciphers.or_else(|| defaults.ciphers.clone());
    }
    if let Some(versions) = versions {
        terms.versions = versions.or_else(|| defaults.versions.clone());
    }
    if let Some(alpn) = alpn {
        terms.alpn = alpn.or_else(|| defaults.alpn.clone());
    }
}
