//! How the API says no: status codes, `faultcode`s and sentences (reference 1.5, 1.6).

use http::StatusCode;
use krater_controller_core::{query::ResourceId, refusal::Refusal};
use serde_json::{Value, json};

use crate::application::Unauthenticated;

/// A refusal as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The status code.
    pub(crate) status: StatusCode,
    /// The form of the body.
    pub(crate) form: Form,
}

/// The forms of an error's body (reference 1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Form A, of nearly all errors: the `faultstring`.
    Fault(String),
    /// Form B, of routing and of list parameters.
    Routing {
        /// `title`
        title: &'static str,
        /// `description`
        description: String,
    },
    /// Form C, of authentication.
    Identity {
        /// `title`
        title: &'static str,
        /// `message`
        message: String,
    },
}

impl Fault {
    /// Form A. Sentences echo what was sent, and are kept in the audit trail, which cannot keep NUL.
    pub(crate) fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        let mut sentence = sentence.into();
        if sentence.contains('\0') {
            sentence = sentence.replace('\0', "\u{fffd}");
        }
        Self {
            status,
            form: Form::Fault(sentence),
        }
    }

    /// 400 for a request that is wrong as a whole.
    pub(crate) fn bad_request(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// 400 for fields that do not fit each other.
    pub(crate) fn validation(detail: impl AsRef<str>) -> Self {
        Self::bad_request(format!("Validation failure: {}", detail.as_ref()))
    }

    /// 400 for one field's value (reference 1.3).
    pub(crate) fn input(name: &str, value: &str, reason: impl AsRef<str>) -> Self {
        let reason = reason.as_ref();
        Self::bad_request(format!(
            "Invalid input for field/attribute {name}. Value: '{value}'. {reason}"
        ))
    }

    /// 400 for an option reached late (reference 1.6).
    pub(crate) fn option(value: &str, field: &str) -> Self {
        Self::bad_request(format!("{value} is not a valid option for {field}"))
    }

    /// 404 for an object, `id` as sent.
    pub(crate) fn not_found(kind: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{kind} {id} not found."))
    }

    /// 404 for the pool in a member's path.
    pub(crate) fn parent_pool(id: &str) -> Self {
        Self::routing(
            StatusCode::NOT_FOUND,
            "Bad Request",
            format!("Pool {id} not found."),
        )
    }

    /// 404 for the L7 policy in a rule's path.
    pub(crate) fn parent_policy(id: &str) -> Self {
        Self::routing(
            StatusCode::NOT_FOUND,
            "Bad Request",
            format!("L7Policy {id} not found."),
        )
    }

    /// 501 for an option.
    pub(crate) fn unsupported_option(sentence: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("Provider 'amphora' does not support a requested option: {sentence}"),
        )
    }

    /// Form B.
    pub(crate) fn routing(
        status: StatusCode,
        title: &'static str,
        description: impl Into<String>,
    ) -> Self {
        Self {
            status,
            form: Form::Routing {
                title,
                description: description.into(),
            },
        }
    }

    /// 404 for a path that leads nowhere.
    pub(crate) fn no_such_path() -> Self {
        Self::routing(StatusCode::NOT_FOUND, "Not Found", "")
    }

    /// 405
    pub(crate) fn no_such_method() -> Self {
        Self::routing(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", "")
    }

    /// What it says, for logs and the audit trail: without the value that the client sent.
    pub(crate) fn sentence(&self) -> String {
        let sentence = match &self.form {
            Form::Fault(sentence) => sentence,
            Form::Routing { title, description } if description.is_empty() => {
                return (*title).into();
            }
            Form::Routing { description, .. } => description,
            Form::Identity { message, .. } => message,
        };
        let cut = match (sentence.find(" Value: '"), sentence.rfind("'. ")) {
            (Some(begin), Some(end)) if begin < end => {
                let (before, after) =
                    (sentence.get(..begin), sentence.get(end.saturating_add(2)..));
                format!(
                    "{}{}",
                    before.unwrap_or_default(),
                    after.unwrap_or_default()
                )
            }
            _ => sentence.clone(),
        };
        cut.chars().take(SENTENCE_CHARACTERS_MAX).collect()
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        let code = self.status.as_u16();
        match &self.form {
            Form::Fault(sentence) => {
                let blame = if self.status.is_server_error() {
                    "Server"
                } else {
                    "Client"
                };
                json!({"faultcode": blame, "faultstring": sentence, "debuginfo": null})
            }
            Form::Routing { title, description } => {
                json!({"code": code, "title": title, "description": description})
            }
            Form::Identity { title, message } => {
                json!({"error": {"code": code, "title": title, "message": message}})
            }
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(id) => Self::not_found(id.kind(), &id.uuid().to_string()),
            Refusal::NotInCatalogue { kind, key } => Self::not_found(kind, &key),
            Refusal::ParentPoolNotFound(id) => Self::parent_pool(&id.to_string()),
            Refusal::ParentPolicyNotFound(id) => Self::parent_policy(&id.to_string()),
            Refusal::NotPermitted => Self::new(
                StatusCode::FORBIDDEN,
                "Policy does not allow this request to be performed.",
            ),
            Refusal::MissingProject => {
                Self::validation("Missing project ID in request where one is required.")
            }
            Refusal::Invalid(detail) => Self::validation(detail),
            Refusal::InvalidOption { value, field } => Self::option(&value, &field),
            mistake @ (Refusal::UnknownNetworkResource { .. }
            | Refusal::UnknownProvider(_)
            | Refusal::CertificateNotRetrieved(_)
            | Refusal::UnreadableBundle(_)
            | Refusal::Disallowed { .. }
            | Refusal::ChildOfPrometheus
            | Refusal::FlavorOfAnotherProvider { .. }
            | Refusal::ProtocolMismatch { .. }
            | Refusal::InvalidL7Policy(_)
            | Refusal::UnknownL7Action(_)
            | Refusal::InvalidL7Rule(_)
            | Refusal::VnicWithGroups
            | Refusal::MemberTwice) => Self::bad_request(mistake_sentence(&mistake)),
            Refusal::HasChildren(id) => Self::validation(format!(
                "Cannot delete Load Balancer {id} - it has children"
            )),
            Refusal::QuotaMet(name) => Self::new(
                StatusCode::FORBIDDEN,
                format!("Quota has been met for resources: {name}"),
            ),
            terms @ (Refusal::Changed(..) | Refusal::KeyReused(_) | Refusal::CreatedAndGone(_)) => {
                of_terms(&terms)
            }
            Refusal::NoQuotaRecord(project) => Self::not_found("Quotas", project.as_str()),
            Refusal::NotSupported(sentence) => Self::unsupported_option(&sentence),
            Refusal::Unavailable(sentence) => Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence),
            // What went wrong inside is for the log, not for tenants.
            Refusal::Defect(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something unknown went wrong; the controller's log says what, under this answer's request id.",
            ),
            Refusal::AmphoraNotFound { kind, id } => Self::not_found(kind, &id.to_string()),
            Refusal::UnknownLookup { kind, id } => Self::not_found(kind, &id.to_string()),
            conflict @ (Refusal::BeingDeleted(_)
            | Refusal::AmphoraImmutable(_)
            | Refusal::DuplicatePort { .. }
            | Refusal::DuplicateMember { .. }
            | Refusal::AlreadyMonitored(_)
            | Refusal::AlreadyHasPool(_)
            | Refusal::PoolInUse { .. }
            | Refusal::TooManyRules(_)
            | Refusal::OfferNameTaken { .. }
            | Refusal::CatalogueInUse { .. }
            | Refusal::AddressInUse { .. }) => {
                Self::new(StatusCode::CONFLICT, conflict_sentence(&conflict))
            }
        }
    }
}

