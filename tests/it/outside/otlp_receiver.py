"""A receiver of OTLP, over HTTP or gRPC: prints its port, then each span that it is sent as a line of JSON.

    otlp_receiver.py http|grpc [port] [refusals]

So many batches are refused first: as an overloaded receiver refuses them.
"""

import http.server
import json
import sys
import threading
import time
from concurrent import futures

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

kind = sys.argv[1]
port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
refusals = int(sys.argv[3]) if len(sys.argv) > 3 else 0
KINDS = {2: "SERVER", 3: "CLIENT"}


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def attributes(of):
    return {one.key: value(one.value) for one in of}


def tell(request, fields):
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                line = {
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "state": span.trace_state,
                    "kind": KINDS.get(span.kind, span.kind),
                    "name": span.name,
                    "sampled": span.flags & 1 == 1,
                    "remote": span.flags & 0x300 == 0x300,
                    "took": span.end_time_unix_nano - span.start_time_unix_nano,
                    "age": time.time_ns() - span.start_time_unix_nano,
                    "error": span.status.code == 2,
                    "attributes": attributes(span.attributes),
                    "resource": attributes(resource.resource.attributes),
                    "scope": scope.scope.name,
                    "fields": fields,
                }
                print(json.dumps(line), flush=True)


def serve_http():
    class Receiver(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            global refusals
            body = self.rfile.read(int(self.headers["content-length"]))
            fields = {name.lower(): said for name, said in self.headers.items()} | {"path": self.path}
            if refusals > 0:
                refusals -= 1
                self.send_response(503)
                self.send_header("Retry-After", "0")
                answer = b""
            else:
                tell(service.ExportTraceServiceRequest.FromString(body), fields)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                answer = service.ExportTraceServiceResponse().SerializeToString()
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_grpc():
    import grpc
    from google.protobuf import any_pb2, duration_pb2
    from google.rpc import code_pb2, error_details_pb2, status_pb2
    from grpc_status import rpc_status

    def export(request, context):
        global refusals
        if refusals > 0:
            refusals -= 1
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=1_000_000)))
            full = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="full", details=[detail])
            context.abort_with_status(rpc_status.to_status(full))
        fields = {one.key: one.value for one in context.invocation_metadata()}
        tell(request, fields)
        return service.ExportTraceServiceResponse()

    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=service.ExportTraceServiceRequest.FromString,
        response_serializer=service.ExportTraceServiceResponse.SerializeToString,
    )
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": method}),))
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    server.start()
    return server


held = serve_http() if kind == "http" else serve_grpc()
sys.stdin.read()
