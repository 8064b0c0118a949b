"""Keeps certificates in a real Barbican with openstacksdk, and has listeners use them.

Environment: OS_AUTH_URL and the rest that a login needs; MEMBER is the `address:port` of a member, PEMS a folder with
`ca.crt` and the certificates and keys of a.example, b.example and c.example. Exits with 0 when everything is as it
should be.
"""

import base64
import os
import subprocess

import openstack
from openstack import exceptions

from shell import as_user, becomes

PEMS = os.environ["PEMS"]
MEMBER = os.environ["MEMBER"].rsplit(":", 1)


def step(text):
    print(f"ok {text}", flush=True)


def read(name):
    with open(f"{PEMS}/{name}") as file:
        return file.read()


def put_text(keys, kind, name):
    secret = keys.create_secret(name=name, secret_type=kind, payload=read(name), payload_content_type="text/plain")
    return secret.secret_ref


def put_container(keys, certificate, key):
    """As the documentation of Barbican has it: a secret for each part, and a container that names them."""
    parts = [
        {"name": "certificate", "secret_ref": put_text(keys, "certificate", certificate)},
        {"name": "private_key", "secret_ref": put_text(keys, "private", key)},
    ]
    return keys.create_container(name=certificate, type="certificate", secret_refs=parts).container_ref


def put_bundle(keys, name):
    """As the documentation of Octavia has it: one secret with a PKCS#12 bundle, in Base64."""
    made = subprocess.run(
        ["openssl", "pkcs12", "-export", "-in", f"{PEMS}/{name}.crt", "-inkey", f"{PEMS}/{name}.key", "-passout", "pass:"],
        capture_output=True, check=True, timeout=30,
    )
    secret = keys.create_secret(
        name=name, secret_type="opaque", payload=base64.b64encode(made.stdout).decode(),
        payload_content_type="application/octet-stream", payload_content_encoding="base64",
    )
    return secret.secret_ref


def curl(address, name, port=443):
    ended = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", f"{PEMS}/ca.crt",
         "--resolve", f"{name}:{port}:{address}", f"https://{name}:{port}/"],
        capture_output=True, text=True, timeout=30,
    )
    return ended.stdout + ended.stderr


def refusal(api, **listener):
    """Why a listener is refused."""
    try:
        made = api.create_listener(protocol="TERMINATED_HTTPS", protocol_port=8443, **listener)
    except exceptions.HttpException as error:
        assert error.status_code == 400, f"{error.status_code}: {error.details}"
        return error.details
    raise AssertionError(f"was not refused: {made}")


def of_another_tenant(reference):
    """What is in the project of somebody else cannot be had."""
    cloud = openstack.connect()
    api = cloud.load_balancer
    own = api.create_load_balancer(name="other", vip_subnet_id=next(iter(cloud.network.subnets(name="local-v4"))).id)
    api.wait_for_load_balancer(own.id, interval=0.1, wait=10)
    said = refusal(api, load_balancer_id=own.id, default_tls_container_ref=reference)
    assert reference in said, said
    # What is a tenant's own can.
    bundle = put_bundle(cloud.key_manager, "c.example")
    api.create_listener(
        load_balancer_id=own.id, name="c", protocol="TERMINATED_HTTPS", protocol_port=443, default_tls_container_ref=bundle,
    )
    api.wait_for_load_balancer(own.id, interval=0.1, wait=10)
    # Nobody is behind it: the answer is krater's own, and the handshake was with that certificate.
    becomes("No member", lambda: curl(own.vip_address, "c.example"))


def main():
    cloud = openstack.connect()
    api, keys = cloud.load_balancer, cloud.key_manager
    container, bundle = put_container(keys, "a.example.crt", "a.example.key"), put_bundle(keys, "b.example")
    step("kept in the key manager")
    web = api.create_load_balancer(name="web", vip_subnet_id=next(iter(cloud.network.subnets(name="local-v4"))).id)
    api.wait_for_load_balancer(web.id, interval=0.1, wait=10)
    pool = api.create_pool(name="p", loadbalancer_id=web.id, protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    api.create_member(pool, address=MEMBER[0], protocol_port=int(MEMBER[1]))
    listener = api.create_listener(
        name="https", load_balancer_id=web.id, protocol="TERMINATED_HTTPS", protocol_port=443, default_pool_id=pool.id,
        default_tls_container_ref=container, sni_container_refs=[bundle],
    )
    api.wait_for_load_balancer(web.id, interval=0.1, wait=10)
    assert listener.default_tls_container_ref == container, listener
    for name in ["a.example", "b.example"]:
        becomes("m0", lambda: curl(web.vip_address, name))
    assert "m0" not in curl(web.vip_address, "c.example")
    step("served to clients who believe it")

    mismatched = put_container(keys, "a.example.crt", "c.example.key")
    said = refusal(api, load_balancer_id=web.id, default_tls_container_ref=mismatched)
    assert mismatched in said and "key" in said, said
    said = refusal(api, load_balancer_id=web.id, default_tls_container_ref=f"{container[:-12]}000000000000")
    assert "000000000000" in said, said
    step("what is of no use is refused with the reason")
    as_user("bob", "beta", of_another_tenant, container)
    step("what belongs to others is refused")

    # A certificate that is renewed is another container: the old one may go once it is in use.
    renewed = put_container(keys, "c.example.crt", "c.example.key")
    api.update_listener(listener, default_tls_container_ref=renewed)
    becomes("m0", lambda: curl(web.vip_address, "c.example"))
    keys.delete_container(container.rsplit("/", 1)[1])
    api.update_listener(listener, default_tls_container_ref=put_container(keys, "a.example.crt", "a.example.key"))
    becomes("m0", lambda: curl(web.vip_address, "a.example"))
    step("replaced under traffic")


main()
