//! Rules of TLS and HSTS of listeners (reference 6.4): those of a creation hold for what comes out of an update too.

use alloc::format;

use super::tls_terms;
use crate::{
    command::{HstsUpdate, ListenerTlsUpdate, ListenerUpdate, NewListener},
    limits,
    model::{ClientAuthentication, Hsts, Listener, ListenerProtocol, ListenerTls, TlsTerms},
    refusal::Refusal,
    rules::Rules,
};

/// What a new listener may ask of TLS.
pub(super) fn check_new(new: &NewListener, rules: &Rules) -> Result<(), Refusal> {
    check_certificates_allowed(new.protocol, &new.tls, rules)?;
    check(new.protocol, &new.tls)?;
    rules
        .check_terms(&new.tls.terms)
        .map_err(Refusal::Invalid)?;
    let mut terms = new.tls.terms.clone();
    terms.complete(&rules.listener_terms);
    check_spoken(new.protocol, &new.tls, &terms, rules)?;
    check_hsts(
        new.protocol,
        new.hsts,
        new.hsts.include_subdomains || new.hsts.preload,
    )
}

/// What an update of `listener` may ask of TLS.
pub(super) fn check_update(
    listener: &Listener,
    update: &ListenerUpdate,
    rules: &Rules,
) -> Result<(), Refusal> {
    tls_terms::check_terms_update(&update.tls.terms, rules)?;
    let mut tls = listener.tls.clone();
    let had_certificate = tls.has_certificate();
    apply(&mut tls, update.tls.clone(), rules);
    if !had_certificate {
        check_certificates_allowed(listener.protocol, &tls, rules)?;
    }
    check(listener.protocol, &tls)?;
    // What is stored stays, though the deployment may have become stricter since.
    if tls.terms != listener.tls.terms || !had_certificate {
        check_spoken(listener.protocol, &tls, &tls.terms, rules)?;
    }
    if update.tls.client_authentication == Some(None) && tls.client_ca.is_none() {
        return Err(without_ca("None"));
    }
    let mut hsts = listener.hsts;
    apply_hsts(&mut hsts, update.hsts);
    // A flag that stays behind when the age is cleared has no effect and hinders nobody.
    let sets = update.hsts.include_subdomains == Some(true) || update.hsts.preload == Some(true);
    check_hsts(listener.protocol, hsts, sets)
}

/// Changes what a listener has of TLS.
pub(super) fn apply(tls: &mut ListenerTls, update: ListenerTlsUpdate, rules: &Rules) {
    let ListenerTlsUpdate {
        certificate,
        sni_certificates,
        client_ca,
        client_crl,
        client_authentication,
        terms,
    } = update;
    super::set(&mut tls.certificate, certificate);
    super::set(&mut tls.sni_certificates, sni_certificates);
    super::set(&mut tls.client_ca, client_ca);
    super::set(&mut tls.client_crl, client_crl);
    super::set(
        &mut tls.client_authentication,
        client_authentication.map(Option::unwrap_or_default),
    );
    tls_terms::apply_terms(&mut tls.terms, terms, &rules.listener_terms);
}

/// Changes what browsers are told.
pub(super) const fn apply_hsts(hsts: &mut Hsts, update: HstsUpdate) {
    if let Some(seconds) = update.max_age_seconds {
        hsts.max_age_seconds = seconds;
    }
    if let Some(include) = update.include_subdomains {
        hsts.include_subdomains = include;
    }
    if let Some(preload) = update.preload {
        hsts.preload = preload;
    }
}

/// A PROMETHEUS listener speaks TLS once it has a certificate, and is then one that ends TLS.
fn check_certificates_allowed(
    protocol: ListenerProtocol,
    tls: &ListenerTls,
    rules: &Rules,
) -> Result<(), Refusal> {
    if protocol == ListenerProtocol::Prometheus
        && tls.has_certificate()
        && !rules.tls_terminated_listeners
    {
        return Err(Refusal::Disallowed {
            kind: "protocol",
            name: "PROMETHEUS with TLS".into(),
        });
    }
    Ok(())
}

fn check(protocol: ListenerProtocol, tls: &ListenerTls) -> Result<(), Refusal> {
    let certificate = tls.has_certificate();
    let any = certificate
        || tls.client_ca.is_some()
        || tls.client_crl.is_some()
        || tls.client_authentication != ClientAuthentication::None;
    let name = protocol.name();
    match protocol {
        ListenerProtocol::Udp | ListenerProtocol::Sctp if any => {
            return Err(Refusal::Invalid(format!(
                "{name} protocol listener does not support TLS."
            )));
        }
        ListenerProtocol::Tcp | ListenerProtocol::Http | ListenerProtocol::Https if certificate => {
            return Err(Refusal::Invalid(format!(
                "Certificate container references are not allowed on {name} protocol listeners."
            )));
        }
        ListenerProtocol::TerminatedHttps if !certificate => {
            return Err(Refusal::Invalid(
                "An SNI or default certificate container reference must be provided for TERMINATED_HTTPS protocol \
                 listeners."
                    .into(),
            ));
        }
        _ => {}
    }
    if tls.sni_certificates.len() > limits::SNI_CERTIFICATES_MAX {
        return Err(Refusal::Invalid(format!(
            "at most {} sni_container_refs are allowed.",
            limits::SNI_CERTIFICATES_MAX
        )));
    }
    check_clients(tls, certificate)
}

/// That a listener which speaks TLS by these terms can be had.
fn check_spoken(
    protocol: ListenerProtocol,
    tls: &ListenerTls,
    terms: &TlsTerms,
    rules: &Rules,
) -> Result<(), Refusal> {
    let speaks = match protocol {
        ListenerProtocol::TerminatedHttps => true,
        ListenerProtocol::Prometheus => tls.has_certificate(),
        ListenerProtocol::Tcp
        | ListenerProtocol::Http
        | ListenerProtocol::Https
        | ListenerProtocol::Udp
        | ListenerProtocol::Sctp => false,
    };
    if !speaks {
        return Ok(());
    }
    rules.check_spoken(terms).map_err(Refusal::Invalid)
}

/// What is asked of clients' certificates.
fn check_clients(tls: &ListenerTls, certificate: bool) -> Result<(), Refusal> {
    let Some(_) = tls.client_ca else {
        if tls.client_crl.is_some() {
            return Err(Refusal::Invalid(
                "A client authentication CA reference is required to specify a client authentication revocation list."
                    .into(),
            ));
        }
        return match tls.client_authentication {
            ClientAuthentication::None => Ok(()),
            asked => Err(without_ca(asked.name())),
        };
    };
    if certificate {
        return Ok(());
    }
    Err(Refusal::Invalid(
        "An SNI or default certificate container reference must be provided with a client CA container reference."
            .into(),
    ))
}

fn without_ca(asked: &str) -> Refusal {
    Refusal::Invalid(format!(
        "Client authentication setting {asked} requires a client CA container reference."
    ))
}

/// `sets` says whether a flag is being set.
fn check_hsts(protocol: ListenerProtocol, hsts: Hsts, sets: bool) -> Result<(), Refusal> {
    if hsts.max_age_seconds.is_some() && protocol != ListenerProtocol::TerminatedHttps {
        return Err(Refusal::Invalid(
            "The HSTS feature can only be used for listeners using the TERMINATED_HTTPS protocol."
                .into(),
        ));
    }
    if sets && hsts.max_age_seconds.is_none() {
        return Err(Refusal::Invalid(
            "HSTS configuration options hsts_include_subdomains and hsts_preload only make sense if hsts_max_age is \
             set."
                .into(),
        ));
    }
    Ok(())
}
