//! Everybody is let in: for a host that one person uses, and for tests.

use async_trait::async_trait;
use krater_controller_core::{caller::Caller, model::ProjectId};
use krater_driver::{Authenticator, Credentials, Unauthenticated};

/// Believes everybody to be an administrator, and whatever project they name.
#[derive(Clone, Debug)]
pub struct NoAuth {
    project: ProjectId,
}

impl NoAuth {
    /// Callers that name no project get this one.
    #[must_use]
    pub const fn new(project: ProjectId) -> Self {
        Self { project }
    }
}

#[async_trait]
impl Authenticator for NoAuth {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Unauthenticated> {
        // A project that cannot be one is not silently replaced: what is created would be somebody else's.
        let project = match credentials.project.as_deref() {
            None | Some("") => self.project.clone(),
            Some(text) => ProjectId::parse(text).ok_or(Unauthenticated::Required)?,
        };
        Ok(Caller::unrestricted("anonymous", Some(project)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_an_administrator_of_the_project_they_name_or_of_the_default_one() {
        let auth = NoAuth::new(ProjectId::parse("default").unwrap());
        for (named, expected) in [
            (None, "default"),
            (Some(""), "default"),
            (Some("mine"), "mine"),
        ] {
            let credentials = Credentials {
                project: named.map(str::to_owned),
                ..Credentials::default()
            };
            let caller = auth.authenticate(&credentials).await.unwrap();
            let project = ProjectId::parse(expected);
            assert_eq!(caller, Caller::unrestricted("anonymous", project));
        }
    }

    #[tokio::test]
    async fn it_passes_the_conformance_kit() {
        let auth = NoAuth::new(ProjectId::parse("default").unwrap());
        let good = Credentials {
            token: Some("whatever".into()),
            project: Some("mine".into()),
            ..Credentials::default()
        };
        let bad = [Credentials {
            project: Some("x".repeat(37)),
            ..Credentials::default()
        }];
        krater_driver::kit::check_authenticator(&auth, &good, &bad)
            .await
            .unwrap();
    }
}
