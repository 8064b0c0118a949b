"""Flavors, availability zones and their profiles with the unmodified `openstack` command."""

from shell import openstack, refused

DEDICATED = '{"krater_tenancy": "dedicated", "krater_connections_max": 1000}'


def capabilities():
    count = 0
    for kind, key in [("--flavor", "krater_tenancy"), ("--availability-zone", "compute_zone")]:
        rows = openstack("loadbalancer", "provider", "capability", "list", kind, "amphora")
        assert key in [row["name"] for row in rows], rows
        count += len(rows)
    assert len(openstack("loadbalancer", "provider", "capability", "list", "amphora")) == count


def flavors():
    profile = openstack(
        "loadbalancer", "flavorprofile", "create", "--name", "own", "--provider", "amphora", "--flavor-data", DEDICATED,
    )
    assert profile["flavor_data"] == DEDICATED, profile
    openstack("loadbalancer", "flavorprofile", "set", "own", "--flavor-data", "{}", output_json=False)
    openstack("loadbalancer", "flavorprofile", "set", "own", "--flavor-data", DEDICATED, output_json=False)
    flavor = openstack("loadbalancer", "flavor", "create", "--name", "gold", "--flavorprofile", "own", "--description", "d", "--disable")
    assert (flavor["enabled"], flavor["flavor_profile_id"]) == (False, profile["id"]), flavor
    said = refused("loadbalancer", "create", "--name", "nobody", "--vip-subnet-id", "local-v4", "--flavor", "gold")
    assert "The selected flavor is not allowed in this deployment" in said, said
    openstack("loadbalancer", "flavor", "set", "gold", "--enable", output_json=False)
    openstack("loadbalancer", "flavor", "unset", "gold", "--description", output_json=False)
    shown = openstack("loadbalancer", "flavor", "show", "gold")
    assert (shown["enabled"], shown["description"]) == (True, ""), shown
    assert "already exists" in refused("loadbalancer", "flavor", "create", "--name", "gold", "--flavorprofile", "own")
    openstack("loadbalancer", "flavorprofile", "set", "own", "--name", "alone", output_json=False)
    assert openstack("loadbalancer", "flavorprofile", "show", "alone")["id"] == profile["id"]
    for command in [("set", "alone", "--flavor-data", "{}"), ("delete", "alone")]:
        assert "in use and cannot be modified" in refused("loadbalancer", "flavorprofile", *command)
    assert [row["name"] for row in openstack("loadbalancer", "flavorprofile", "list", "--provider", "amphora")] == ["alone"]
    assert [row["name"] for row in openstack("loadbalancer", "flavor", "list", "--enable")] == ["gold"]
    assert openstack("loadbalancer", "flavor", "list", "--disable") == []
    assert [row["name"] for row in openstack("loadbalancer", "flavor", "list", "--flavorprofile", "alone")] == ["gold"]
    said = refused("loadbalancer", "flavorprofile", "create", "--name", "x", "--provider", "amphora", "--flavor-data", '{"compute_flavor": "m1"}')
    assert "virtual machines" in said, said


def zones():
    profile = openstack(
        "loadbalancer", "availabilityzoneprofile", "create", "--name", "here", "--provider", "amphora",
        "--availability-zone-data", '{"compute_zone": "local"}',
    )
    openstack("loadbalancer", "availabilityzoneprofile", "set", "here", "--name", "rack", output_json=False)
    assert openstack("loadbalancer", "availabilityzoneprofile", "show", "rack")["id"] == profile["id"]
    zone = openstack("loadbalancer", "availabilityzone", "create", "--name", "rack-a", "--availabilityzoneprofile", "rack")
    assert (zone["name"], zone["enabled"]) == ("rack-a", True), zone
    openstack("loadbalancer", "availabilityzone", "set", "rack-a", "--description", "d", "--disable", output_json=False)
    openstack("loadbalancer", "availabilityzone", "set", "rack-a", "--enable", output_json=False)
    openstack("loadbalancer", "availabilityzone", "unset", "rack-a", "--description", output_json=False)
    shown = openstack("loadbalancer", "availabilityzone", "show", "rack-a")
    assert (shown["enabled"], shown["description"]) == (True, ""), shown
    assert [row["name"] for row in openstack("loadbalancer", "availabilityzone", "list", "--availabilityzoneprofile", "rack")] == ["rack-a"]
    assert [row["name"] for row in openstack("loadbalancer", "availabilityzoneprofile", "list")] == ["rack"]


def load_balancer_of_both():
    created = openstack(
        "loadbalancer", "create", "--name", "golden", "--vip-subnet-id", "local-v4", "--flavor", "gold",
        "--availability-zone", "rack-a", "--wait",
    )
    assert created["provisioning_status"] == "ACTIVE", created
    assert created["availability_zone"] == "rack-a", created
    flavor = openstack("loadbalancer", "flavor", "show", "gold")["id"]
    assert created["flavor_id"] == flavor, created
    assert [row["name"] for row in openstack("loadbalancer", "list", "--flavor", "gold")] == ["golden"]
    assert [row["name"] for row in openstack("loadbalancer", "list", "--availability-zone", "rack-a")] == ["golden"]
    assert "in use" in refused("loadbalancer", "flavor", "delete", "gold")
    assert "in use" in refused("loadbalancer", "availabilityzone", "delete", "rack-a")
    openstack("loadbalancer", "delete", "golden", "--wait", output_json=False)


def deletions():
    openstack("loadbalancer", "flavor", "delete", "gold", output_json=False)
    openstack("loadbalancer", "flavorprofile", "delete", "alone", output_json=False)
    openstack("loadbalancer", "availabilityzone", "delete", "rack-a", output_json=False)
    openstack("loadbalancer", "availabilityzoneprofile", "delete", "rack", output_json=False)
    for kind in ["flavor", "flavorprofile", "availabilityzone", "availabilityzoneprofile"]:
        assert openstack("loadbalancer", kind, "list") == []


def catalogue():
    """All of it; nothing is left."""
    capabilities()
    flavors()
    zones()
    load_balancer_of_both()
    deletions()
