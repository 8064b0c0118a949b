"""Drives every resource of the load-balancing API with python-openstackclient and python-octaviaclient.

Environment: OS_AUTH_TYPE and OS_ENDPOINT as for any user; MEMBERS holds `address:port` of two HTTP members that
answer `{"member": NAME}`, separated by a space. Exits with 0 when everything is as it should be.
"""

import collections
import json
import os
import subprocess
import sys
import time
import urllib.request

from catalogue import catalogue
from shell import openstack, refused
from udp import udp

MEMBERS = [member.rsplit(":", 1) for member in os.environ["MEMBERS"].split()]


def expect(found, wanted):
    """Holds `found` to the fields of `wanted`."""
    for field, value in wanted.items():
        assert found[field] == value, f"{field}: {found[field]!r} instead of {value!r} in {found}"


def soon(what, condition):
    """Waits, at most ten seconds, for a condition."""
    bound = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < bound, f"waited in vain: {what}"
        time.sleep(0.05)


def names(rows):
    """The names in a listing."""
    return sorted(row["name"] for row in rows)


def ask(address, port, count):
    """How often each member answered."""
    answers = collections.Counter()
    for _ in range(count):
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=10) as answer:
            answers[json.load(answer)["member"]] += 1
    return answers


def providers():
    rows = openstack("loadbalancer", "provider", "list")
    assert "amphora" in [row["name"] for row in rows], rows


def load_balancer():
    created = openstack(
        "loadbalancer", "create", "--name", "web", "--description", "of the test", "--vip-subnet-id", "local-v4",
        "--tag", "blue", "--tag", "test", "--wait",
    )
    expect(created, {"name": "web", "description": "of the test", "provisioning_status": "ACTIVE", "provider": "amphora"})
    shown = openstack("loadbalancer", "show", "web")
    expect(shown, {"id": created["id"], "vip_address": created["vip_address"], "admin_state_up": True})
    assert sorted(shown["tags"]) == ["blue", "test"], shown["tags"]
    openstack("loadbalancer", "set", "web", "--description", "changed", "--wait", output_json=False)
    expect(openstack("loadbalancer", "show", created["id"]), {"description": "changed"})
    openstack("loadbalancer", "set", "web", "--disable", "--tag", "green", "--wait", output_json=False)
    shown = openstack("loadbalancer", "show", "web")
    expect(shown, {"admin_state_up": False})
    assert "green" in shown["tags"], shown["tags"]
    openstack("loadbalancer", "set", "web", "--enable", "--wait", output_json=False)
    openstack("loadbalancer", "unset", "web", "--description", "--wait", output_json=False)
    expect(openstack("loadbalancer", "show", "web"), {"description": ""})
    return shown


def load_balancer_lists(web):
    other = openstack("loadbalancer", "create", "--name", "spare", "--vip-subnet-id", "local-v4", "--vip-address", "127.77.9.9", "--wait")
    expect(other, {"vip_address": "127.77.9.9", "provisioning_status": "ACTIVE"})
    assert names(openstack("loadbalancer", "list")) == ["spare", "web"]
    assert names(openstack("loadbalancer", "list", "--name", "web")) == ["web"]
    assert names(openstack("loadbalancer", "list", "--tags", "blue")) == ["web"]
    assert names(openstack("loadbalancer", "list", "--not-tags", "blue")) == ["spare"]
    assert names(openstack("loadbalancer", "list", "--provisioning-status", "ACTIVE")) == ["spare", "web"]
    assert names(openstack("loadbalancer", "list", "--enable")) == ["spare", "web"]
    assert openstack("loadbalancer", "list", "--disable") == []
    assert names(openstack("loadbalancer", "list", "--vip-subnet-id", web["vip_subnet_id"])) == ["spare", "web"]
    openstack("loadbalancer", "delete", "spare", "--wait", output_json=False)
    assert names(openstack("loadbalancer", "list")) == ["web"]


