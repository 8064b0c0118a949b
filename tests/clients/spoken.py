"""Chooses what is spoken to members, and how clients are kept with them, with python-octaviaclient.

Environment: OS_AUTH_TYPE and OS_ENDPOINT as for any user; MEMBERS holds `address:port` of two HTTP members that answer
`{"member": NAME}`, separated by a space; PROXIED_MEMBER that of one that answers with what its PROXY header said;
TLS_MEMBER that of one that answers inside TLS. Exits with 0 when everything is as it should be.
"""

import contextlib
import json
import os
import socket
import ssl
import time

from shell import openstack, refused

MEMBERS = [member.rsplit(":", 1) for member in os.environ["MEMBERS"].split()]
PROXIED = os.environ["PROXIED_MEMBER"].rsplit(":", 1)
TLS = os.environ["TLS_MEMBER"].rsplit(":", 1)
REQUEST = b"GET / HTTP/1.0\r\nHost: krater.test\r\n\r\n"


def soon(what, condition):
    """Waits, at most fifteen seconds, for a condition."""
    bound = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < bound, f"waited in vain: {what}"
        time.sleep(0.1)


def ask(stream):
    """The body of the answer to one request."""
    stream.sendall(REQUEST)
    answer = b""
    while piece := stream.recv(4096):
        answer += piece
    return answer.partition(b"\r\n\r\n")[2].decode()


def served(name, protocol, pool_protocol, port, members, *more):
    """A pool behind a listener of its own."""
    openstack(
        "loadbalancer", "pool", "create", "--name", name, "--loadbalancer", "web", "--protocol", pool_protocol,
        "--lb-algorithm", "ROUND_ROBIN", "--wait", *more,
    )
    for address, member_port in members:
        openstack("loadbalancer", "member", "create", "--address", address, "--protocol-port", member_port, "--wait", name)
    openstack(
        "loadbalancer", "listener", "create", "--name", f"on-{name}", "--protocol", protocol, "--protocol-port", port,
        "--default-pool", name, "--wait", "web",
    )


def monitored(name, kind, *more):
    """A monitor that finds the members of a pool well."""
    openstack(
        "loadbalancer", "healthmonitor", "create", "--name", f"of-{name}", "--type", kind, "--delay", 1, "--timeout", 1,
        "--max-retries", 1, "--wait", *more, name,
    )
    rows = lambda: openstack("loadbalancer", "member", "list", name)
    soon(f"the members of {name} are ONLINE", lambda: {row["operating_status"] for row in rows()} == {"ONLINE"})


def persistence(vip):
    served("kept", "HTTP", "HTTP", 8080, MEMBERS, "--session-persistence", "type=SOURCE_IP")
    shown = openstack("loadbalancer", "pool", "show", "kept")
    assert shown["session_persistence"]["type"] == "SOURCE_IP", shown

    def members(count):
        found = set()
        for _ in range(count):
            with contextlib.closing(socket.create_connection((vip, 8080), 10)) as stream:
                found.add(json.loads(ask(stream))["member"])
        return found

    assert len(members(8)) == 1
    openstack("loadbalancer", "pool", "unset", "kept", "--session-persistence", "--wait", output_json=False)
    assert len(members(8)) == 2
    openstack("loadbalancer", "pool", "set", "kept", "--session-persistence", "type=SOURCE_IP", "--wait", output_json=False)
    assert len(members(8)) == 1
    openstack(
        "loadbalancer", "pool", "set", "kept", "--session-persistence", "type=HTTP_COOKIE", "--wait", output_json=False,
    )
    assert len(members(8)) == 2, "none of these shows its cookie"
    openstack(
        "loadbalancer", "pool", "set", "kept", "--session-persistence", "type=APP_COOKIE,cookie_name=sid", "--wait",
        output_json=False,
    )
    shown = openstack("loadbalancer", "pool", "show", "kept")
    assert shown["session_persistence"]["cookie_name"] == "sid", shown


def proxy_headers(vip):
    for port, listener, protocol, form in [
        (8081, "TCP", "PROXY", "v1"), (8082, "TCP", "PROXYV2", "v2"), (8083, "HTTP", "PROXYV2", "v2"),
    ]:
        name = f"proxied-{port}"
        served(name, listener, protocol, port, [PROXIED])
        monitored(name, "TCP")
        with contextlib.closing(socket.create_connection((vip, port), 10)) as stream:
            own = stream.getsockname()
            if listener == "TCP":
                stream.sendall(REQUEST)
                stream.shutdown(socket.SHUT_WR)
                told = stream.makefile().read().rpartition("\n")[2]
            else:
                told = ask(stream)
        assert told == f"{form} {own[0]}:{own[1]} {vip}:{port}", told


def tls(vip):
    served("secure", "HTTPS", "HTTPS", 8443, [TLS])
    for kind, more in [("TLS-HELLO", []), ("HTTPS", ["--url-path", "/", "--expected-codes", "200"])]:
        monitored("secure", kind, *more)
        openstack("loadbalancer", "healthmonitor", "delete", "--wait", "of-secure", output_json=False)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.closing(socket.create_connection((vip, 8443), 10)) as stream:
        inside = context.wrap_socket(stream, server_hostname="member.example")
        assert json.loads(ask(inside)) == {"member": "s0"}


def main():
    created = openstack("loadbalancer", "create", "--name", "web", "--vip-subnet-id", "local-v4", "--wait")
    vip = created["vip_address"]
    persistence(vip)
    proxy_headers(vip)
    tls(vip)
    openstack("loadbalancer", "delete", "--cascade", "--wait", "web", output_json=False)
    print("all commands did what they should")


main()
