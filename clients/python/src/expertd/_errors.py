"""What a call failed with."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2


@dataclasses.dataclass(frozen=True)
class Violation:
    """A field of the request that has a wrong value, by its path in the contract: "sampling.top_p"."""

    field: str
    description: str


class Error(Exception):
    """A call failed.

    code: the canonical code. reason: as errors.proto lists them ("QUEUE_FULL"); empty when the failure is not the
    server's own. message: for people. metadata: further facts ("maxModelLen": "4096"). violations: the fields at fault.
    retry_delay: seconds after which the server expects to have room; None: it does not say. request_id: of the request,
    the caller's or the server's; empty when neither gave it one, or gRPC lost it: grpc.aio may, where a stream fails
    before its first message.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, reason: str = "", metadata: dict[str, str] | None = None,
                 violations: tuple[Violation, ...] = (), retry_delay: float | None = None, request_id: str = ""):
        super().__init__(f"{reason or code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = metadata or {}
        self.violations = violations
        self.retry_delay = retry_delay
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and pickles: process pools send what their workers raise."""
        make = functools.partial(type(self), reason=self.reason, metadata=self.metadata, violations=self.violations,
                                 retry_delay=self.retry_delay, request_id=self.request_id)
        return make, (self.code, self.message)


class InvalidArgument(Error):
    """The request is wrong; `violations` name the fields."""


class NotFound(Error):
    """The server does not serve the model."""


class AlreadyExists(Error):
    """A request of that id lives."""


class Unauthenticated(Error):
    """No key, or a wrong one."""


class PermissionDenied(Error):
    """The key may not do this."""


class ResourceExhausted(Error):
    """The server has no room now (QUEUE_FULL, TOO_MANY_CALLS, TOO_MANY_BYTES), or never (MESSAGE_TOO_LARGE)."""


class FailedPrecondition(Error):
    """The server is not in a state for this."""


class Aborted(Error):
    """The stream was read too slowly (SLOW_CONSUMER)."""


class Unimplemented(Error):
    """The server, or its model, can't do this (UNSUPPORTED_FEATURE)."""


class Internal(Error):
    """A fault of the server."""


class Unavailable(Error):
    """No server answers, or it starts or stops (NOT_READY, DRAINING)."""


class DeadlineExceeded(Error):
    """The timeout passed (DEADLINE), or that in the queue (QUEUE_TIMEOUT)."""


class Cancelled(Error):
    """The call was cancelled, by its caller or by an operator (ABORTED_BY_ADMIN)."""


_CLASSES: dict[grpc.StatusCode, type[Error]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}


def error_from(call: Any, request_id: str = "", is_cancelled: bool = False) -> Error:
    """The error that `call` (an RpcError of grpc or grpc.aio) stands for. is_cancelled: by the caller."""
    code: grpc.StatusCode = call.code()
    message: str = call.details() or code.name
    reason, metadata, retry_delay = "", {}, None
    violations: list[Violation] = []
    for key, value in call.initial_metadata() or ():
        if key == "x-request-id":
            request_id = value
    for key, value in call.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info, bad, retry = (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(),
                                error_details_pb2.RetryInfo())
            if detail.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                violations += [Violation(v.field, v.description) for v in bad.field_violations]
            elif detail.Unpack(retry):
                retry_delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    if code == grpc.StatusCode.CANCELLED and not reason and not is_cancelled:
        # gRPC itself ends calls so that reach a server while it begins to stop.
        code = grpc.StatusCode.UNAVAILABLE
        message = "the server cancelled the call without a reason: it may be stopping"
    return _CLASSES.get(code, Error)(code, message, reason=reason, metadata=metadata,
                                     violations=tuple(violations), retry_delay=retry_delay, request_id=request_id)
