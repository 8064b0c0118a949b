//! Who asks: what an authentication driver vouches for, and the personas that amounts to (reference 2.3).

use alloc::{collections::BTreeSet, string::String};
use core::fmt;

use crate::model::ProjectId;

/// Somebody who asks, as an authentication driver vouches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The project on whose behalf.
    pub project: Option<ProjectId>,
    /// The user, for the audit trail.
    pub user: String,
    /// What the caller may act as; what that permits is in `policy`.
    pub personas: Personas,
    /// Whether no quota counts for the caller: only where nobody is asked who they are (reference 2.1).
    pub exempt_from_quota: bool,
}

impl Caller {
    /// A caller with these personas, under quota.
    #[must_use]
    pub fn new(
        user: impl Into<String>,
        project: Option<ProjectId>,
        personas: impl Into<Personas>,
    ) -> Self {
        Self {
            project,
            user: user.into(),
            personas: personas.into(),
            exempt_from_quota: false,
        }
    }

    /// A caller whom nothing holds: the controller itself, and everybody where nobody is asked who they are.
    #[must_use]
    pub fn unrestricted(user: impl Into<String>, project: Option<ProjectId>) -> Self {
        Self {
            exempt_from_quota: true,
            ..Self::new(user, project, Persona::Admin)
        }
    }

    /// The caller that somebody is under a set of roles.
    #[must_use]
    pub fn of(identity: Identity, set: RoleSet) -> Self {
        let personas = set.personas(&identity);
        let project = match identity.scope {
            Scope::Project(project) => Some(project),
            Scope::System | Scope::Neither => None,
        };
        Self::new(identity.user, project, personas)
    }
}

/// What is known of somebody, before a set of roles says what it amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's id.
    pub user: String,
    /// What the roles were given on.
    pub scope: Scope,
    roles: BTreeSet<String>,
}

impl Identity {
    /// Somebody with these roles. Case does not tell roles apart.
    #[must_use]
    pub fn new(
        user: impl Into<String>,
        scope: Scope,
        roles: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            user: user.into(),
            scope,
            roles: roles.into_iter().map(|role| role.to_lowercase()).collect(),
        }
    }

    /// Whether it has a role, named in lower case.
    #[must_use]
    pub fn has(&self, role: &str) -> bool {
        self.roles.contains(role)
    }
}

/// What roles were given on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A project.
    Project(ProjectId),
    /// The whole deployment.
    System,
    /// A domain, or nothing: no resource is of it.
    Neither,
}

/// What somebody may act as (reference 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Persona {
    /// Everything, everywhere.
    Admin,
    /// What operators do, without the resources of projects: what `load-balancer_admin` is where the roles of the
    /// identity service count.
    Operator,
    /// Reads everywhere.
    GlobalObserver,
    /// Reads and writes in the own project.
    Member,
    /// Writes in the own project, and reads there only if it is an observer too.
    Writer,
    /// Reads in the own project.
    Observer,
    /// Reads and writes quotas everywhere.
    QuotaAdmin,
    /// Another service: lists members everywhere.
    Service,
}

impl Persona {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Admin,
        Self::Operator,
        Self::GlobalObserver,
        Self::Member,
        Self::Writer,
        Self::Observer,
        Self::QuotaAdmin,
        Self::Service,
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of personas.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Personas(u8);

impl Personas {
    /// Whether `persona` is one of them.
    #[must_use]
    pub const fn include(self, persona: Persona) -> bool {
        self.0 & persona.bit() != 0
    }

    /// Those that are.
    pub fn iter(self) -> impl Iterator<Item = Persona> {
        Persona::ALL
            .into_iter()
            .filter(move |persona| self.include(*persona))
    }
}

impl From<Persona> for Personas {
    fn from(persona: Persona) -> Self {
        Self(persona.bit())
    }
}

impl FromIterator<Persona> for Personas {
    fn from_iter<I: IntoIterator<Item = Persona>>(personas: I) -> Self {
        Self(
            personas
                .into_iter()
                .fold(0, |bits, persona| bits | persona.bit()),
        )
    }
}

impl fmt::Debug for Personas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Which roles count: a deployment chooses one set (reference 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoleSet {
    /// `admin`, `member` and `reader` of the identity service: the built-in default of the reference.
    #[default]
    KeystoneDefault,
    /// The `load-balancer_*` roles, and `admin`: the reference's deprecated defaults.
    Advanced,
    /// Those of either.
    Both,
    /// The reference's override of this name: as the default, except that who writes does not read by that alone.
    KeystoneDefaultRoles,
    /// The same with `admin` and global `reader` given on the system.
    KeystoneDefaultRolesScoped,
    /// The reference's override of this name: whoever has any role in a project reads and writes there.
    AdminOrOwner,
}

impl RoleSet {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::KeystoneDefault,
        Self::Advanced,
        Self::Both,
        Self::KeystoneDefaultRoles,
        Self::KeystoneDefaultRolesScoped,
        Self::AdminOrOwner,
    ];

    /// Its name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeystoneDefault => "keystone-default",
            Self::Advanced => "advanced",
            Self::Both => "both",
            Self::KeystoneDefaultRoles => "keystone_default_roles",
            Self::KeystoneDefaultRolesScoped => "keystone_default_roles_scoped",
            Self::AdminOrOwner => "admin_or_owner",
        }
    }

    /// The set of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// What somebody may act as.
    #[must_use]
    pub fn personas(self, identity: &Identity) -> Personas {
        let grants = self.grants().iter().copied().flatten();
        grants
            .filter(|(given, _)| given.holds(identity))
            .map(|(_, persona)| *persona)
            .collect()
    }

    const fn grants(self) -> &'static [&'static [Grant]] {
        match self {
            Self::KeystoneDefault => &[COMMON, NEW_DEFAULTS],
            Self::Advanced => &[COMMON, DEPRECATED_DEFAULTS],
            Self::Both => &[COMMON, NEW_DEFAULTS, DEPRECATED_DEFAULTS],
            Self::KeystoneDefaultRoles => &[COMMON, DEFAULT_ROLES],
            Self::KeystoneDefaultRolesScoped => &[COMMON, DEFAULT_ROLES_SCOPED],
            Self::AdminOrOwner => &[COMMON, ADMIN_OR_OWNER],
        }
    }
}

