"""gRPC by the `grpcio` package: an origin, and a client that makes a call of each kind.

    grpc_peer.py origin                     an origin in clear at a free port, which it prints
    grpc_peer.py client HOST:PORT [CA]      calls; over TLS where an authority is given

Messages are bytes as they are: no schema is needed to see whether they come across.
"""

import sys
from concurrent import futures

import grpc

SERVICE = "tidegate.Test"
LARGE = bytes(range(256)) * 8_000


def origin():
    def unary(request, context):
        context.set_trailing_metadata((("x-trailer", "one"), ("x-raw-bin", b"\0\xff")))
        context.send_initial_metadata((("x-header", dict(context.invocation_metadata()).get("x-asked", "")),))
        return b"unary " + request

    def failing(request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: ü")

    def down(request, context):
        for number in range(int(request)):
            yield b"piece %d" % number

    def up(requests, context):
        return b"%d" % sum(len(request) for request in requests)

    def both(requests, context):
        # Each answer before the next question is read.
        for request in requests:
            yield b"echo " + request

    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Failing": grpc.unary_unary_rpc_method_handler(failing),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def client(target, ca):
    options = [("grpc.ssl_target_name_override", "first.test"), ("grpc.default_authority", "first.test")]
    if ca:
        with open(ca, "rb") as file:
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(file.read()), options)
    else:
        channel = grpc.insecure_channel(target, options[1:])
    call = lambda kind, name: getattr(channel, kind)(f"/{SERVICE}/{name}")
    with channel:
        answer, done = call("unary_unary", "Unary").with_call(b"hello", timeout=60, metadata=(("x-asked", "yes"),))
        assert answer == b"unary hello", answer
        assert dict(done.initial_metadata())["x-header"] == "yes", done.initial_metadata()
        trailers = dict(done.trailing_metadata())
        assert (trailers["x-trailer"], trailers["x-raw-bin"]) == ("one", b"\0\xff"), trailers
        assert call("unary_unary", "Unary")(LARGE, timeout=60) == b"unary " + LARGE
        try:
            call("unary_unary", "Failing")(b"", timeout=60)
            raise AssertionError("a failing call did not fail")
        except grpc.RpcError as error:
            assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "as asked: ü"), error
        pieces = list(call("unary_stream", "Down")(b"100", timeout=60))
        assert pieces == [b"piece %d" % number for number in range(100)], pieces
        assert call("stream_unary", "Up")(iter([LARGE] * 3), timeout=60) == b"%d" % (3 * len(LARGE))
        # A conversation: the next question depends on the answer.
        heard = []

        def questions():
            for number in range(10):
                while len(heard) < number:
                    pass
                yield b"%d" % number

        for reply in call("stream_stream", "Both")(questions(), timeout=60):
            heard.append(reply)
        assert heard == [b"echo %d" % number for number in range(10)], heard
        many = [call("unary_unary", "Unary").future(b"%d" % number, timeout=60) for number in range(200)]
        assert [one.result() for one in many] == [b"unary %d" % number for number in range(200)]
    print("all calls answered")


if sys.argv[1] == "origin":
    origin()
else:
    client(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