impl From<Unauthenticated> for Fault {
    fn from(reason: Unauthenticated) -> Self {
        match reason {
            Unauthenticated::Required => Self {
                status: StatusCode::UNAUTHORIZED,
                form: Form::Identity {
                    title: "Unauthorized",
                    message: "The request you have made requires authentication.".into(),
                },
            },
            Unauthenticated::Unavailable(message) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                form: Form::Identity {
                    title: "Service Unavailable",
                    message,
                },
            },
        }
    }
}

/// The sentences of 400 that are no validation failures (reference 1.6, 5.3).
fn mistake_sentence(mistake: &Refusal) -> String {
    match mistake {
        Refusal::UnknownNetworkResource { kind, id } => format!("{kind} {id} not found."),
        Refusal::CertificateNotRetrieved(references) => match references.as_slice() {
            [one] => format!("Could not retrieve certificate: {one}"),
            several => {
                let several: Vec<_> = several.iter().map(|one| format!("'{one}'")).collect();
                format!("Could not retrieve certificate: [{}]", several.join(", "))
            }
        },
        Refusal::UnreadableBundle(why) => format!(
            "The PKCS12 bundle is unreadable. Please check the PKCS12 bundle validity. In addition, make sure it does \
             not require a pass phrase. Error: {why}"
        ),
        Refusal::UnknownProvider(name) => format!("Provider '{name}' is not enabled."),
        Refusal::Disallowed { kind, name } => {
            format!("The selected {kind} is not allowed in this deployment: {name}")
        }
        Refusal::ChildOfPrometheus => {
            "Protocol PROMETHEUS listeners cannot have child objects.".into()
        }
        Refusal::FlavorOfAnotherProvider { flavor, provider } => {
            format!("Flavor '{flavor}' is not compatible with provider '{provider}'")
        }
        Refusal::ProtocolMismatch { listener, pool } => format!(
            "The pool protocol '{}' is invalid while the listener protocol is '{}'.",
            pool.name(),
            listener.name()
        ),
        Refusal::InvalidL7Policy(detail) => format!("Invalid L7 Policy arguments: {detail}"),
        Refusal::UnknownL7Action(action) => {
            format!("Invalid L7 Policy action specified: {action}")
        }
        Refusal::InvalidL7Rule(detail) => format!("Error parsing L7Rule: {detail}"),
        Refusal::VnicWithGroups => {
            "VIP Security Groups are not allowed with VNIC direct type".into()
        }
        Refusal::MemberTwice => "Member must be updated only once in the same request.".into(),
        other => other.to_string(),
    }
}

