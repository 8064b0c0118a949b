//! The identity service's JSON: what is sent to log in, what is read of a token. Read leniently: further fields come
//! with every release.

use http::HeaderMap;
use jiff::Timestamp;
use krater_controller_core::{
    caller::{Identity, Scope},
    model::ProjectId,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::settings::Login;

/// A token as the identity service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) identity: Identity,
    pub(crate) expires_at: Timestamp,
}

/// The body of `POST /v3/auth/tokens`.
pub(crate) fn login(login: &Login) -> Value {
    let name = |name: &str, domain: &str| json!({"name": name, "domain": {"name": domain}});
    match login {
        Login::Password {
            user,
            user_domain,
            password,
            project,
            project_domain,
        } => {
            let mut user = name(user, user_domain);
            if let Some(user) = user.as_object_mut() {
                user.insert("password".into(), json!(password.expose_secret()));
            }
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": name(project, project_domain)},
            }})
        }
        Login::ApplicationCredential { id, secret } => {
            let credential = json!({"id": id, "secret": secret.expose_secret()});
            json!({"auth": {"identity": {
                "methods": ["application_credential"],
                "application_credential": credential,
            }}})
        }
    }
}

/// The token that a login gives, in a header.
pub(crate) fn issued(headers: &HeaderMap) -> Option<SecretString> {
    let token = headers.get("x-subject-token")?.to_str().ok()?;
    Some(SecretString::from(token.to_owned()))
}

/// What an answer of `/v3/auth/tokens` says of a token.
///
/// # Errors
/// What is strange about it; nothing of it is repeated.
pub(crate) fn token(body: &[u8]) -> Result<Token, String> {
    let document: Document = serde_json::from_slice(body)
        .map_err(|error| format!("it does not describe a token as JSON ({})", place(&error)))?;
    let TokenDocument {
        expires_at,
        user,
        project,
        system,
        roles,
    } = document.token;
    let scope = match project {
        Some(project) => Scope::Project(
            ProjectId::parse(&project.id)
                .ok_or("the id of a project has 1 to 36 characters, and this one has not")?,
        ),
        None if system.is_some_and(|system| system.all) => Scope::System,
        None => Scope::Neither,
    };
    let roles = roles.into_iter().map(|role| role.name);
    Ok(Token {
        identity: Identity::new(user.id, scope, roles),
        expires_at,
    })
}

fn place(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

#[derive(Deserialize)]
struct Document {
    token: TokenDocument,
}

#[derive(Deserialize)]
struct TokenDocument {
    expires_at: Timestamp,
    user: Named,
    project: Option<Named>,
    system: Option<System>,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct System {
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(rest: &str) -> Vec<u8> {
        format!(
            r#"{{"token": {{"expires_at": "2030-01-02T03:04:05.000000Z", "issued_at": "x",
                "user": {{"id": "u1", "name": "ann", "domain": {{"id": "default"}}}}{rest}}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn a_token_is_read_with_its_scope_and_roles() {
        let roles = r#", "roles": [{"id": "1", "name": "Member"}, {"name": "reader"}]"#;
        let project = ProjectId::parse("p1").unwrap();
        for (scope, expected) in [
            (
                r#", "project": {"id": "p1", "name": "x", "domain": {"id": "d"}}"#,
                Scope::Project(project),
            ),
            (r#", "system": {"all": true}"#, Scope::System),
            (r#", "domain": {"id": "default"}"#, Scope::Neither),
            ("", Scope::Neither),
        ] {
            let token = token(&document(&format!("{scope}{roles}"))).unwrap();
            assert_eq!(token.identity.scope, expected);
            assert_eq!(token.identity.user, "u1");
            assert!(token.identity.has("member") && token.identity.has("reader"));
            assert_eq!(token.expires_at.to_string(), "2030-01-02T03:04:05Z");
        }
        assert!(!token(&document("")).unwrap().identity.has("member"));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        for body in [
            "",
            "hush",
            "{}",
            "[]",
            r#"{"token": null}"#,
            r#"{"token": {"expires_at": "hush", "user": {"id": "u"}}}"#,
            r#"{"token": {"expires_at": "2030-01-02T03:04:05Z"}}"#,
            r#"{"token": {"expires_at": "2030-01-02T03:04:05Z", "user": {"id": "u"}, "project": {"id": ""}}}"#,
            r#"{"token": {"expires_at": "2030-01-02T03:04:05Z", "user": {"id": "u"}, "roles": [{"name": 1}]}}"#,
        ] {
            let reason = token(body.as_bytes()).unwrap_err();
            assert!(!reason.contains("hush"), "{reason}");
        }
    }

    #[test]
    fn a_login_names_domains_and_scope() {
        let body = login(&Login::Password {
            user: "krater".into(),
            user_domain: "Default".into(),
            password: "hush".into(),
            project: "service".into(),
            project_domain: "Other".into(),
        });
        assert_eq!(
            body,
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user":
                    {"name": "krater", "domain": {"name": "Default"}, "password": "hush"}}},
                "scope": {"project": {"name": "service", "domain": {"name": "Other"}}}}})
        );
        let body = login(&Login::ApplicationCredential {
            id: "i".into(),
            secret: "s".into(),
        });
        assert_eq!(
            body,
            json!({"auth": {"identity": {"methods": ["application_credential"],
                "application_credential": {"id": "i", "secret": "s"}}}})
        );
    }
}
