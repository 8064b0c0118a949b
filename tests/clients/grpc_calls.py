"""gRPC through a load balancer: a server and a client of the implementation that others use, calls of every kind.

  grpc_calls.py serve PORT CERTIFICATE KEY      speaks HTTP/2 inside TLS
  grpc_calls.py drive ADDRESS [AUTHORITY]       in the clear, or inside TLS for a.example
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "krater.Test"
PATIENCE = 20


class Service:
    """What the server does, by method."""

    def __init__(self):
        self.cancelled = 0
        self.lock = threading.Lock()

    def reverse(self, request, context):
        context.send_initial_metadata((("x-initial", "1"),))
        told = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-sum", str(len(request))), ("x-told", told.get("x-own", "")), ("x-raw-bin", b"\x00\xff")))
        return request[::-1]

    def count(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()

    def gather(self, requests, context):
        return b",".join(requests)

    def echo(self, requests, context):
        yield from requests

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: caf\u00e9 %")

    def fail_late(self, request, context):
        yield b"first"
        context.abort(grpc.StatusCode.DATA_LOSS, "the rest is lost")

    def wait(self, request, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        if ended.wait(PATIENCE):
            with self.lock:
                self.cancelled += 1
        return b"late"

    def cancellations(self, request, context):
        with self.lock:
            return str(self.cancelled).encode()


def serve(port, certificate, key):
    service = Service()
    handlers = {
        "Reverse": grpc.unary_unary_rpc_method_handler(service.reverse),
        "Count": grpc.unary_stream_rpc_method_handler(service.count),
        "Gather": grpc.stream_unary_rpc_method_handler(service.gather),
        "Echo": grpc.stream_stream_rpc_method_handler(service.echo),
        "Fail": grpc.unary_unary_rpc_method_handler(service.fail),
        "FailLate": grpc.unary_stream_rpc_method_handler(service.fail_late),
        "Wait": grpc.unary_unary_rpc_method_handler(service.wait),
        "Cancellations": grpc.unary_unary_rpc_method_handler(service.cancellations),
    }
    server = grpc.server(ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    with open(key, "rb") as key, open(certificate, "rb") as certificate:
        credentials = grpc.ssl_server_credentials(((key.read(), certificate.read()),))
    assert server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    server.wait_for_termination()


def code(call):
    try:
        result = call()
        if hasattr(result, "__next__"):
            for _ in result:
                pass
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def until(what, condition):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < PATIENCE, f"waited in vain: {what}"
        time.sleep(0.01)


def drive(address, authority):
    if authority:
        with open(authority, "rb") as authority:
            credentials = grpc.ssl_channel_credentials(authority.read())
        channel = grpc.secure_channel(address, credentials, (("grpc.ssl_target_name_override", "a.example"),))
    else:
        channel = grpc.insecure_channel(address)
    path = f"/{SERVICE}/"
    reverse, fail = channel.unary_unary(path + "Reverse"), channel.unary_unary(path + "Fail")
    count, fail_late = channel.unary_stream(path + "Count"), channel.unary_stream(path + "FailLate")
    gather, echo = channel.stream_unary(path + "Gather"), channel.stream_stream(path + "Echo")
    wait, cancellations = channel.unary_unary(path + "Wait"), channel.unary_unary(path + "Cancellations")

    answer, call = reverse.with_call(b"abc", metadata=(("x-own", "kept"),), timeout=PATIENCE)
    assert answer == b"cba", answer
    assert dict(call.initial_metadata())["x-initial"] == "1"
    trailing = dict(call.trailing_metadata())
    assert (trailing["x-sum"], trailing["x-told"], trailing["x-raw-bin"]) == ("3", "kept", b"\x00\xff"), trailing
    large = bytes(range(256)) * 12_000
    assert reverse(large, timeout=PATIENCE) == large[::-1]
    assert reverse(b"", timeout=PATIENCE) == b""

    assert [int(number) for number in count(b"1000", timeout=PATIENCE)] == list(range(1000))
    assert list(count(b"0", timeout=PATIENCE)) == []
    assert gather((str(number).encode() for number in range(500)), timeout=PATIENCE).count(b",") == 499
    # Each message is answered before the next is sent: nothing is held back on the way.
    answered = threading.Semaphore(1)

    def one_by_one():
        for number in range(100):
            assert answered.acquire(timeout=PATIENCE)
            yield str(number).encode()

    for number, answer in enumerate(echo(one_by_one(), timeout=PATIENCE)):
        assert answer == str(number).encode()
        answered.release()

    assert code(lambda: fail(b"", timeout=PATIENCE)) == (grpc.StatusCode.FAILED_PRECONDITION, "not now: caf\u00e9 %")
    assert code(lambda: fail_late(b"", timeout=PATIENCE)) == (grpc.StatusCode.DATA_LOSS, "the rest is lost")
    unknown = channel.unary_unary(path + "Unknown")
    assert code(lambda: unknown(b"", timeout=PATIENCE))[0] == grpc.StatusCode.UNIMPLEMENTED

    # A deadline that passes, and a call that is taken back, end at the server too.
    before = int(cancellations(b"", timeout=PATIENCE))
    assert code(lambda: wait(b"", timeout=0.5))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    until("the server hears of the deadline", lambda: int(cancellations(b"", timeout=PATIENCE)) == before + 1)
    waiting = wait.future(b"", timeout=PATIENCE)
    time.sleep(0.2)
    waiting.cancel()
    assert waiting.cancelled()
    until("the server hears of the end", lambda: int(cancellations(b"", timeout=PATIENCE)) <= before + 2)

    # Many at once over one connection.
    futures = [reverse.future(str(number).encode() * 100, timeout=PATIENCE) for number in range(200)]
    assert all(future.result() == (str(number).encode() * 100)[::-1] for number, future in enumerate(futures))
    channel.close()
    print("all as it should be")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        drive(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
