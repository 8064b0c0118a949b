"""A UDP listener with pool, members and UDP-CONNECT monitor, by the unmodified `openstack` command."""

import socket
import threading
import time

from shell import openstack, refused


def serve(name):
    """A member that answers each datagram with its name; gives its port."""
    member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    member.bind(("127.0.0.1", 0))

    def answer():
        while True:
            _, sender = member.recvfrom(2048)
            member.sendto(name.encode(), sender)

    threading.Thread(target=answer, daemon=True).start()
    return member.getsockname()[1]


def ask(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"who are you?", (address, port))
        answer, sender = client.recvfrom(2048)
        assert sender == (address, port), sender
        return answer.decode()


def soon(what, condition):
    bound = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < bound, f"waited in vain: {what}"
        time.sleep(0.1)


def statuses():
    return {row["name"]: row["operating_status"] for row in openstack("loadbalancer", "member", "list", "names")}


def udp(vip):
    openstack("loadbalancer", "pool", "create", "--name", "names", "--loadbalancer", "web", "--protocol", "UDP", "--lb-algorithm", "ROUND_ROBIN", "--wait")
    for name in ["m0", "m1"]:
        openstack("loadbalancer", "member", "create", "--name", name, "--address", "127.0.0.1", "--protocol-port", serve(name), "--wait", "names")
    listener = openstack(
        "loadbalancer", "listener", "create", "--name", "dns", "--protocol", "UDP", "--protocol-port", 8080,
        "--default-pool", "names", "--allowed-cidr", "127.0.0.0/8", "--wait", "web",
    )
    assert (listener["protocol"], listener["protocol_port"]) == ("UDP", 8080), listener
    monitor = openstack(
        "loadbalancer", "healthmonitor", "create", "--name", "there", "--type", "UDP-CONNECT", "--delay", 3, "--timeout", 1,
        "--max-retries", 1, "--max-retries-down", 1, "--wait", "names",
    )
    assert monitor["type"] == "UDP-CONNECT", monitor
    assert {ask(vip, 8080) for _ in range(6)} == {"m0", "m1"}
    soon("both members are ONLINE", lambda: set(statuses().values()) == {"ONLINE"})

    openstack("loadbalancer", "member", "create", "--name", "dead", "--address", "127.0.0.1", "--protocol-port", 1, "--weight", 0, "--wait", "names")
    soon("the dead one is found", lambda: statuses()["dead"] == "ERROR")
    openstack("loadbalancer", "member", "set", "--weight", 0, "--wait", "names", "m0", output_json=False)
    assert {ask(vip, 8080) for _ in range(6)} == {"m1"}
    soon("one drains", lambda: statuses()["m0"] == "DRAINING")
    soon("statistics arrive", lambda: openstack("loadbalancer", "listener", "stats", "show", "dns")["total_connections"] >= 12)
    said = refused("loadbalancer", "healthmonitor", "create", "--type", "PING", "--delay", 3, "--timeout", 1, "--max-retries", 1, "names")
    assert "UDP-CONNECT" in said or "already" in said, said

    openstack("loadbalancer", "healthmonitor", "delete", "--wait", "there", output_json=False)
    openstack("loadbalancer", "listener", "delete", "--wait", "dns", output_json=False)
    openstack("loadbalancer", "pool", "delete", "--wait", "names", output_json=False)
