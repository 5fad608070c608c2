"""What the API server says when it refuses: `v1` Status objects, in the words of the real one."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from image_puller.simulation.resources import Resource

Json = dict[str, Any]

# What the real server says whenever a JSON Patch can't be applied, a failed `test` included.
PATCH_REFUSED = "the server rejected our request due to an error in our request"

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
        """Give the form in which a Status carries it."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class RefusedError(Exception):
    """A request that the API server refuses; carries the answer."""

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
    """Say that an object is deleted."""
    details = {**_details(resource, name), "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def not_found(resource: Resource, name: str) -> RefusedError:
    """There is no such object."""
    message = f'{resource.qualified} "{name}" not found'
    return RefusedError(404, message, details=_details(resource, name))


def unknown_resource() -> RefusedError:
    """There is no such kind of object in a group that exists."""
    message = "the server could not find the requested resource"
    return RefusedError(404, message, details={})


def method_not_allowed() -> RefusedError:
    """The resource has no such verb."""
    message = "the server does not allow this method on the requested resource"
    return RefusedError(405, message, details={})


def already_exists(resource: Resource, name: str) -> RefusedError:
    """The name of a new object is taken."""
    message = f'{resource.qualified} "{name}" already exists'
    details = _details(resource, name)
    return RefusedError(409, message, reason="AlreadyExists", details=details)


def modified(resource: Resource, name: str) -> RefusedError:
    """A write names a `resourceVersion` that is not the object's any more."""
    message = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )
    return RefusedError(409, message, details=_details(resource, name))


def precondition_failed(resource: Resource, name: str, complaint: str) -> RefusedError:
    """A deletion is meant for another object of that name, or for another version of it."""
    kind = _qualify(resource.kind, resource.group)
    message = f'Operation cannot be fulfilled on {kind} "{name}": {complaint}'
    details = {**_details(resource, name), "kind": resource.kind}
    return RefusedError(409, message, details=details)


def expired(version: int, current: int) -> RefusedError:
    """A watch asks for writes that are forgotten: its client lists everything again."""
    message = f"too old resource version: {version} ({current})"
    return RefusedError(410, message, reason="Expired")


def patch_refused() -> RefusedError:
    """A JSON Patch can't be applied. The details are empty: nothing says which operation failed."""
    return RefusedError(422, PATCH_REFUSED, details={})


def unreadable_patch(complaint: str) -> RefusedError:
    """A JSON Patch makes something that is no object of its kind."""
    cause = Cause("FieldValueInvalid", f"Invalid value: {complaint}", "patch")
    message = f' "" is invalid: {cause.field}: {cause.message}'
    return RefusedError(422, message, details={"causes": [cause.as_json()]})


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> RefusedError:
    """An object breaks the rules of its kind."""
    wordings = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = wordings[0] if len(wordings) == 1 else f"[{', '.join(wordings)}]"
    message = f'{_qualify(resource.kind, resource.group)} "{name}" is invalid: {listed}'
    details = {**_details(resource, name), "kind": resource.kind}
    details["causes"] = [cause.as_json() for cause in causes]
    return RefusedError(422, message, details=details)


def forbidden(resource: Resource, name: str, complaint: str) -> RefusedError:
    """An admission plugin of the server itself refuses (Pod Security, a quota, a limit range)."""
    message = f'{resource.qualified} "{name}" is forbidden: {complaint}'
    return RefusedError(403, message, details=_details(resource, name))


def denied_by_policy(resource: Resource, name: str, complaint: str) -> RefusedError:
    """A ValidatingAdmissionPolicy refuses: 422, and causes that name no field."""
    denial = (
        "ValidatingAdmissionPolicy 'simulated-policy' with binding 'simulated-binding' "
        f"denied request: {complaint}"
    )
    message = f'{resource.qualified} "{name}" is forbidden: {denial}'
    details = {**_details(resource, name), "causes": [{"message": denial}]}
    return RefusedError(422, message, details=details)


def denied_by_webhook(complaint: str) -> RefusedError:
    """A validating webhook refuses, without details."""
    return RefusedError(
        403, f'admission webhook "simulated.image-puller.io" denied the request: {complaint}'
    )


def _details(resource: Resource, name: str) -> Json:
    # The real server leaves out what is empty: the core group, and the name of what has none.
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}


def _qualify(kind: str, group: str) -> str:
    return f"{kind}.{group}" if group else kind