/// What the terms of a request come to: the version it is meant for, the key under which it is made once.
fn of_terms(refusal: &Refusal) -> Fault {
    match refusal {
        Refusal::Changed(id, version) => Fault::new(
            StatusCode::PRECONDITION_FAILED,
            format!(
                "{} {} was changed since: its ETag is \"{version}\" now.",
                id.kind(),
                id.uuid()
            ),
        ),
        Refusal::KeyReused(key) => Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!(
                "Another request was made under the Idempotency-Key {key}: a new one needs a key of its own."
            ),
        ),
        Refusal::CreatedAndGone(id) => Fault::new(
            StatusCode::GONE,
            format!(
                "{} {} was created under this Idempotency-Key and is gone since: a new one needs a key of its own.",
                id.kind(),
                id.uuid()
            ),
        ),
        other => Fault::bad_request(other.to_string()),
    }
}

/// The sentences of 409 (reference 1.6).
fn conflict_sentence(conflict: &Refusal) -> String {
    match conflict {
        // The one kind that is spelt in another way here (reference 1.6).
        Refusal::BeingDeleted(ResourceId::L7Policy(id)) => {
            format!("L7Policy {id} is immutable and cannot be updated.")
        }
        Refusal::BeingDeleted(id) => format!(
            "{} {} is immutable and cannot be updated.",
            id.kind(),
            id.uuid()
        ),
        Refusal::AmphoraImmutable(id) => {
            format!("amphora {id} is immutable and cannot be updated.")
        }
        Refusal::DuplicatePort { protocol, port } => format!(
            "Another Listener on this Load Balancer is already using protocol {} and protocol_port {port}",
            protocol.name()
        ),
        Refusal::DuplicateMember { address, port } => {
            format!(
                "Another member on this pool is already using ip {address} on protocol_port {port}"
            )
        }
        Refusal::AlreadyMonitored(_) => "This pool already has a health monitor".into(),
        Refusal::AlreadyHasPool(_) => "This listener already has a default pool".into(),
        Refusal::PoolInUse { pool, policy } => {
            format!("Pool {pool} is in use by L7 policy {policy}")
        }
        Refusal::TooManyRules(policy) => format!("Too many rules on L7 policy {policy}"),
        Refusal::OfferNameTaken { family, name } => {
            format!(
                "A {} of {name} already exists.",
                family.offer().to_lowercase()
            )
        }
        Refusal::CatalogueInUse { kind, key } => {
            format!("{kind} {key} is in use and cannot be modified.")
        }
        Refusal::AddressInUse { address, reason } => {
            format!("The VIP IP address is already in use: {address}: {reason}")
        }
        other => other.to_string(),
    }
}

/// Of a sentence that is written down.
const SENTENCE_CHARACTERS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_lacks_the_value_that_was_sent() {
        let fault = Fault::input("name", "it's a 'secret'. no", "Value should be string");
        assert_eq!(
            fault.sentence(),
            "Invalid input for field/attribute name. Value should be string"
        );
        let plain = Fault::not_found("Pool", "7");
        assert_eq!(plain.sentence(), "Pool 7 not found.");
        assert_eq!(Fault::no_such_method().sentence(), "Method Not Allowed");
        assert_eq!(Fault::parent_pool("7").sentence(), "Pool 7 not found.");
        let long = Fault::bad_request("x".repeat(1_000));
        assert_eq!(long.sentence().len(), 300);
    }
}
