"""Services that others wrote, by grpcio: health, reflection and google.longrunning.Operations. `serve` prints its port;
each line that it then reads says how a service is. `describe FILE` writes the descriptors of health and reflection,
`call ADDRESS` asks them by gRPC."""

import sys
import time
from concurrent import futures

import grpc
from google.longrunning import operations_pb2_grpc, operations_proto_pb2
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, empty_pb2, struct_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status


def packed(message):
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def nested(levels):
    inner = any_pb2.Any(type_url="a/google.protobuf.Any")
    for _ in range(levels - 1):
        inner = any_pb2.Any(type_url=inner.type_url, value=inner.SerializeToString())
    return inner


def fail(context, code, message, details=()):
    status = status_pb2.Status(code=code, message=message, details=[packed(detail) for detail in details])
    context.abort_with_status(rpc_status.to_status(status))


def code(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)


class Operations(operations_pb2_grpc.OperationsServicer):
    """An operation whose name says what becomes of it."""

    def GetOperation(self, request, context):
        word = request.name.split("/")
        if word[1] == "code" and word[2] != "0":
            context.abort(code(int(word[2])), f"as asked: {word[2]} \u7389 100%")
        if word[1] == "details":
            violation = error_details_pb2.BadRequest.FieldViolation(field="name", description="is not to be seen")
            unknown = struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=1)})
            fail(context, code_pb2.INVALID_ARGUMENT, "look closer", [
                error_details_pb2.BadRequest(field_violations=[violation]),
                error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3)),
                unknown,
            ])
        operation = operations_proto_pb2.Operation(name=request.name, done=True)
        if word[1] == "metadata":
            context.send_initial_metadata((("x-first", "one"), ("x-raw-bin", b"\x00\x01")))
            context.set_trailing_metadata((("x-last", "two"),))
            told = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            operation.response.Pack(error_details_pb2.ErrorInfo(reason=context.peer()[:4], metadata=told))
        if word[1] == "large":
            operation.response.Pack(error_details_pb2.DebugInfo(detail="x" * int(word[2])))
        if word[1] == "nested":
            operation.response.CopyFrom(nested(int(word[2])))
        if word[1] == "unknown":
            operation.response.Pack(struct_pb2.Struct())
        if word[1] == "error":
            operation.error.CopyFrom(status_pb2.Status(code=5, message="no such thing"))
        return operation

    def ListOperations(self, request, context):
        one = operations_proto_pb2.Operation(name=f"operations/{request.filter}")
        token = f"{request.name} {request.page_size} {request.return_partial_success}"
        return operations_proto_pb2.ListOperationsResponse(operations=[one], next_page_token=token)

    def DeleteOperation(self, request, context):
        return empty_pb2.Empty()

    def CancelOperation(self, request, context):
        fail(context, code_pb2.FAILED_PRECONDITION, f"{request.name} cannot be cancelled")

    def WaitOperation(self, request, context):
        left = context.time_remaining()
        told = "none" if left is None or left > 10**6 else f"{left:.1f}"
        time.sleep(request.timeout.seconds + request.timeout.nanos / 1e9)
        return operations_proto_pb2.Operation(name=f"{request.name} {told}")


class Health(health.HealthServicer):
    """Watching a service of this name breaks off."""

    def Watch(self, request, context, *more):
        if request.service != "broken":
            return super().Watch(request, context, *more)
        return self.broken(context)

    def broken(self, context):
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        violation = error_details_pb2.PreconditionFailure.Violation(type="disk", subject="full")
        fail(context, code_pb2.DATA_LOSS, "the disk is gone", [
            error_details_pb2.PreconditionFailure(violations=[violation])
        ])


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(16))
    servicer = Health(experimental_non_blocking=False)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(Operations(), server)
    names = ("google.longrunning.Operations", health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    for line in sys.stdin:
        service, status = line.rstrip("\n").split("=")
        servicer.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        print("set", flush=True)


def describe(name):
    found = descriptor_pb2.FileDescriptorSet()
    for module in (health_pb2, reflection_pb2):
        module.DESCRIPTOR.CopyToProto(found.file.add())
    with open(name, "wb") as to:
        to.write(found.SerializeToString())


def call(address):
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer
        ask = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        ]
        answers = list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(ask), timeout=10))
        assert {service.name for service in answers[0].list_services_response.service} >= {"grpc.health.v1.Health"}
        assert answers[1].file_descriptor_response.file_descriptor_proto
        operations = operations_pb2_grpc.OperationsStub(channel)
        try:
            operations.GetOperation(operations_proto_pb2.GetOperationRequest(name="operations/code/5"), timeout=10)
            raise SystemExit("should have failed")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
    print("all calls passed")


if sys.argv[1] == "serve":
    serve()
elif sys.argv[1] == "describe":
    describe(sys.argv[2])
else:
    call(sys.argv[2])
