"""WebSockets through a load balancer, with a server and a client that others use.

  websocket.py serve PORT
  websocket.py drive ADDRESS [AUTHORITY]     in the clear, or inside TLS for a.example
"""

import socket
import ssl
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve as listen


def answer(connection):
    try:
        for message in connection:
            if message == "bye":
                connection.close(4001, "as you wish")
                return
            if isinstance(message, str) and message.startswith("pieces "):
                connection.send(iter(message.removeprefix("pieces ")))
            else:
                connection.send(message)
    except ConnectionClosed:
        pass


def serve(port):
    with listen(answer, "127.0.0.1", int(port), max_size=None, subprotocols=["chat"]) as server:
        server.serve_forever()


def socket_to(host, port):
    return socket.create_connection((host, port), 20)


def drive(address, authority):
    host, port = address.rsplit(":", 1)
    more = {}
    scheme = "ws"
    if authority:
        context = ssl.create_default_context(cafile=authority)
        # What is offered beside HTTP/1.1 must not be taken.
        context.set_alpn_protocols(["http/1.1"])
        more = {"ssl": context, "server_hostname": "a.example"}
        scheme = "wss"
    for compression in (None, "deflate"):
        with connect(
            f"{scheme}://a.example:{port}/socket?x=y",
            sock=socket_to(host, int(port)),
            compression=compression,
            subprotocols=["chat"],
            max_size=None,
            open_timeout=20,
            **more,
        ) as chat:
            assert chat.subprotocol == "chat"
            for message in ("text", "caf\u00e9", "", b"", b"\x00\xff", "x" * 100_000, bytes(range(256)) * 8_000):
                chat.send(message)
                assert chat.recv(timeout=20) == message
            chat.send("pieces abcdef")
            assert chat.recv(timeout=20) == "abcdef"
            chat.send(["in ", "several ", "frames"])
            assert chat.recv(timeout=20) == "in several frames"
            assert chat.ping().wait(timeout=20)
            for number in range(200):
                chat.send(str(number))
            assert [chat.recv(timeout=20) for _ in range(200)] == [str(number) for number in range(200)]
            chat.send("bye")
            try:
                chat.recv(timeout=20)
                raise AssertionError("it goes on")
            except ConnectionClosed as closed:
                assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as you wish"), closed
    print("all as it should be")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        drive(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
