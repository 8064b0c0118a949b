//! The table of reference 2.3, cell by cell.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::*;
use crate::{
    caller::{Identity, RoleSet, Scope},
    sample::project,
};

fn caller(set: RoleSet, scope: Scope, roles: &[&str]) -> Caller {
    let roles = roles.iter().map(ToString::to_string);
    Caller::of(Identity::new("ann", scope, roles), set)
}

fn mine() -> Scope {
    Scope::Project(project())
}

fn other() -> ProjectId {
    ProjectId::parse("another").unwrap()
}

/// `Y:Y`, `Y:n` or `n:n`: own project, other project.
fn cell(caller: &Caller, action: Action) -> &'static str {
    match (
        permits(caller, &project(), action),
        permits(caller, &other(), action),
    ) {
        (true, true) => "Y:Y",
        (true, false) => "Y:n",
        (false, false) => "n:n",
        (false, true) => "n:Y",
    }
}

fn global(caller: &Caller, action: Action) -> &'static str {
    if permits_everywhere(caller, action) {
        "Y"
    } else {
        "n"
    }
}

/// The columns of the reference: get_one, post, list global, failover, quota get, quota put, member list, flavor post,
/// amphora; then quota list global, which the reference has in its composition of rules.
fn row(caller: &Caller) -> String {
    let cells = [
        cell(caller, Action::Read),
        cell(caller, Action::Write),
        global(caller, Action::Read),
        global(caller, Action::Administer),
        cell(caller, Action::ReadQuota),
        cell(caller, Action::WriteQuota),
        cell(caller, Action::ListMembers),
        global(caller, Action::Administer),
        global(caller, Action::Administer),
        global(caller, Action::ReadQuota),
    ];
    cells.join(" ")
}

const NOTHING: &str = "n:n n:n n n n:n n:n n:n n n n";
const ALL: &str = "Y:Y Y:Y Y Y Y:Y Y:Y Y:Y Y Y Y";
const MEMBER: &str = "Y:n Y:n n n Y:n n:n Y:n n n n";
const READER: &str = "Y:n n:n n n Y:n n:n Y:n n n n";
const WRITER: &str = "n:n Y:n n n n:n n:n n:n n n n";
const SERVICE: &str = "n:n n:n n n n:n n:n Y:Y n n n";
const GLOBAL_READER: &str = "Y:Y n:n Y n Y:Y n:n Y:Y n n Y";
const QUOTA: &str = "n:n n:n n n Y:Y Y:Y n:n n n Y";
const OPERATOR: &str = "n:n n:n n Y n:n n:n n:n Y Y n";

#[test]
fn each_role_may_what_the_reference_says() {
    // Role; what it may with the new defaults, with old ones accepted too, with the old ones alone.
    for (role, new, both, old) in [
        ("admin", ALL, ALL, ALL),
        ("member", MEMBER, MEMBER, NOTHING),
        ("reader", READER, READER, NOTHING),
        ("service", SERVICE, SERVICE, SERVICE),
        ("load-balancer_admin", NOTHING, ALL, ALL),
        ("load-balancer_member", NOTHING, MEMBER, MEMBER),
        ("load-balancer_observer", NOTHING, READER, READER),
        (
            "load-balancer_global_observer",
            NOTHING,
            GLOBAL_READER,
            GLOBAL_READER,
        ),
        ("load-balancer_quota_admin", NOTHING, QUOTA, QUOTA),
        ("anything else", NOTHING, NOTHING, NOTHING),
    ] {
        for (set, expected) in [
            (RoleSet::KeystoneDefault, new),
            (RoleSet::Both, both),
            (RoleSet::Advanced, old),
        ] {
            let found = row(&caller(set, mine(), &[role]));
            assert_eq!(found, expected, "{role} under {}", set.name());
        }
    }
}

#[test]
fn each_role_may_what_the_overrides_say() {
    // Role; what it may with keystone_default_roles, with keystone_default_roles_scoped, with admin_or_owner.
    for (role, plain, scoped, owner) in [
        ("admin", ALL, NOTHING, ALL),
        ("member", WRITER, WRITER, MEMBER),
        ("reader", READER, READER, MEMBER),
        ("load-balancer_admin", OPERATOR, OPERATOR, ALL),
        ("load-balancer_member", NOTHING, NOTHING, MEMBER),
        ("anything else", NOTHING, NOTHING, MEMBER),
    ] {
        for (set, expected) in [
            (RoleSet::KeystoneDefaultRoles, plain),
            (RoleSet::KeystoneDefaultRolesScoped, scoped),
            (RoleSet::AdminOrOwner, owner),
        ] {
            let found = row(&caller(set, mine(), &[role]));
            assert_eq!(found, expected, "{role} under {}", set.name());
        }
    }
    // The identity service implies reader by member, and says both.
    let both = ["member", "reader"];
    for set in [
        RoleSet::KeystoneDefaultRoles,
        RoleSet::KeystoneDefaultRolesScoped,
    ] {
        assert_eq!(row(&caller(set, mine(), &both)), MEMBER);
    }
}

#[test]
fn a_role_on_the_system_reaches_everywhere_or_nowhere() {
    for (set, role, expected) in [
        (RoleSet::KeystoneDefault, "admin", ALL),
        (RoleSet::KeystoneDefault, "member", NOTHING),
        (RoleSet::KeystoneDefault, "reader", NOTHING),
        (RoleSet::KeystoneDefaultRoles, "admin", ALL),
        (RoleSet::KeystoneDefaultRoles, "reader", NOTHING),
        (RoleSet::KeystoneDefaultRolesScoped, "admin", ALL),
        (RoleSet::KeystoneDefaultRolesScoped, "reader", GLOBAL_READER),
        (RoleSet::KeystoneDefaultRolesScoped, "member", NOTHING),
        (RoleSet::AdminOrOwner, "reader", NOTHING),
    ] {
        let found = row(&caller(set, Scope::System, &[role]));
        assert_eq!(found, expected, "{role} under {}", set.name());
    }
}

#[test]
fn whoever_has_no_project_owns_nothing() {
    for set in RoleSet::ALL {
        for role in ["member", "reader", "load-balancer_member", "anything else"] {
            let caller = caller(set, Scope::Neither, &[role]);
            assert_eq!(row(&caller), NOTHING, "{role} under {}", set.name());
            assert!(!permits_at_home(&caller, Action::Read));
        }
    }
}

#[test]
fn what_is_of_no_project_is_read_by_whoever_reads_at_home() {
    let set = RoleSet::Both;
    for (role, reads) in [
        ("admin", true),
        ("member", true),
        ("reader", true),
        ("load-balancer_global_observer", true),
        ("load-balancer_quota_admin", false),
        ("service", false),
        ("anything else", false),
    ] {
        let caller = caller(set, mine(), &[role]);
        assert_eq!(permits_at_home(&caller, Action::Read), reads, "{role}");
        assert_eq!(
            permits_at_home(&caller, Action::Administer),
            role == "admin"
        );
    }
}

#[test]
fn the_table_names_every_persona_once() {
    let named: Vec<Persona> = REACH.iter().map(|row| row.0).collect();
    assert_eq!(named, Persona::ALL);
}

#[test]
fn an_unrestricted_caller_may_everything_and_is_under_no_quota() {
    let caller = Caller::unrestricted("somebody", None);
    assert_eq!(row(&caller), ALL);
    assert!(caller.exempt_from_quota);
}
