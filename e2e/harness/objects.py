"""Objects of manifests, applied at the paths that the discovery of the API server gives."""

from collections.abc import Iterable
from typing import NamedTuple

from e2e.harness.kubernetes_api import ApiError, Json, KubernetesApi
from e2e.harness.workspace import wait_until


class _Kind(NamedTuple):
    plural: str
    is_namespaced: bool


class Objects:
    """Objects of all kinds of a cluster, including kinds that are defined while it runs."""

    def __init__(self, admin: KubernetesApi) -> None:
        self._admin = admin
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def apply(self, documents: Iterable[Json], **query: str) -> None:
        """Apply the objects; with `fieldValidation=Strict` an unknown field is an error."""
        for document in documents:
            self._admin.apply(self.path(document), document, **query)

    def path(self, document: Json) -> str:
        """Return the path of this object."""
        version, metadata = document["apiVersion"], document["metadata"]
        kind = self._kind(version, document["kind"])
        place = f"/namespaces/{metadata['namespace']}" if kind.is_namespaced else ""
        return f"{_root(version)}{place}/{kind.plural}/{metadata['name']}"

    def live(self, document: Json) -> Json:
        """Return the current object."""
        return self._admin.get(self.path(document))

    def is_there(self, document: Json) -> bool:
        """Return whether the object exists."""
        try:
            self.live(document)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def _kind(self, version: str, kind: str) -> _Kind:
        def known() -> _Kind | None:
            if (version, kind) not in self._kinds:
                self._discover(version)
            return self._kinds.get((version, kind))

        return wait_until(known, f"the API server knowing {kind} of {version}")

    def _discover(self, version: str) -> None:
        try:
            listed = self._admin.get(_root(version))["resources"]
        except ApiError as error:
            if error.code == 404:  # its CustomResourceDefinition is not in force yet
                return
            raise
        for each in listed:
            if "/" not in each["name"]:  # without subresources
                found = _Kind(plural=each["name"], is_namespaced=each["namespaced"])
                self._kinds[version, each["kind"]] = found


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
