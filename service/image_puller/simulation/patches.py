"""JSON Patch as the API server applies it."""

import json
from types import MappingProxyType
from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException

from image_puller.simulation import answers
from image_puller.simulation.answers import Json, RefusedError

JSON_PATCH = "application/json-patch+json"


def apply(document: Json, text: bytes) -> Json:
    """Give the patched document, or refuse: 400 for what is no patch, 422 for one that fails."""
    operations = _operations(text)
    try:
        patched: Json = _ServerPatch(operations).apply(document)
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError) as error:
        raise answers.patch_refused() from error
    return patched


def _operations(text: bytes) -> list[Json]:
    try:
        operations = json.loads(text)
    except ValueError as error:
        raise RefusedError(400, f"error decoding patch: {error}") from error
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise RefusedError(400, "error decoding patch: json: cannot unmarshal into []jsonPatchOp")
    return operations


class _Test(jsonpatch.TestOperation):
    def apply(self, obj: Any) -> Any:
        # The server's library takes a missing member for null.
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