def pool():
    created = openstack(
        "loadbalancer", "pool", "create", "--name", "backends", "--loadbalancer", "web", "--protocol", "HTTP",
        "--lb-algorithm", "ROUND_ROBIN", "--tag", "p1", "--wait",
    )
    expect(created, {"name": "backends", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "admin_state_up": True})
    openstack("loadbalancer", "pool", "set", "backends", "--lb-algorithm", "LEAST_CONNECTIONS", "--description", "x", "--wait", output_json=False)
    expect(openstack("loadbalancer", "pool", "show", "backends"), {"lb_algorithm": "LEAST_CONNECTIONS", "description": "x"})
    openstack("loadbalancer", "pool", "set", "backends", "--lb-algorithm", "ROUND_ROBIN", "--wait", output_json=False)
    openstack("loadbalancer", "pool", "unset", "backends", "--description", "--wait", output_json=False)
    expect(openstack("loadbalancer", "pool", "show", "backends"), {"description": ""})
    assert names(openstack("loadbalancer", "pool", "list", "--loadbalancer", "web")) == ["backends"]
    assert names(openstack("loadbalancer", "pool", "list", "--tags", "p1")) == ["backends"]


def members():
    for number, (address, port) in enumerate(MEMBERS):
        created = openstack(
            "loadbalancer", "member", "create", "--name", f"m{number}", "--address", address, "--protocol-port", port,
            "--weight", 1, "--wait", "backends",
        )
        expect(created, {"name": f"m{number}", "address": address, "protocol_port": int(port), "weight": 1})
    openstack("loadbalancer", "member", "set", "--weight", 3, "--wait", "backends", "m0", output_json=False)
    expect(openstack("loadbalancer", "member", "show", "backends", "m0"), {"weight": 3, "backup": False})
    openstack("loadbalancer", "member", "set", "--enable-backup", "--wait", "backends", "m1", output_json=False)
    expect(openstack("loadbalancer", "member", "show", "backends", "m1"), {"backup": True})
    openstack("loadbalancer", "member", "unset", "--backup", "--wait", "backends", "m1", output_json=False)
    openstack("loadbalancer", "member", "unset", "--weight", "--wait", "backends", "m0", output_json=False)
    expect(openstack("loadbalancer", "member", "show", "backends", "m0"), {"weight": 1})
    assert names(openstack("loadbalancer", "member", "list", "backends")) == ["m0", "m1"]


def listener():
    created = openstack(
        "loadbalancer", "listener", "create", "--name", "front", "--protocol", "HTTP", "--protocol-port", 8080,
        "--default-pool", "backends", "--connection-limit", 5000, "--insert-headers", "X-Forwarded-For=true",
        "--timeout-client-data", 40000, "--allowed-cidr", "127.0.0.0/8", "--tag", "l1", "--wait", "web",
    )
    expect(created, {"name": "front", "protocol": "HTTP", "protocol_port": 8080, "connection_limit": 5000, "timeout_client_data": 40000})
    assert "127.0.0.0/8" in created["allowed_cidrs"], created
    openstack("loadbalancer", "listener", "set", "front", "--timeout-member-data", 45000, "--wait", output_json=False)
    expect(openstack("loadbalancer", "listener", "show", "front"), {"timeout_member_data": 45000})
    openstack("loadbalancer", "listener", "unset", "front", "--timeout-member-data", "--allowed-cidrs", "--wait", output_json=False)
    shown = openstack("loadbalancer", "listener", "show", "front")
    expect(shown, {"timeout_member_data": 50000})
    assert not shown["allowed_cidrs"], shown
    assert names(openstack("loadbalancer", "listener", "list", "--loadbalancer", "web")) == ["front"]
    assert names(openstack("loadbalancer", "listener", "list", "--tags", "l1")) == ["front"]


