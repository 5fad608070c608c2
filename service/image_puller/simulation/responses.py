"""The Status objects that the API server responds with, in the real server's words.

An error response is an ApiError, which the verbs raise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from image_puller.simulation.resources import Resource

Json = dict[str, Any]

# The real server's message for each JSON Patch that can't be applied, a failed `test` included.
PATCH_REJECTED = "the server rejected our request due to an error in our request"

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One field of an object that breaks a rule."""

    reason: str
    message: str
    field: str

    def as_json(self) -> Json:
        """Return the cause as an item of `details.causes` of a Status."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(Exception):
    """An error response of the API server."""

    def __init__(
        self, code: int, message: str, *, reason: str | None = None, details: Json | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after: int | None = None
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or _REASONS.get(code, HTTPStatus(code).phrase.replace(" ", "")),
            "code": code,
        }
        if details is not None:
            status["details"] = details
        self.body: Json | str = status


def success(resource: Resource, name: str, uid: str) -> Json:
    """Return the response to a deletion."""
    details = {**_details(resource, name), "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def not_found(resource: Resource, name: str) -> ApiError:
    """Return the error for an object that does not exist."""
    message = f'{resource.qualified} "{name}" not found'
    return ApiError(404, message, details=_details(resource, name))


def unknown_resource() -> ApiError:
    """Return the error for an unknown kind of object in an API group that exists."""
    message = "the server could not find the requested resource"
    return ApiError(404, message, details={})


def method_not_allowed() -> ApiError:
    """Return the error for a method that a resource does not support."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, message, details={})


def already_exists(resource: Resource, name: str) -> ApiError:
    """Return the error for a new object whose name is in use."""
    message = f'{resource.qualified} "{name}" already exists'
    details = _details(resource, name)
    return ApiError(409, message, reason="AlreadyExists", details=details)


def modified(resource: Resource, name: str) -> ApiError:
    """Return the error for a write that names an old `resourceVersion`."""
    message = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )
    return ApiError(409, message, details=_details(resource, name))


def precondition_failed(resource: Resource, name: str, problem: str) -> ApiError:
    """Return the error for a deletion that names another UID or `resourceVersion`."""
    kind = _qualify(resource.kind, resource.group)
    message = f'Operation cannot be fulfilled on {kind} "{name}": {problem}'
    details = {**_details(resource, name), "kind": resource.kind}
    return ApiError(409, message, details=details)


def expired(version: int, current: int) -> ApiError:
    """Return the error for a watch from an old version. Its client must list the objects again."""
    message = f"too old resource version: {version} ({current})"
    return ApiError(410, message, reason="Expired")


def patch_rejected() -> ApiError:
    """Return the error for a JSON Patch that can't be applied. It does not show the operation."""
    return ApiError(422, PATCH_REJECTED, details={})


def unreadable_patch(problem: str) -> ApiError:
    """Return the error for a patched object that does not have the fields of its kind."""
    cause = Cause("FieldValueInvalid", f"Invalid value: {problem}", "patch")
    message = f' "" is invalid: {cause.field}: {cause.message}'
    return ApiError(422, message, details={"causes": [cause.as_json()]})


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """Return the error for an object with invalid fields."""
    problems = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    message = f'{_qualify(resource.kind, resource.group)} "{name}" is invalid: {listed}'
    details = {**_details(resource, name), "kind": resource.kind}
    details["causes"] = [cause.as_json() for cause in causes]
    return ApiError(422, message, details=details)


def forbidden(resource: Resource, name: str, problem: str) -> ApiError:
    """Return the error of a built-in admission plugin: Pod Security, a quota, a limit range.

    RBAC has the same error, without a name where the request is for all objects.
    """
    named = f'{resource.qualified} "{name}"' if name else resource.qualified
    message = f"{named} is forbidden: {problem}"
    return ApiError(403, message, details=_details(resource, name))


def denied_by_policy(resource: Resource, name: str, problem: str) -> ApiError:
    """Return the error of a ValidatingAdmissionPolicy. Its causes name no field."""
    denial = (
        "ValidatingAdmissionPolicy 'simulated-policy' with binding 'simulated-binding' "
        f"denied request: {problem}"
    )
    message = f'{resource.qualified} "{name}" is forbidden: {denial}'
    details = {**_details(resource, name), "causes": [{"message": denial}]}
    return ApiError(422, message, details=details)


def denied_by_webhook(problem: str) -> ApiError:
    """Return the error of a validating webhook. It has no details."""
    return ApiError(
        403, f'admission webhook "simulated.image-puller.io" denied the request: {problem}'
    )


def _details(resource: Resource, name: str) -> Json:
    # The real server leaves out empty values, such as the core group.
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}


def _qualify(kind: str, group: str) -> str:
    return f"{kind}.{group}" if group else kind
