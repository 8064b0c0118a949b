"""Asks for TLS with python-openstackclient: listeners that end it, and members that are spoken to by it.

Environment: OS_AUTH_TYPE and OS_ENDPOINT as for any user; TLS_MEMBER is the `address:port` of a member that says how it
was spoken to, SECRETS the folder of secrets. Exits with 0 when everything is as it should be.
"""

import os
import subprocess

from shell import becomes, openstack, refused

MEMBER = os.environ["TLS_MEMBER"].rsplit(":", 1)
SECRETS = os.environ["SECRETS"]


def expect(found, wanted):
    """Holds `found` to the fields of `wanted`."""
    for field, value in wanted.items():
        assert found[field] == value, f"{field}: {found[field]!r} instead of {value!r} in {found}"


def words(text):
    """What the command shows of a list, one to a line."""
    return text if isinstance(text, list) else str(text).split("\n")


def curl(address, name, person=None, *more):
    """What a client gets that asks for `name`, with head, or why not."""
    command = [
        "curl", "--silent", "--show-error", "--include", "--max-time", "20", "--cacert", f"{SECRETS}/web-ca.pem",
        "--resolve", f"{name}:443:{address}", *more,
    ]
    if person:
        command += ["--cert", f"{SECRETS}/{person}.pem"]
    ended = subprocess.run([*command, f"https://{name}/"], capture_output=True, text=True, timeout=30)
    return ended.stdout + ended.stderr


def sealed_pool():
    created = openstack(
        "loadbalancer", "pool", "create", "--name", "sealed", "--loadbalancer", "web", "--protocol", "HTTP",
        "--lb-algorithm", "ROUND_ROBIN", "--enable-tls", "--ca-tls-container-ref", "web-ca",
        "--tls-container-ref", "own", "--tls-version", "TLSv1.3", "--alpn-protocol", "h2", "--wait",
    )
    expect(created, {"tls_enabled": True, "ca_tls_container_ref": "web-ca", "tls_container_ref": "own", "crl_container_ref": None})
    assert words(created["tls_versions"]) == ["TLSv1.3"], created
    assert words(created["alpn_protocols"]) == ["h2"], created
    address, port = MEMBER
    openstack("loadbalancer", "member", "create", "--address", address, "--protocol-port", port, "--wait", "sealed")
    said = refused("loadbalancer", "pool", "create", "--loadbalancer", "web", "--protocol", "TCP", "--lb-algorithm", "ROUND_ROBIN", "--enable-tls")
    assert "tls_enabled on TCP" in said, said
    said = refused("loadbalancer", "pool", "set", "sealed", "--ca-tls-container-ref", "lost")
    assert "lost" in said, said


def sealed_listener():
    created = openstack(
        "loadbalancer", "listener", "create", "--name", "https", "--protocol", "TERMINATED_HTTPS", "--protocol-port", 443,
        "--default-pool", "sealed", "--default-tls-container-ref", "first", "--sni-container-refs", "second",
        "--client-authentication", "MANDATORY", "--client-ca-tls-container-ref", "clients-ca",
        "--client-crl-container-ref", "clients-crl", "--hsts-max-age", 600, "--hsts-include-subdomains", "--wait", "web",
    )
    expect(created, {
        "protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "first", "client_authentication": "MANDATORY",
        "client_ca_tls_container_ref": "clients-ca", "client_crl_container_ref": "clients-crl",
        "hsts_max_age": 600, "hsts_include_subdomains": True, "hsts_preload": False,
    })
    assert words(created["sni_container_refs"]) == ["second"], created


def traffic(address):
    for name in ["a.example", "b.example"]:
        said = curl(address, name, "person")
        assert f"HTTP/2.0 TLSv1.3 TLS_AES_128_GCM_SHA256 name=[{name}] client=[CN=krater]" in said, said
        assert "strict-transport-security: max-age=600; includeSubDomains" in said.replace("\r", ""), said
    for person in [None, "robber"]:
        said = curl(address, "a.example", person)
        assert "HTTP/" not in said, said


def changes(address):
    # What belongs to TLS is set and unset by the same command.
    openstack(
        "loadbalancer", "listener", "set", "https", "--client-authentication", "NONE", "--hsts-max-age", 60,
        "--hsts-preload", "--tls-version", "TLSv1.2", "--wait", output_json=False,
    )
    said = becomes("max-age=60; includeSubDomains; preload", lambda: curl(address, "a.example"))
    assert "HTTP/2.0 TLSv1.3" in said, said
    assert "HTTP/" not in curl(address, "a.example", None, "--tlsv1.3")
    openstack("loadbalancer", "listener", "unset", "https", "--hsts-max-age", "--wait", output_json=False)
    expect(openstack("loadbalancer", "listener", "show", "https"), {"hsts_max_age": None})
    becomes("HTTP/2", lambda: curl(address, "a.example"))
    assert "strict-transport-security" not in curl(address, "a.example")
    openstack("loadbalancer", "pool", "unset", "sealed", "--tls-container-ref", "--wait", output_json=False)
    expect(openstack("loadbalancer", "pool", "show", "sealed"), {"tls_container_ref": None})
    becomes("No required SSL certificate was sent", lambda: curl(address, "a.example"))
    openstack("loadbalancer", "pool", "set", "sealed", "--tls-container-ref", "own", "--alpn-protocol", "http/1.1", "--wait", output_json=False)
    becomes("HTTP/1.1 TLSv1.3", lambda: curl(address, "a.example"))
    openstack("loadbalancer", "pool", "set", "sealed", "--disable-tls", "--wait", output_json=False)
    becomes("The plain HTTP request was sent to HTTPS port", lambda: curl(address, "a.example"))


def main():
    web = openstack("loadbalancer", "create", "--name", "web", "--vip-subnet-id", "local-v4", "--wait")
    sealed_pool()
    sealed_listener()
    traffic(web["vip_address"])
    changes(web["vip_address"])
    print("all commands did what they should")


main()
