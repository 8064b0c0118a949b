//! Who may do what (reference 2.2, 2.3, 2.4), as a table.

use crate::{
    model::ProjectId,
    query::{Caller, CallerRole},
};

/// What a request does, as far as permission goes (reference 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// List, show, statistics, status (`load-balancer:read`).
    Read,
    /// Create, update, delete (`load-balancer:write`).
    Write,
    /// The fleet and other things of operators (`load-balancer:admin`).
    Administer,
}

/// In which projects a role may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// In none.
    Nowhere,
    /// In the caller's own.
    OwnProject,
    /// In all.
    Everywhere,
}

/// How far each role reaches with each action. Source: reference 2.3, "new defaults".
pub const REACH: [(CallerRole, Action, Reach); 9] = [
    (CallerRole::Admin, Action::Read, Reach::Everywhere),
    (CallerRole::Admin, Action::Write, Reach::Everywhere),
    (CallerRole::Admin, Action::Administer, Reach::Everywhere),
    (CallerRole::Member, Action::Read, Reach::OwnProject),
    (CallerRole::Member, Action::Write, Reach::OwnProject),
    (CallerRole::Member, Action::Administer, Reach::Nowhere),
    (CallerRole::Reader, Action::Read, Reach::OwnProject),
    (CallerRole::Reader, Action::Write, Reach::Nowhere),
    (CallerRole::Reader, Action::Administer, Reach::Nowhere),
];

/// How far `role` reaches with `action`. What the table does not name is not permitted.
#[must_use]
pub fn reach(role: CallerRole, action: Action) -> Reach {
    REACH
        .iter()
        .find(|row| row.0 == role && row.1 == action)
        .map_or(Reach::Nowhere, |row| row.2)
}

/// Whether `caller` may do `action` to a resource of `project`.
#[must_use]
pub fn permits(caller: &Caller, project: &ProjectId, action: Action) -> bool {
    match reach(caller.role, action) {
        Reach::Nowhere => false,
        Reach::OwnProject => caller.project.as_ref() == Some(project),
        Reach::Everywhere => true,
    }
}

/// Whether `caller` may do `action` in every project: list those of all (`get_all-global`), or see the fleet.
#[must_use]
pub fn permits_everywhere(caller: &Caller, action: Action) -> bool {
    reach(caller.role, action) == Reach::Everywhere
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::project;

    fn caller(role: CallerRole, project: Option<&str>) -> Caller {
        Caller {
            project: project.and_then(ProjectId::parse),
            user: "ann".into(),
            role,
        }
    }

    #[test]
    fn the_table_names_every_role_and_action_once() {
        for role in [CallerRole::Admin, CallerRole::Member, CallerRole::Reader] {
            for action in [Action::Read, Action::Write, Action::Administer] {
                assert_eq!(
                    REACH
                        .iter()
                        .filter(|row| row.0 == role && row.1 == action)
                        .count(),
                    1
                );
            }
        }
    }

    #[test]
    fn own_and_other_projects_are_told_apart() {
        let own = project();
        // Role: read, write, administer of one's own project; the same of another's (reference 2.3).
        for (role, mine, theirs) in [
            (CallerRole::Admin, [true, true, true], [true, true, true]),
            (
                CallerRole::Member,
                [true, true, false],
                [false, false, false],
            ),
            (
                CallerRole::Reader,
                [true, false, false],
                [false, false, false],
            ),
        ] {
            let actions = [Action::Read, Action::Write, Action::Administer];
            let at_home = caller(role, Some(own.as_str()));
            let abroad = caller(role, Some("another"));
            assert_eq!(actions.map(|action| permits(&at_home, &own, action)), mine);
            assert_eq!(actions.map(|action| permits(&abroad, &own, action)), theirs);
            assert_eq!(
                actions.map(|action| permits(&caller(role, None), &own, action)),
                theirs
            );
            assert_eq!(
                permits_everywhere(&at_home, Action::Read),
                role == CallerRole::Admin
            );
        }
    }
}