/// What makes a persona of somebody.
#[derive(Clone, Copy, Debug)]
enum Given {
    /// The role, on whatever it was given.
    Role(&'static str),
    /// The role, given on the system.
    SystemRole(&'static str),
    /// Nothing: being known is enough.
    Nothing,
}

impl Given {
    fn holds(self, identity: &Identity) -> bool {
        match self {
            Self::Role(role) => identity.has(role),
            Self::SystemRole(role) => identity.scope == Scope::System && identity.has(role),
            Self::Nothing => true,
        }
    }
}

/// A row of the tables below. Personas of the own project are of no use to somebody who has none, so that roles given
/// on a system or a domain need no rows of their own.
type Grant = (Given, Persona);

/// Of every set: reference 2.2, the members' list.
const COMMON: &[Grant] = &[(Given::Role("service"), Persona::Service)];

const NEW_DEFAULTS: &[Grant] = &[
    (Given::Role("admin"), Persona::Admin),
    (Given::Role("member"), Persona::Member),
    (Given::Role("reader"), Persona::Observer),
];

const DEPRECATED_DEFAULTS: &[Grant] = &[
    (Given::Role("admin"), Persona::Admin),
    (Given::Role("load-balancer_admin"), Persona::Admin),
    (Given::Role("load-balancer_member"), Persona::Member),
    (Given::Role("load-balancer_observer"), Persona::Observer),
    (
        Given::Role("load-balancer_global_observer"),
        Persona::GlobalObserver,
    ),
    (
        Given::Role("load-balancer_quota_admin"),
        Persona::QuotaAdmin,
    ),
];

const DEFAULT_ROLES: &[Grant] = &[
    (Given::Role("admin"), Persona::Admin),
    (Given::Role("load-balancer_admin"), Persona::Operator),
    (Given::Role("member"), Persona::Writer),
    (Given::Role("reader"), Persona::Observer),
];

const DEFAULT_ROLES_SCOPED: &[Grant] = &[
    (Given::SystemRole("admin"), Persona::Admin),
    (Given::Role("load-balancer_admin"), Persona::Operator),
    (Given::SystemRole("reader"), Persona::GlobalObserver),
    (Given::Role("member"), Persona::Writer),
    (Given::Role("reader"), Persona::Observer),
];

const ADMIN_OR_OWNER: &[Grant] = &[
    (Given::Role("admin"), Persona::Admin),
    (Given::Role("load-balancer_admin"), Persona::Admin),
    (Given::Nothing, Persona::Member),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_found_by_its_name_and_nothing_else_is() {
        for set in RoleSet::ALL {
            assert_eq!(RoleSet::parse(set.name()), Some(set));
        }
        for wrong in ["", "Keystone-Default", "keystone_default", "none"] {
            assert_eq!(RoleSet::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn personas_are_a_set() {
        let all: Personas = Persona::ALL.into_iter().collect();
        assert_eq!(all.iter().count(), Persona::ALL.len());
        assert_eq!(Personas::default().iter().count(), 0);
        let two: Personas = [Persona::Member, Persona::QuotaAdmin, Persona::Member]
            .into_iter()
            .collect();
        assert!(two.iter().eq([Persona::Member, Persona::QuotaAdmin]));
        assert!(!two.include(Persona::Admin));
    }

    #[test]
    fn only_a_project_in_scope_is_the_callers_own() {
        let project = ProjectId::parse("mine");
        for (scope, own) in [
            (Scope::Project(project.clone().unwrap()), project),
            (Scope::System, None),
            (Scope::Neither, None),
        ] {
            let identity = Identity::new("ann", scope, ["Member".into()]);
            let caller = Caller::of(identity, RoleSet::KeystoneDefault);
            assert_eq!(caller.project, own);
            assert!(!caller.exempt_from_quota);
            assert!(caller.personas.include(Persona::Member));
        }
    }
}
