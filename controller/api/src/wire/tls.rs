//! Fields about TLS, HSTS and persistence: this release carries none of it, yet what is wrong about them is told first.

use crate::{
    body::{self, Fields},
    fault::Fault,
    unsupported::Unsupported,
};

/// What a listener's body asks of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListenerTls {
    default_certificate: bool,
    sni_certificates: bool,
    client_ca: bool,
    client_crl: bool,
    client_authentication: Option<&'static str>,
    ciphers: bool,
    versions: bool,
    alpn: bool,
    hsts_max_age: bool,
    hsts_flags: bool,
}

impl ListenerTls {
    /// Reads the fields (reference 6.2).
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, Fault> {
        Ok(Self {
            default_certificate: reference(fields, "default_tls_container_ref")?,
            sni_certificates: {
                let entry =
                    |value| body::text("sni_container_refs", value, body::TEXT_CHARACTERS_MAX);
                fields
                    .list("sni_container_refs", entry)?
                    .value()
                    .is_some_and(|list| !list.is_empty())
            },
            client_ca: reference(fields, "client_ca_tls_container_ref")?,
            client_crl: reference(fields, "client_crl_container_ref")?,
            client_authentication: fields
                .choice("client_authentication", CLIENT_AUTHENTICATION)?
                .value()
                .filter(|choice| *choice != "NONE"),
            ciphers: ciphers(fields)?,
            versions: words(fields, "tls_versions", TLS_VERSIONS)?,
            alpn: words(fields, "alpn_protocols", ALPN_PROTOCOLS)?,
            hsts_max_age: fields
                .integer::<i64>("hsts_max_age", 0, i64::from(i32::MAX))?
                .value()
                .is_some(),
            hsts_flags: {
                let subdomains = fields.boolean("hsts_include_subdomains")?.or(false);
                fields.boolean("hsts_preload")?.or(false) || subdomains
            },
        })
    }

    /// Refuses what a new listener of `protocol` may not ask for (reference 6.4).
    pub(crate) fn check_new(&self, protocol: &str) -> Result<(), Fault> {
        let certificate = self.default_certificate || self.sni_certificates;
        let any = certificate
            || self.client_ca
            || self.client_crl
            || self.client_authentication.is_some();
        match protocol {
            "UDP" | "SCTP" if any => {
                return Err(Fault::validation(format!(
                    "{protocol} protocol listener does not support TLS."
                )));
            }
            "HTTP" | "HTTPS" | "TCP" if certificate => {
                return Err(Fault::validation(format!(
                    "Certificate container references are not allowed on {protocol} protocol listeners."
                )));
            }
            "TERMINATED_HTTPS" if !certificate => {
                return Err(Fault::validation(
                    "An SNI or default certificate container reference must be provided for TERMINATED_HTTPS \
                     protocol listeners.",
                ));
            }
            _ => {}
        }
        if self.client_ca && !certificate {
            return Err(Fault::validation(
                "An SNI or default certificate container reference must be provided with a client CA container \
                 reference.",
            ));
        }
        if self.hsts_max_age && protocol != "TERMINATED_HTTPS" {
            return Err(Fault::validation(
                "The HSTS feature can only be used for listeners using the TERMINATED_HTTPS protocol.",
            ));
        }
        if self.hsts_flags && !self.hsts_max_age {
            return Err(Fault::validation(
                "HSTS configuration options hsts_include_subdomains and hsts_preload only make sense if \
                 hsts_max_age is set.",
            ));
        }
        self.check_client_authentication()
    }

    /// Refuses what contradicts itself whatever the listener's protocol. No stored listener has a client CA.
    pub(crate) fn check_client_authentication(&self) -> Result<(), Fault> {
        if self.client_crl && !self.client_ca {
            return Err(Fault::validation(
                "A client authentication CA reference is required to specify a client authentication revocation \
                 list.",
            ));
        }
        match self.client_authentication {
            Some(choice) if !self.client_ca => Err(Fault::validation(format!(
                "Client authentication setting {choice} requires a client CA container reference."
            ))),
            _ => Ok(()),
        }
    }

    /// Notes what was asked for.
    pub(crate) fn note(&self, unsupported: &mut Unsupported) {
        let certificate = self.default_certificate || self.sni_certificates;
        unsupported.note_if(certificate, "TLS termination by certificate references");
        unsupported.note_if(
            self.client_ca || self.client_crl,
            "client authentication by certificate references",
        );
        unsupported.note_if(
            self.client_authentication.is_some(),
            "client_authentication",
        );
        unsupported.note_if(self.ciphers, "tls_ciphers");
        unsupported.note_if(self.versions, "tls_versions");
        unsupported.note_if(self.alpn, "alpn_protocols");
        unsupported.note_if(self.hsts_max_age || self.hsts_flags, "HSTS");
    }
}

