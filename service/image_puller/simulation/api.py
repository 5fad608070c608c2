"""The verbs of the API: each reads or changes the store, and returns the response's object."""

import base64
import copy
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from image_puller.simulation import objects, patches, responses, selectors
from image_puller.simulation.admission import Admission
from image_puller.simulation.resources import NAMESPACES, Resource, Target
from image_puller.simulation.responses import ApiError, Json
from image_puller.simulation.store import Key, Store, WatchEvent


@dataclass(slots=True)
class Api:
    """The verbs, over one store. Each method may raise ApiError. Thread-safe.

    `namespaces` are the namespaces that exist. None means that every namespace exists. Without
    `keeps_image_volumes`, it drops image volumes as a server without the feature does.
    """

    now: Callable[[], str]
    namespaces: Collection[str] | None = None
    store: Store = field(default_factory=Store)
    admission: Admission = field(default_factory=Admission)
    keeps_image_volumes: bool = True

    def get(self, target: Target) -> Json:
        """Return one object."""
        return self.store.get(_key(target))

    def list_objects(
        self, target: Target, *, labels: str = "", fields: str = "", limit: int = 0, after: str = ""
    ) -> Json:
        """Return a list of objects. As on a real server, its items have no `kind`.

        With a `limit` it is one page. `after` is the token of the page before it.
        """
        selected = _selected(labels, fields)
        with self.store.changed:
            found = self.store.all(target.resource, target.namespace)
            version = self.store.version
        matching = [item for item in found if selected(item) and _path(item) > _start(after)]
        page = matching[:limit] if limit else matching
        metadata = {"resourceVersion": str(version)}
        if len(page) < len(matching):
            metadata["continue"] = base64.b64encode(_path(page[-1]).encode()).decode()
        return {
            "kind": f"{target.resource.kind}List",
            "apiVersion": target.resource.api_version,
            "metadata": metadata,
            "items": [_without_kind(item) for item in page],
        }

    def events_since(
        self, target: Target, since: int, *, labels: str = "", fields: str = ""
    ) -> tuple[list[WatchEvent], int]:
        """Return the watch events after version `since`, oldest first, and the current version."""
        selected = _selected(labels, fields)
        with self.store.changed:
            events, version = self.store.events_since(since), self.store.version
        matching = [
            event
            for event in events
            if event.key.resource is target.resource
            and target.namespace in (None, event.key.namespace)
            and selected(event.item)
        ]
        return matching, version

    def create(self, target: Target, body: bytes, *, dry_run: bool = False) -> Json:
        """Create the object in the body of a request."""
        manifest = _manifest(target.resource, body)
        return self.admit(target, manifest, dry_run=dry_run)

    def admit(self, target: Target, manifest: Json, *, dry_run: bool = False) -> Json:
        """Complete, validate and store a new object. A dry run only returns it."""
        resource, namespace = target.resource, target.namespace or ""
        self._check_namespace(manifest, namespace)
        item = objects.created(resource, manifest, namespace, self.now())
        item = objects.completed(resource, self.admission.mutated(resource, item))
        if not self.keeps_image_volumes:
            objects.drop_image_volumes(resource, item)
        objects.check(resource, item)
        self.admission.check(resource, item)
        key = Key(resource, namespace, item["metadata"]["name"])
        return self.store.insert(key, item, dry_run=dry_run)

    def patch(self, target: Target, body: bytes, *, dry_run: bool = False) -> Json:
        """Apply a JSON Patch. A patch without effect keeps the `resourceVersion`."""
        resource, key = target.resource, _key(target)
        with self.store.changed:
            live = self.store.get(key)
            proposal = _proposal(resource, live, body)
            mutated = self.admission.mutated(resource, proposal)
            if not self.keeps_image_volumes:
                objects.drop_image_volumes(resource, mutated, live)
            item = objects.changed(resource, mutated, live)
            objects.check(resource, item, live)
            self.admission.check(resource, item)
            return self.store.replace(key, item, dry_run=dry_run)

    def edit(self, target: Target, change: Callable[[Json], None]) -> None:
        """Change an object by a function, without validation and admission."""
        key = _key(target)
        with self.store.changed:
            live = self.store.get(key)
            proposal = copy.deepcopy(live)
            change(proposal)
            self.store.replace(key, objects.changed(target.resource, proposal, live))

    def delete(self, target: Target, body: bytes, *, dry_run: bool = False) -> Json:
        """Delete an object. Its dependents are left to the garbage collector.

        A deletion in the foreground only marks the object, because the garbage collector removes it
        after its dependents.
        """
        key = _key(target)
        options = json.loads(body or b"{}")
        with self.store.changed:
            live = self.store.get(key)
            metadata = live["metadata"]
            _check_preconditions(key, options.get("preconditions") or {}, metadata)
            if dry_run or options.get("dryRun"):
                pass
            elif options.get("propagationPolicy") == "Foreground":
                marks = {"deletionTimestamp": self.now(), "finalizers": ["foregroundDeletion"]}
                self.store.replace(key, {**live, "metadata": {**metadata, **marks}})
            else:
                self.store.remove(key)
        return responses.success(key.resource, key.name, metadata["uid"])

    def _check_namespace(self, manifest: Json, namespace: str) -> None:
        if self.namespaces is not None and namespace and namespace not in self.namespaces:
            raise responses.not_found(NAMESPACES, namespace)
        if (manifest.get("metadata") or {}).get("namespace", namespace) != namespace:
            raise ApiError(
                400,
                "the namespace of the provided object does not match the namespace sent on the "
                "request",
            )


