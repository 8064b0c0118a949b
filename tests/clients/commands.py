"""Runs every `openstack loadbalancer …` command there is, as an administrator who logged in to a real Keystone.

What the commands are is read from the client itself: one that a later release adds fails this test until it is run.
Environment: all that a login needs. Exits with 0 when everything is as it should be.
"""

import importlib.metadata
import json

import shell
from shell import refused

RUN = set()
KNOWN = {entry.name for entry in importlib.metadata.entry_points(group="openstack.load_balancer.v2")}


def run(*arguments, text=False):
    """Runs `openstack loadbalancer ARGUMENTS`, and notes which command that is."""
    words = []
    for argument in ("loadbalancer", *arguments):
        words.append(str(argument))
        if "_".join(words) in KNOWN:
            command = "_".join(words)
    RUN.add(command)
    return shell.openstack("loadbalancer", *arguments, output_json=not text)


def expect(found, **wanted):
    """Holds `found` to the fields of `wanted`."""
    for field, value in wanted.items():
        assert found[field] == value, f"{field}: {found[field]!r} instead of {value!r} in {found}"


def names(rows):
    return sorted(row["name"] for row in rows)


def catalogue():
    assert "amphora" in names(run("provider", "list"))
    keys = [row["name"] for row in run("provider", "capability", "list", "amphora", "--flavor")]
    assert "loadbalancer_topology" in keys, keys
    keys = [row["name"] for row in run("provider", "capability", "list", "amphora", "--availability-zone")]
    assert "compute_zone" in keys, keys

    data = json.dumps({"loadbalancer_topology": "SINGLE"})
    profile = run("flavorprofile", "create", "--name", "single", "--provider", "amphora", "--flavor-data", data)
    run("flavorprofile", "set", profile["id"], "--name", "one", text=True)
    expect(run("flavorprofile", "show", "one"), id=profile["id"], provider_name="amphora", flavor_data=data)
    assert names(run("flavorprofile", "list")) == ["one"]
    flavor = run("flavor", "create", "--name", "small", "--flavorprofile", "one", "--description", "of the test", "--enable")
    run("flavor", "set", "small", "--name", "little", "--disable", text=True)
    run("flavor", "unset", "little", "--description", text=True)
    expect(run("flavor", "show", "little"), id=flavor["id"], enabled=False, description="")
    assert names(run("flavor", "list")) == ["little"]
    run("flavor", "set", "little", "--enable", text=True)

    data = json.dumps({"compute_zone": "local"})
    zones = run("availabilityzoneprofile", "create", "--name", "here", "--provider", "amphora", "--availability-zone-data", data)
    run("availabilityzoneprofile", "set", zones["id"], "--name", "near", text=True)
    expect(run("availabilityzoneprofile", "show", "near"), id=zones["id"], availability_zone_data=data)
    assert names(run("availabilityzoneprofile", "list")) == ["near"]
    run("availabilityzone", "create", "--name", "rack", "--availabilityzoneprofile", "near", "--description", "x", "--enable")
    run("availabilityzone", "set", "rack", "--description", "changed", text=True)
    expect(run("availabilityzone", "show", "rack"), description="changed", enabled=True)
    run("availabilityzone", "unset", "rack", "--description", text=True)
    assert names(run("availabilityzone", "list")) == ["rack"]


def quotas(project):
    assert run("quota", "defaults", "show")["pool"] == -1
    expect(run("quota", "set", project, "--pool", 7, "--l7rule", 9), pool=7, l7rule=9)
    expect(run("quota", "show", project), pool=7, load_balancer=-1)
    assert project in [row["project_id"] for row in run("quota", "list")]
    run("quota", "unset", project, "--pool", text=True)
    expect(run("quota", "show", project), pool=-1)
    run("quota", "reset", project, text=True)
    expect(run("quota", "show", project), l7rule=-1)


def load_balancer():
    made = run(
        "create", "--name", "web", "--vip-subnet-id", "local-v4", "--flavor", "little", "--availability-zone", "rack",
        "--description", "of the test", "--tag", "blue", "--wait",
    )
    expect(made, provisioning_status="ACTIVE", availability_zone="rack")
    run("set", "web", "--description", "changed", "--tag", "green", "--wait", text=True)
    expect(run("show", "web"), description="changed")
    run("unset", "web", "--description", "--wait", text=True)
    assert names(run("list", "--availability-zone", "rack")) == ["web"]
    assert run("stats", "show", "web")["total_connections"] == 0
    assert "web" in run("status", "show", "web", text=True)
    run("failover", "web", "--wait", text=True)
    expect(run("show", "web"), provisioning_status="ACTIVE")
    return made