/// Reads what a pool's body asks of TLS to members (reference 7.2), and notes it.
pub(crate) fn read_pool(fields: &mut Fields, unsupported: &mut Unsupported) -> Result<(), Fault> {
    let enabled = fields.boolean("tls_enabled")?.or(false);
    let certificate = reference(fields, "tls_container_ref")?;
    let ca = reference(fields, "ca_tls_container_ref")?;
    let crl = reference(fields, "crl_container_ref")?;
    if crl && !ca {
        return Err(Fault::validation(
            "A CA reference is required to specify a certificate revocation list.",
        ));
    }
    unsupported.note_if(enabled || certificate || ca, "TLS to members");
    let ciphers = ciphers(fields)?;
    unsupported.note_if(ciphers, "tls_ciphers");
    let versions = words(fields, "tls_versions", TLS_VERSIONS)?;
    unsupported.note_if(versions, "tls_versions");
    let alpn = words(fields, "alpn_protocols", ALPN_PROTOCOLS)?;
    unsupported.note_if(alpn, "alpn_protocols");
    Ok(())
}

/// Reads `session_persistence` (reference 7.4) of a pool of `protocol`, which an update does not know, and notes it.
pub(crate) fn read_persistence(
    fields: &mut Fields,
    protocol: Option<&str>,
    unsupported: &mut Unsupported,
) -> Result<(), Fault> {
    let path = fields.path_of("session_persistence");
    let Some(value) = fields.take("session_persistence").value() else {
        return Ok(());
    };
    body::read(value, &path, |fields| {
        let kind = fields.choice("type", PERSISTENCE)?;
        // Pools hold no persistence yet, so an update finds no type to go on with either.
        let kind = match protocol {
            Some(_) => kind.mandatory("type")?,
            None => kind
                .value()
                .ok_or_else(|| Fault::validation("Invalid session_persistence provided."))?,
        };
        let cookie = fields
            .text("cookie_name", body::TEXT_CHARACTERS_MAX)?
            .value();
        let timeout = fields
            .integer::<i64>("persistence_timeout", 0, i64::from(i32::MAX))?
            .value()
            .is_some();
        let granularity = fields.address("persistence_granularity")?.value().is_some();
        check_persistence(kind, cookie.as_deref(), protocol, timeout || granularity)
    })?;
    unsupported.note_if(true, "session_persistence");
    Ok(())
}

fn check_persistence(
    kind: &str,
    cookie: Option<&str>,
    protocol: Option<&str>,
    timers: bool,
) -> Result<(), Fault> {
    let datagrams = matches!(protocol, Some("UDP" | "SCTP"));
    if datagrams && kind != "SOURCE_IP" {
        return Err(Fault::validation(format!(
            "Session persistence of type {kind} is not supported for UDP/SCTP protocol pools."
        )));
    }
    match cookie {
        None if kind == "APP_COOKIE" => Err(Fault::validation(
            "Field \"cookie_name\" must be specified when using the \"APP_COOKIE\" session persistence type.",
        )),
        Some(_) if kind != "APP_COOKIE" => Err(Fault::validation(
            "Field \"cookie_name\" can only be specified with session persistence of type \"APP_COOKIE\".",
        )),
        Some(name) if name.is_empty() || !name.chars().all(is_cookie_character) => {
            Err(Fault::validation("Supplied \"cookie_name\" is invalid."))
        }
        _ if timers && !datagrams => Err(Fault::validation(
            "persistence_timeout and persistence_granularity is only for UDP and SCTP protocol pools.",
        )),
        _ => Ok(()),
    }
}

/// A token of RFC 2616 as cookie names use it (reference 7.4).
fn is_cookie_character(character: char) -> bool {
    character.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(character)
}

fn reference(fields: &mut Fields, name: &str) -> Result<bool, Fault> {
    Ok(fields
        .text(name, body::TEXT_CHARACTERS_MAX)?
        .value()
        .is_some_and(|text| !text.is_empty()))
}

fn ciphers(fields: &mut Fields) -> Result<bool, Fault> {
    let Some(ciphers) = fields.text("tls_ciphers", CIPHERS_CHARACTERS_MAX)?.value() else {
        return Ok(false);
    };
    let fits =
        |character: char| character.is_ascii_alphanumeric() || "-+!:@=_.".contains(character);
    if !ciphers.chars().all(fits) {
        return Err(Fault::validation(
            "Invalid characters in cipher string. Only A-Za-z0-9-+!:@=_. are allowed.",
        ));
    }
    Ok(!ciphers.is_empty())
}

fn words(fields: &mut Fields, name: &str, options: &'static [&'static str]) -> Result<bool, Fault> {
    let words = fields.list(name, |value| body::choice(name, &value, options))?;
    Ok(words.value().is_some_and(|words| !words.is_empty()))
}

const CLIENT_AUTHENTICATION: &[&str] = &["NONE", "OPTIONAL", "MANDATORY"];
const TLS_VERSIONS: &[&str] = &["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
const ALPN_PROTOCOLS: &[&str] = &["h2", "http/1.1", "http/1.0"];
const PERSISTENCE: &[&str] = &["SOURCE_IP", "HTTP_COOKIE", "APP_COOKIE"];
const CIPHERS_CHARACTERS_MAX: usize = 2048;