def health_monitor():
    created = openstack(
        "loadbalancer", "healthmonitor", "create", "--name", "check", "--type", "HTTP", "--delay", 1, "--timeout", 1,
        "--max-retries", 1, "--max-retries-down", 1, "--url-path", "/healthz", "--http-method", "GET",
        "--expected-codes", "200", "--wait", "backends",
    )
    expect(created, {"name": "check", "type": "HTTP", "url_path": "/healthz", "expected_codes": "200", "delay": 1})
    soon("both members are ONLINE", lambda: {row["operating_status"] for row in openstack("loadbalancer", "member", "list", "backends")} == {"ONLINE"})
    openstack("loadbalancer", "healthmonitor", "set", "check", "--delay", 2, "--expected-codes", "200-204", "--wait", output_json=False)
    expect(openstack("loadbalancer", "healthmonitor", "show", "check"), {"delay": 2, "expected_codes": "200-204"})
    openstack("loadbalancer", "healthmonitor", "unset", "check", "--expected-codes", "--wait", output_json=False)
    expect(openstack("loadbalancer", "healthmonitor", "show", "check"), {"expected_codes": "200"})
    assert names(openstack("loadbalancer", "healthmonitor", "list")) == ["check"]


def traffic(web):
    answers = ask(web["vip_address"], 8080, 10)
    assert sorted(answers.values()) == [5, 5], answers
    soon("the load balancer is ONLINE", lambda: openstack("loadbalancer", "show", "web")["operating_status"] == "ONLINE")
    tree = openstack("loadbalancer", "status", "show", "web", output_json=False)
    root = json.loads(tree)["loadbalancer"]
    expect(root, {"name": "web", "provisioning_status": "ACTIVE"})
    assert root["listeners"][0]["pools"][0]["members"], tree
    soon("statistics arrive", lambda: openstack("loadbalancer", "stats", "show", "web")["total_connections"] >= 10)
    soon("statistics arrive", lambda: openstack("loadbalancer", "listener", "stats", "show", "front")["bytes_out"] > 0)


def refusals():
    said = refused("loadbalancer", "listener", "create", "--protocol", "HTTP", "--protocol-port", 8080, "web")
    assert "409" in said or "already" in said, said
    said = refused("loadbalancer", "listener", "create", "--protocol", "SCTP", "--protocol-port", 53, "web")
    assert "501" in said or "not" in said, said
    said = refused("loadbalancer", "delete", "web")
    assert "child" in said or "409" in said or "cascade" in said.lower(), said
    refused("loadbalancer", "show", "nobody")


def deletions():
    openstack("loadbalancer", "member", "delete", "--wait", "backends", "m1", output_json=False)
    assert names(openstack("loadbalancer", "member", "list", "backends")) == ["m0"]
    openstack("loadbalancer", "healthmonitor", "delete", "--wait", "check", output_json=False)
    assert openstack("loadbalancer", "healthmonitor", "list") == []
    openstack("loadbalancer", "listener", "delete", "--wait", "front", output_json=False)
    assert openstack("loadbalancer", "listener", "list") == []
    openstack("loadbalancer", "pool", "create", "--name", "second", "--loadbalancer", "web", "--protocol", "TCP", "--lb-algorithm", "SOURCE_IP", "--wait")
    openstack("loadbalancer", "pool", "delete", "--wait", "second", output_json=False)
    openstack("loadbalancer", "delete", "--cascade", "--wait", "web", output_json=False)
    for kind in [(), ("listener",), ("pool",), ("healthmonitor",)]:
        assert openstack("loadbalancer", *kind, "list") == []


def the_command_itself():
    """The same through the installed program, once."""
    command = [os.path.join(os.path.dirname(sys.executable), "openstack"), "loadbalancer", "provider", "list", "-f", "json"]
    output = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    assert json.loads(output), output


def main():
    providers()
    web = load_balancer()
    load_balancer_lists(web)
    pool()
    members()
    listener()
    health_monitor()
    traffic(web)
    udp(web["vip_address"])
    refusals()
    deletions()
    catalogue()
    the_command_itself()
    print("all commands did what they should")


main()
