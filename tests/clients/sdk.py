"""Drives every resource of the load-balancing API with openstacksdk, as dashboards and Ansible do.

Environment: OS_AUTH_TYPE and OS_ENDPOINT as for any user; MEMBERS holds `address:port` of two HTTP members that
answer `{"member": NAME}`, separated by a space. Exits with 0 when everything is as it should be.
"""

import collections
import json
import os
import time
import urllib.request

import openstack
from openstack import exceptions

MEMBERS = [member.rsplit(":", 1) for member in os.environ["MEMBERS"].split()]


def soon(what, condition):
    """Waits, at most ten seconds, for a condition."""
    bound = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < bound, f"waited in vain: {what}"
        time.sleep(0.05)


def step(text):
    print(f"ok {text}", flush=True)


def connect():
    cloud = openstack.connect(auth_type="none", endpoint=os.environ["OS_ENDPOINT"])
    api = cloud.load_balancer
    assert "amphora" in [provider.name for provider in api.providers()]
    step("providers")
    return cloud, api


def whole_tree(cloud, api):
    subnet = next(iter(cloud.network.subnets(name="local-v4")))
    tree = {
        "name": "tree", "vip_subnet_id": subnet.id, "tags": ["sdk"],
        "listeners": [{
            "name": "front", "protocol": "HTTP", "protocol_port": 8081,
            "default_pool": {
                "name": "backends", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
                "members": [{"name": f"m{n}", "address": a, "protocol_port": int(p)} for n, (a, p) in enumerate(MEMBERS)],
                "healthmonitor": {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, "url_path": "/healthz"},
            },
        }],
    }
    started = time.monotonic()
    created = api.create_load_balancer(**tree)
    first = api.get_load_balancer(created.id)
    # On a machine with other things to do it may take longer than the first GET waits.
    assert first.provisioning_status in ("ACTIVE", "PENDING_CREATE"), first.provisioning_status
    step(f"a tree in one call, {first.provisioning_status} at the first GET ({(time.monotonic() - started) * 1000:.0f} ms)")
    assert api.wait_for_load_balancer(created.id, status="ACTIVE", interval=0.1, wait=10).id == created.id
    answers = collections.Counter()
    for _ in range(10):
        with urllib.request.urlopen(f"http://{created.vip_address}:8081/", timeout=10) as answer:
            answers[json.load(answer)["member"]] += 1
    assert sorted(answers.values()) == [5, 5], answers
    step("traffic")
    return api.get_load_balancer(created.id)


def load_balancers(api, tree):
    assert api.find_load_balancer("tree").id == tree.id
    assert [lb.id for lb in api.load_balancers(name="tree")] == [tree.id]
    assert [lb.id for lb in api.load_balancers(tags=["sdk"])] == [tree.id]
    assert list(api.load_balancers(name="nobody")) == []
    changed = api.update_load_balancer(tree.id, description="changed", tags=["sdk", "more"])
    assert changed.description == "changed" and sorted(changed.tags) == ["more", "sdk"], changed
    soon("statistics", lambda: api.get_load_balancer_statistics(tree.id).total_connections >= 10)
    step("load balancers")


def listeners(api, tree):
    front = api.find_listener("front")
    assert front.load_balancers[0]["id"] == tree.id and front.protocol_port == 8081, front
    second = api.create_listener(name="second", protocol="TCP", protocol_port=8082, load_balancer_id=tree.id, allowed_cidrs=["127.0.0.0/8"])
    assert second.connection_limit == -1 and second.allowed_cidrs == ["127.0.0.0/8"], second
    second = api.update_listener(second.id, connection_limit=10, timeout_client_data=1000)
    assert second.connection_limit == 10 and second.timeout_client_data == 1000, second
    assert sorted(one.name for one in api.listeners(load_balancer_id=tree.id)) == ["front", "second"]
    assert api.get_listener_statistics(second.id).total_connections == 0
    api.delete_listener(second.id)
    soon("the listener is gone", lambda: api.find_listener("second") is None)
    step("listeners")


def pools(api, tree):
    pool = api.create_pool(name="extra", protocol="TCP", lb_algorithm="SOURCE_IP_PORT", loadbalancer_id=tree.id)
    assert pool.lb_algorithm == "SOURCE_IP_PORT" and pool.is_admin_state_up, pool
    pool = api.update_pool(pool.id, lb_algorithm="LEAST_CONNECTIONS", name="extra-2")
    assert api.get_pool(pool.id).name == "extra-2"
    assert sorted(one.name for one in api.pools(loadbalancer_id=tree.id)) == ["backends", "extra-2"]
    step("pools")
    return pool


def members(api, pool):
    address, port = MEMBERS[0]
    member = api.create_member(pool.id, name="m", address=address, protocol_port=int(port), weight=5, backup=True)
    assert member.weight == 5 and member.backup, member
    member = api.update_member(member.id, pool.id, weight=0, backup=False)
    assert member.weight == 0 and not member.backup, member
    assert [one.name for one in api.members(pool.id)] == ["m"]
    assert api.find_member("m", pool.id).id == member.id
    step("members")
    return member


def health_monitors(api, pool):
    monitor = api.create_health_monitor(name="ping", type="PING", delay=5, timeout=2, max_retries=3, pool_id=pool.id)
    assert monitor.max_retries_down == 3, monitor
    monitor = api.update_health_monitor(monitor.id, delay=6, max_retries_down=2)
    assert (monitor.delay, monitor.max_retries_down) == (6, 2), monitor
    assert api.find_health_monitor("ping").id == monitor.id
    assert "ping" in [one.name for one in api.health_monitors()]
    api.delete_health_monitor(monitor.id)
    soon("the monitor is gone", lambda: api.find_health_monitor("ping") is None)
    step("health monitors")


def refusals(api, tree):
    for wrong, error in [
        (lambda: api.create_listener(protocol="HTTP", protocol_port=8081, load_balancer_id=tree.id), exceptions.ConflictException),
        (lambda: api.create_listener(protocol="HTTP", protocol_port=0, load_balancer_id=tree.id), exceptions.BadRequestException),
        (lambda: api.get_pool("00000000-0000-4000-8000-000000000000"), exceptions.NotFoundException),
    ]:
        try:
            wrong()
        except error as refusal:
            assert str(refusal), refusal
        else:
            raise AssertionError(f"{error} was expected")
    step("refusals")


def deletions(api, tree, pool, member):
    api.delete_member(member.id, pool.id)
    soon("the member is gone", lambda: not list(api.members(pool.id)))
    api.delete_pool(pool.id)
    soon("the pool is gone", lambda: api.find_pool("extra-2") is None)
    api.delete_load_balancer(tree.id, cascade=True)
    api.wait_for_delete(tree, interval=0.1, wait=10)
    for remaining in (api.load_balancers(), api.listeners(), api.pools(), api.health_monitors()):
        assert list(remaining) == []
    step("cascade delete")


def main():
    cloud, api = connect()
    tree = whole_tree(cloud, api)
    load_balancers(api, tree)
    listeners(api, tree)
    pool = pools(api, tree)
    member = members(api, pool)
    health_monitors(api, pool)
    refusals(api, tree)
    deletions(api, tree, pool, member)
    print("the SDK did what it should")


main()
