//! Who may do what (reference 2.2, 2.3, 2.4), as a table.

use crate::{
    caller::{Caller, Persona},
    model::ProjectId,
    network::Viewer,
};

/// What a request does, as far as permission goes (reference 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// List, show, statistics, status (`load-balancer:read`).
    Read,
    /// List the members of a pool (`load-balancer:read` or role `service`).
    ListMembers,
    /// Create, update, delete (`load-balancer:write`).
    Write,
    /// The fleet and other things of operators (`load-balancer:admin`).
    Administer,
    /// Show quotas (`load-balancer:read-quota`).
    ReadQuota,
    /// Change and reset quotas (`load-balancer:write-quota`).
    WriteQuota,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::ListMembers,
        Self::Write,
        Self::Administer,
        Self::ReadQuota,
        Self::WriteQuota,
    ];
}

/// In which projects a persona may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reach {
    /// In none.
    Nowhere,
    /// In the caller's own.
    OwnProject,
    /// In all.
    Everywhere,
}

/// How far each persona reaches. Source: reference 2.3, composition of the rules. What is not named is not permitted.
pub const REACH: &[(Persona, Reach, &[Action])] = &[
    (Persona::Admin, Reach::Everywhere, &Action::ALL),
    (Persona::Operator, Reach::Everywhere, &[Action::Administer]),
    (
        Persona::GlobalObserver,
        Reach::Everywhere,
        &[Action::Read, Action::ListMembers, Action::ReadQuota],
    ),
    (
        Persona::Member,
        Reach::OwnProject,
        &[
            Action::Read,
            Action::ListMembers,
            Action::Write,
            Action::ReadQuota,
        ],
    ),
    (Persona::Writer, Reach::OwnProject, &[Action::Write]),
    (
        Persona::Observer,
        Reach::OwnProject,
        &[Action::Read, Action::ListMembers, Action::ReadQuota],
    ),
    (
        Persona::QuotaAdmin,
        Reach::Everywhere,
        &[Action::ReadQuota, Action::WriteQuota],
    ),
    (Persona::Service, Reach::Everywhere, &[Action::ListMembers]),
];

/// How far `caller` reaches with `action`.
#[must_use]
pub fn reach(caller: &Caller, action: Action) -> Reach {
    REACH
        .iter()
        .filter(|row| caller.personas.include(row.0) && row.2.contains(&action))
        .map(|row| row.1)
        .max()
        .unwrap_or(Reach::Nowhere)
}

/// Whether `caller` may do `action` to a resource of `project`.
#[must_use]
pub fn permits(caller: &Caller, project: &ProjectId, action: Action) -> bool {
    match reach(caller, action) {
        Reach::Nowhere => false,
        Reach::OwnProject => caller.project.as_ref() == Some(project),
        Reach::Everywhere => true,
    }
}

/// Whether `caller` may do `action` in every project: list the resources of all (`get_all-global`), or see the fleet.
#[must_use]
pub fn permits_everywhere(caller: &Caller, action: Action) -> bool {
    reach(caller, action) == Reach::Everywhere
}

/// Whether `caller` may do `action` to what belongs to no project, e.g. read providers or flavors: as to things of the
/// caller's own project.
#[must_use]
pub fn permits_at_home(caller: &Caller, action: Action) -> bool {
    match reach(caller, action) {
        Reach::Nowhere => false,
        Reach::OwnProject => caller.project.is_some(),
        Reach::Everywhere => true,
    }
}

/// Whose eyes the caller looks at networks with.
#[must_use]
pub fn viewer(caller: &Caller) -> Viewer {
    if permits_everywhere(caller, Action::Read) {
        return Viewer::Operator;
    }
    caller
        .project
        .clone()
        .map_or(Viewer::Stranger, Viewer::Project)
}

#[cfg(test)]
mod tests;