def _key(target: Target) -> Key:
    return Key(target.resource, target.namespace or "", target.name or "")


def _path(item: Json) -> str:
    """Return the key by which a list is sorted."""
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def _start(token: str) -> str:
    try:
        return base64.b64decode(token, validate=True).decode()
    except ValueError as error:
        raise ApiError(400, f"continue key is not valid: {error}") from error


def _without_kind(item: Json) -> Json:
    return {name: value for name, value in item.items() if name not in ("apiVersion", "kind")}


def _selected(labels: str, fields: str) -> selectors.Predicate:
    by_labels, by_fields = selectors.by_labels(labels), selectors.by_fields(fields)
    return lambda item: by_labels(item) and by_fields(item)


def _manifest(resource: Resource, body: bytes) -> Json:
    expected = f"the object provided is unrecognized (must be of type {resource.kind})"
    try:
        manifest = json.loads(body)
    except ValueError as error:
        raise ApiError(400, f"{expected}: json parse error: {error}") from error
    if not isinstance(manifest, dict):
        raise ApiError(400, f"{expected}: json parse error: not an object")
    kind = manifest.get("kind", resource.kind)
    if kind != resource.kind:
        message = f'{kind} in version "v1" cannot be handled as a {resource.kind}'
        raise ApiError(400, message)
    return manifest


def _proposal(resource: Resource, live: Json, body: bytes) -> Json:
    patched = patches.apply(live, body)
    name = live["metadata"]["name"]
    try:
        proposal = objects.completed(resource, patched)
    except ApiError as error:
        raise responses.unreadable_patch(str(error)) from error
    version = proposal["metadata"].get("resourceVersion")
    if proposal["metadata"]["name"] != name:
        proposed = proposal["metadata"]["name"]
        message = f"the name of the object ({proposed}) does not match the name on the URL ({name})"
        raise ApiError(400, message)
    if version not in (None, live["metadata"]["resourceVersion"]):
        raise responses.modified(resource, name)
    return proposal


def _check_preconditions(key: Key, preconditions: Json, metadata: Json) -> None:
    for name, label, consequence in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        expected = preconditions.get(name, metadata[name])
        if expected != metadata[name]:
            problem = (
                f"the {label} in the precondition ({expected}) does not match the {label} in "
                f"record ({metadata[name]}). The object might have been {consequence}"
            )
            raise responses.precondition_failed(key.resource, key.name, problem)
