"""A gRPC echo without generated code: `serve` prints its port, `call ADDRESS` tries every kind of call."""

import sys
from concurrent import futures

import grpc

NAME = "echo.Echo"


def serve():
    def unary(request, context):
        if request == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: 100%")
        context.set_trailing_metadata((("x-end", "yes"),))
        return request

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(lambda request, _: (request for _ in range(100))),
        "Up": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests)),
        "Both": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination(120)


def call(address):
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        words = [b"a", b"bc", b"x" * 100_000]
        answer, told = channel.unary_unary(f"/{NAME}/Unary").with_call(b"hello", timeout=10)
        assert answer == b"hello" and ("x-end", "yes") in told.trailing_metadata()
        assert list(channel.unary_stream(f"/{NAME}/Down")(b"down", timeout=10)) == [b"down"] * 100
        assert channel.stream_unary(f"/{NAME}/Up")(iter(words), timeout=10) == b"".join(words)
        assert list(channel.stream_stream(f"/{NAME}/Both")(iter(words), timeout=10)) == words
        for method, message, code in [
            (f"/{NAME}/Unary", b"fail", grpc.StatusCode.FAILED_PRECONDITION),
            (f"/{NAME}/Nothing", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("/other.Service/Call", b"", grpc.StatusCode.UNIMPLEMENTED),
        ]:
            try:
                channel.unary_unary(method)(message, timeout=10)
                raise SystemExit(f"{method} should have failed")
            except grpc.RpcError as error:
                assert error.code() == code, (method, error)
                assert message != b"fail" or error.details() == "as asked: 100%"
    print("all calls passed")


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])
