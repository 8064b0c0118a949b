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
    with as_user("alice", "alpha"):
        created = openstack("loadbalancer", "create", "--name", "web", "--vip-subnet-id", "local-v4", "--wait")
        assert created["provisioning_status"] == "ACTIVE", created
        openstack("loadbalancer", "pool", "create", "--name", "p", "--loadbalancer", "web", "--protocol", "HTTP",
                  "--lb-algorithm", "ROUND_ROBIN", "--wait")
        openstack("loadbalancer", "set", "web", "--description", "of alice", output_json=False)
        assert names("list") == ["web"]
        assert openstack("loadbalancer", "show", "web")["description"] == "of alice"
        assert "Policy" in refused("loadbalancer", "failover", "web")
        return created["id"], created["project_id"]


def only_reads(id):
    with as_user("rita", "alpha"):
        assert names("list") == ["web"]
        assert "web" in openstack("loadbalancer", "status", "show", id, output_json=False)
        assert openstack("loadbalancer", "stats", "show", id)["total_connections"] == 0
        for command in [
            ("create", "--name", "no", "--vip-subnet-id", "local-v4"),
            ("set", "web", "--name", "other"),
            ("delete", "web"),
        ]:
            assert REFUSED in refused("loadbalancer", *command)


def sees_nothing(id, project):
    with as_user("bob", "beta"):
        for kind in [("list",), ("pool", "list"), ("listener", "list"), ("healthmonitor", "list")]:
            assert names(*kind) == [], kind
        assert openstack("port", "list") == []
        assert REFUSED in refused("loadbalancer", "list", "--project", project)
        assert REFUSED in refused("loadbalancer", "status", "show", id)
        assert REFUSED in refused("loadbalancer", "stats", "show", id)
        openstack("loadbalancer", "create", "--name", "web", "--vip-subnet-id", "local-v4", "--wait")
        assert names("list") == ["web"]


def may_nothing():
    with as_user("stranger", "alpha"):
        assert REFUSED in refused("loadbalancer", "list")


def sees_all():
    with as_user("admin", "admin"):
        assert names("list") == ["web", "web"]


def main():
    id, project = writes_and_reads()
    only_reads(id)
    sees_nothing(id, project)
    may_nothing()
    sees_all()


main()