def listeners_and_pools():
    run("pool", "create", "--name", "app", "--loadbalancer", "web", "--protocol", "HTTP", "--lb-algorithm", "ROUND_ROBIN", "--description", "x", "--wait")
    run("pool", "set", "app", "--lb-algorithm", "LEAST_CONNECTIONS", "--wait", text=True)
    run("pool", "unset", "app", "--description", "--wait", text=True)
    expect(run("pool", "show", "app"), lb_algorithm="LEAST_CONNECTIONS", description="")
    assert names(run("pool", "list", "--loadbalancer", "web")) == ["app"]

    run("listener", "create", "--name", "front", "--protocol", "HTTP", "--protocol-port", 80, "--default-pool", "app", "--connection-limit", 100, "--wait", "web")
    run("listener", "set", "front", "--timeout-client-data", 1000, "--wait", text=True)
    run("listener", "unset", "front", "--connection-limit", "--wait", text=True)
    expect(run("listener", "show", "front"), timeout_client_data=1000, connection_limit=-1)
    assert names(run("listener", "list", "--loadbalancer", "web")) == ["front"]
    assert run("listener", "stats", "show", "front")["bytes_in"] == 0

    run("member", "create", "--name", "m1", "--address", "127.0.0.1", "--protocol-port", 8000, "--weight", 3, "--wait", "app")
    run("member", "set", "app", "m1", "--weight", 5, "--wait", text=True)
    expect(run("member", "show", "app", "m1"), weight=5)
    run("member", "unset", "app", "m1", "--weight", "--wait", text=True)
    expect(run("member", "show", "app", "m1"), weight=1)
    assert names(run("member", "list", "app")) == ["m1"]

    run("healthmonitor", "create", "--name", "probe", "--type", "HTTP", "--delay", 5, "--timeout", 3, "--max-retries", 2, "--url-path", "/x", "--wait", "app")
    run("healthmonitor", "set", "probe", "--delay", 7, "--wait", text=True)
    run("healthmonitor", "unset", "probe", "--url-path", "--wait", text=True)
    expect(run("healthmonitor", "show", "probe"), delay=7, url_path="/")
    assert names(run("healthmonitor", "list")) == ["probe"]


def policies():
    run("l7policy", "create", "--name", "out", "--action", "REDIRECT_TO_URL", "--redirect-url", "http://example.test/", "--description", "x", "--wait", "front")
    run("l7policy", "set", "out", "--redirect-url", "http://other.example.test/", "--wait", text=True)
    run("l7policy", "unset", "out", "--description", "--wait", text=True)
    expect(run("l7policy", "show", "out"), redirect_url="http://other.example.test/", description="")
    assert names(run("l7policy", "list")) == ["out"]
    rule = run("l7rule", "create", "--type", "PATH", "--compare-type", "STARTS_WITH", "--value", "/old", "--invert", "--wait", "out")
    run("l7rule", "set", "out", rule["id"], "--value", "/older", "--wait", text=True)
    run("l7rule", "unset", "out", rule["id"], "--invert", "--wait", text=True)
    expect(run("l7rule", "show", "out", rule["id"]), value="/older", invert=False)
    assert [row["id"] for row in run("l7rule", "list", "out")] == [rule["id"]]
    run("l7rule", "delete", "out", rule["id"], "--wait", text=True)
    run("l7policy", "delete", "out", "--wait", text=True)


def amphorae(balancer):
    carrier, = run("amphora", "list", "--loadbalancer", balancer["id"])
    shown = run("amphora", "show", carrier["id"])
    expect(shown, status="ALLOCATED", role="STANDALONE")
    assert run("amphora", "stats", "show", carrier["id"])
    run("amphora", "configure", carrier["id"], text=True)
    run("amphora", "failover", carrier["id"], "--wait", text=True)
    successor, = run("amphora", "list", "--loadbalancer", balancer["id"])
    assert successor["id"] != carrier["id"]
    assert "immutable" in refused("loadbalancer", "amphora", "delete", successor["id"])
    RUN.add("loadbalancer_amphora_delete")


def away():
    run("healthmonitor", "delete", "probe", "--wait", text=True)
    run("member", "delete", "app", "m1", "--wait", text=True)
    run("listener", "delete", "front", "--wait", text=True)
    run("pool", "delete", "app", "--wait", text=True)
    assert "in use" in refused("loadbalancer", "flavor", "delete", "little")
    run("delete", "web", "--wait", text=True)
    run("flavor", "delete", "little", text=True)
    run("flavorprofile", "delete", "one", text=True)
    run("availabilityzone", "delete", "rack", text=True)
    run("availabilityzoneprofile", "delete", "near", text=True)
    assert names(run("list")) == names(run("flavor", "list")) == names(run("availabilityzone", "list")) == []


def main():
    catalogue()
    balancer = load_balancer()
    quotas(balancer["project_id"])
    listeners_and_pools()
    policies()
    amphorae(balancer)
    away()
    assert RUN == KNOWN, f"never run: {sorted(KNOWN - RUN)}"
    print(f"all {len(KNOWN)} commands")


main()
