//! Everybody is let in: for a host that one person uses, and for tests.

use async_trait::async_trait;
use krater_controller_core::{
    model::ProjectId,
    query::{Caller, CallerRole},
};
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
        Ok(Caller {
            project: Some(project),
            user: "anonymous".to_owned(),
            role: CallerRole::Admin,
        })
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
                token: None,
                project: named.map(str::to_owned),
            };
            let caller = auth.authenticate(&credentials).await.unwrap();
            assert_eq!(caller.project.unwrap().as_str(), expected);
            assert_eq!(caller.role, CallerRole::Admin);
        }
    }

    #[tokio::test]
    async fn it_passes_the_conformance_kit() {
        let auth = NoAuth::new(ProjectId::parse("default").unwrap());
        let good = Credentials {
            token: Some("whatever".into()),
            project: Some("mine".into()),
        };
        let bad = [Credentials {
            token: None,
            project: Some("x".repeat(37)),
        }];
        krater_driver::kit::check_authenticator(&auth, &good, &bad)
            .await
            .unwrap();
    }
}
