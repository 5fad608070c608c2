"""JSON Patch as the API server applies it."""

import json
from types import MappingProxyType
from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException

from image_puller.simulation import responses
from image_puller.simulation.responses import ApiError, Json

JSON_PATCH = "application/json-patch+json"


def apply(document: Json, text: bytes) -> Json:
    """Return the patched document.

    Raises ApiError: 400 if the text is not a JSON Patch, 422 if the patch can't be applied.
    """
    operations = _operations(text)
    try:
        patched: Json = _ServerPatch(operations).apply(document)
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError) as error:
        raise responses.patch_rejected() from error
    return patched


def _operations(text: bytes) -> list[Json]:
    try:
        operations = json.loads(text)
    except ValueError as error:
        raise ApiError(400, f"error decoding patch: {error}") from error
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise ApiError(400, "error decoding patch: json: cannot unmarshal into []jsonPatchOp")
    return operations


class _Test(jsonpatch.TestOperation):
    def apply(self, obj: Any) -> Any:
        # The server's library treats a missing member as null.
        holder, member = self.pointer.to_last(obj)
        if self.operation.get("value", "") is None and isinstance(holder, dict):
            return obj if holder.get(member) is None else super().apply(obj)
        return super().apply(obj)


class _Replace(jsonpatch.ReplaceOperation):
    def apply(self, obj: Any) -> Any:
        # The server's library lets `replace` add a member that an object lacks.
        holder, member = self.pointer.to_last(obj)
        if isinstance(holder, dict):
            holder.setdefault(member, None)
        return super().apply(obj)


class _ServerPatch(jsonpatch.JsonPatch):
    operations = MappingProxyType(
        {**jsonpatch.JsonPatch.operations, "test": _Test, "replace": _Replace}
    )
