"""Logs in to a real Keystone with the unmodified `openstack` command, as users with different roles and projects.

Environment: OS_AUTH_URL and the rest that a login needs, but for OS_USERNAME and OS_PROJECT_NAME. Exits with 0 when
everything is as it should be.
"""

from shell import as_user, openstack, refused

REFUSED = "Policy does not allow this request to be performed."


def names(*arguments):
    """The names in a listing."""
    return sorted(row["name"] for row in openstack("loadbalancer", *arguments))


def writes_and_reads():
    created = openstack("loadbalancer", "create", "--name", "web", "--vip-subnet-id", "local-v4", "--wait")
    assert created["provisioning_status"] == "ACTIVE", created
    openstack("loadbalancer", "pool", "create", "--name", "p", "--loadbalancer", "web", "--protocol", "HTTP",
              "--lb-algorithm", "ROUND_ROBIN", "--wait")
    openstack("loadbalancer", "set", "web", "--description", "of alice", output_json=False)
    assert names("list") == ["web"]
    assert openstack("loadbalancer", "show", "web")["description"] == "of alice"
    assert REFUSED in refused("loadbalancer", "failover", "web")
    return created["id"], created["project_id"]


def only_reads(id):
    assert names("list") == ["web"]
    assert "web" in openstack("loadbalancer", "status", "show", id, output_json=False)
    assert openstack("loadbalancer", "stats", "show", id)["total_connections"] == 0
    for command in [
        ("create", "--name", "no", "--vip-subnet-id", "local-v4"),
        ("set", "web", "--name", "other"),
        ("delete", "web", "--cascade"),
    ]:
        assert REFUSED in refused("loadbalancer", *command)


def sees_nothing(id, project):
    for kind in [("list",), ("pool", "list"), ("listener", "list"), ("healthmonitor", "list")]:
        assert names(*kind) == [], kind
    assert openstack("port", "list") == []
    assert REFUSED in refused("loadbalancer", "list", "--project", project)
    for command in [("show", id), ("status", "show", id), ("stats", "show", id), ("delete", id, "--cascade")]:
        refused("loadbalancer", *command)
    openstack("loadbalancer", "create", "--name", "own", "--vip-subnet-id", "local-v4", "--wait")
    assert names("list") == ["own"]


def may_nothing():
    assert REFUSED in refused("loadbalancer", "list")


def sees_all():
    assert names("list") == ["own", "web"]


def main():
    id, project = as_user("alice", "alpha", writes_and_reads)
    as_user("rita", "alpha", only_reads, id)
    as_user("bob", "beta", sees_nothing, id, project)
    as_user("stranger", "alpha", may_nothing)
    as_user("admin", "admin", sees_all)


main()
