"""Calls every method of openstacksdk's load-balancer proxy, as an administrator who logged in to a real Keystone.

What the methods are is read from the SDK itself: one that a later release adds fails this test until it is called.
Environment: all that a login needs. Exits with 0 when everything is as it should be.
"""

import functools
import inspect
import json

import openstack
from openstack import exceptions
from openstack.load_balancer.v2 import _proxy

CALLED = set()
METHODS = {
    name for name, method in inspect.getmembers(_proxy.Proxy, inspect.isfunction)
    if method.__module__ == _proxy.__name__ and not name.startswith("_")
}


class Recorded:
    """The proxy, with a note of each method that was called."""

    def __init__(self, proxy):
        self.proxy = proxy

    def __getattr__(self, name):
        method = getattr(self.proxy, name)

        @functools.wraps(method)
        def call(*arguments, **named):
            CALLED.add(name)
            answer = method(*arguments, **named)
            return list(answer) if inspect.isgenerator(answer) else answer

        return call


def one(objects):
    """The only one of a listing."""
    only, = objects
    return only


def catalogue(api):
    assert "amphora" in [provider.name for provider in api.providers()]
    keys = [key.name for key in api.provider_flavor_capabilities("amphora")]
    assert "loadbalancer_topology" in keys, keys

    data = json.dumps({"loadbalancer_topology": "SINGLE"})
    profile = api.create_flavor_profile(name="single", provider_name="amphora", flavor_data=data)
    api.update_flavor_profile(profile, name="one")
    assert api.find_flavor_profile("one").id == api.get_flavor_profile(profile.id).id == one(api.flavor_profiles()).id
    flavor = api.create_flavor(name="small", flavor_profile_id=profile.id)
    api.update_flavor(flavor, description="changed")
    assert api.find_flavor("small").id == api.get_flavor(flavor.id).id == one(api.flavors()).id

    data = json.dumps({"compute_zone": "local"})
    zones = api.create_availability_zone_profile(name="here", provider_name="amphora", availability_zone_data=data)
    api.update_availability_zone_profile(zones, name="near")
    assert api.find_availability_zone_profile("near").id == api.get_availability_zone_profile(zones.id).id
    assert one(api.availability_zone_profiles()).name == "near"
    api.create_availability_zone(name="rack", availability_zone_profile_id=zones.id)
    api.update_availability_zone("rack", description="changed")
    assert api.find_availability_zone("rack").description == api.get_availability_zone("rack").description == "changed"
    assert one(api.availability_zones()).name == "rack"
    return profile, flavor, zones


def quotas(api, project):
    assert api.get_quota_default().pools == -1
    api.update_quota(project, pools=7)
    assert api.get_quota(project).pools == 7
    assert one(api.quotas()).pools == 7
    api.delete_quota(project)
    assert api.get_quota(project).pools == -1


def tree(cloud, api, flavor):
    subnet = one(cloud.network.subnets(name="local-v4"))
    balancer = api.create_load_balancer(name="web", vip_subnet_id=subnet.id, flavor_id=flavor.id, availability_zone="rack")
    api.wait_for_load_balancer(balancer.id, status="ACTIVE", interval=0.1, wait=10)
    api.update_load_balancer(balancer.id, description="changed")
    assert api.find_load_balancer("web").description == api.get_load_balancer(balancer.id).description == "changed"
    assert one(api.load_balancers()).id == balancer.id
    assert api.get_load_balancer_statistics(balancer.id).total_connections == 0

    pool = api.create_pool(name="app", loadbalancer_id=balancer.id, protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    api.update_pool(pool, lb_algorithm="LEAST_CONNECTIONS")
    assert api.find_pool("app").id == api.get_pool(pool.id).id == one(api.pools()).id
    listener = api.create_listener(name="front", load_balancer_id=balancer.id, protocol="HTTP", protocol_port=80, default_pool_id=pool.id)
    api.update_listener(listener, connection_limit=100)
    assert api.find_listener("front").id == api.get_listener(listener.id).id == one(api.listeners()).id
    assert api.get_listener_statistics(listener.id).bytes_in == 0
    member = api.create_member(pool, name="m1", address="127.0.0.1", protocol_port=8000)
    api.update_member(member, pool, weight=5)
    assert api.find_member("m1", pool).id == api.get_member(member.id, pool).id == one(api.members(pool)).id
    monitor = api.create_health_monitor(name="probe", pool_id=pool.id, type="HTTP", delay=5, timeout=3, max_retries=2)
    api.update_health_monitor(monitor, delay=7)
    assert api.find_health_monitor("probe").id == api.get_health_monitor(monitor.id).id == one(api.health_monitors()).id

    policy = api.create_l7_policy(name="out", listener_id=listener.id, action="REDIRECT_TO_URL", redirect_url="http://example.test/")
    api.update_l7_policy(policy, action="REDIRECT_TO_URL", redirect_url="http://other.example.test/")
    assert api.find_l7_policy("out").id == api.get_l7_policy(policy.id).id == one(api.l7_policies()).id
    rule = api.create_l7_rule(policy, type="PATH", compare_type="STARTS_WITH", value="/old")
    api.update_l7_rule(rule, policy, rule_value="/older")
    assert api.find_l7_rule(rule.id, policy).id == api.get_l7_rule(rule.id, policy).id == one(api.l7_rules(policy)).id

    api.delete_l7_rule(rule, policy)
    api.delete_l7_policy(policy)
    api.delete_health_monitor(monitor)
    api.delete_member(member, pool)
    api.delete_listener(listener)
    api.delete_pool(pool)
    return balancer


def fleet(api, balancer):
    api.failover_load_balancer(balancer.id)
    api.wait_for_load_balancer(balancer.id, status="ACTIVE", interval=0.1, wait=10)
    carrier = one(api.amphorae(loadbalancer_id=balancer.id))
    assert api.find_amphora(carrier.id).id == api.get_amphora(carrier.id).id
    api.configure_amphora(carrier.id)
    api.failover_amphora(carrier.id)
    api.wait_for_status(api.get_load_balancer(balancer.id), status="ACTIVE", attribute="provisioning_status", interval=0.1, wait=10)


def main():
    cloud = openstack.connect()
    api = Recorded(cloud.load_balancer)
    profile, flavor, zones = catalogue(api)
    balancer = tree(cloud, api, flavor)
    quotas(api, balancer.project_id)
    fleet(api, balancer)
    try:
        api.delete_flavor(flavor)
        raise AssertionError("a flavor in use was deleted")
    except exceptions.ConflictException:
        pass
    api.delete_load_balancer(balancer.id, cascade=True)
    api.wait_for_delete(balancer, interval=0.1, wait=10)
    api.delete_flavor(flavor)
    api.delete_flavor_profile(profile)
    api.delete_availability_zone("rack")
    api.delete_availability_zone_profile(zones)
    assert METHODS <= CALLED, f"never called: {sorted(METHODS - CALLED)}"
    print(f"all {len(METHODS)} methods")


main()
