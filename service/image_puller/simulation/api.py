"""The verbs of the API: what each does to the store, and what it answers."""

import copy
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from image_puller.simulation import answers, objects, patches, selectors
from image_puller.simulation.admission import Admission
from image_puller.simulation.answers import Json, RefusedError
from image_puller.simulation.resources import NAMESPACES, Resource, Target
from image_puller.simulation.store import Change, Key, Store


@dataclass(slots=True)
class Api:
    """Safe to call from several threads; every method refuses with `RefusedError`.

    With `namespaces` given there are no others; without, there is every one.
    """

    now: Callable[[], str]
    namespaces: Collection[str] | None = None
    store: Store = field(default_factory=Store)
    admission: Admission = field(default_factory=Admission)

    def get(self, target: Target) -> Json:
        """Give one object."""
        return self.store.get(_key(target))

    def index(self, target: Target, *, labels: str = "", fields: str = "") -> Json:
        """List objects; those in a list don't say their kind."""
        selected = _selected(labels, fields)
        with self.store.changed:
            found = self.store.all(target.resource, target.namespace)
            version = self.store.version
        return {
            "kind": f"{target.resource.kind}List",
            "apiVersion": target.resource.api_version,
            "metadata": {"resourceVersion": str(version)},
            "items": [_bare(item) for item in found if selected(item)],
        }

    def changes(
        self, target: Target, since: int, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Change], int]:
        """List the writes after a version, oldest first, and give the version up to now."""
        selected = _selected(labels, fields)
        with self.store.changed:
            changes, version = self.store.since(since), self.store.version
        concerned = [
            change
            for change in changes
            if change.key.resource is target.resource
            and target.namespace in (None, change.key.namespace)
            and selected(change.item)
        ]
        return concerned, version

    def create(self, target: Target, body: bytes, *, dry_run: bool = False) -> Json:
        """Admit and store a new object."""
        manifest = _manifest(target.resource, body)
        return self.admit(target, manifest, dry_run=dry_run)

    def admit(self, target: Target, manifest: Json, *, dry_run: bool = False) -> Json:
        """Complete, check and store a new object; in a dry run it is only answered."""
        resource, namespace = target.resource, target.namespace or ""
        self._check_namespace(manifest, namespace)
        item = objects.created(resource, manifest, namespace, self.now())
        item = objects.completed(resource, self.admission.mutated(resource, item))
        objects.check(resource, item)
        self.admission.check(resource, item)
        key = Key(resource, namespace, item["metadata"]["name"])
        return self.store.insert(key, item, dry_run=dry_run)

    def patch(self, target: Target, body: bytes, *, dry_run: bool = False) -> Json:
        """Apply a JSON Patch; one that changes nothing is no write."""
        resource, key = target.resource, _key(target)
        with self.store.changed:
            live = self.store.get(key)
            proposal = _proposal(resource, live, body)
            item = objects.changed(resource, self.admission.mutated(resource, proposal), live)
            objects.check(resource, item, live)
            self.admission.check(resource, item)
            return self.store.replace(key, item, dry_run=dry_run)

    def edit(self, target: Target, change: Callable[[Json], None]) -> None:
        """Change an object in place, with no admission."""
        key = _key(target)
        with self.store.changed:
            live = self.store.get(key)
            proposal = copy.deepcopy(live)
            change(proposal)
            self.store.replace(key, objects.changed(target.resource, proposal, live))

    def delete(self, target: Target, body: bytes, *, dry_run: bool = False) -> Json:
        """Delete an object; its dependents are the garbage collector's."""
        key = _key(target)
        options = json.loads(body or b"{}")
        with self.store.changed:
            metadata = self.store.get(key)["metadata"]
            _check_preconditions(key, options.get("preconditions") or {}, metadata)
            if not (dry_run or options.get("dryRun")):
                self.store.remove(key)
        return answers.success(key.resource, key.name, metadata["uid"])

    def _check_namespace(self, manifest: Json, namespace: str) -> None:
        if self.namespaces is not None and namespace and namespace not in self.namespaces:
            raise answers.not_found(NAMESPACES, namespace)
        if (manifest.get("metadata") or {}).get("namespace", namespace) != namespace:
            raise RefusedError(
                400,
                "the namespace of the provided object does not match the namespace sent on the "
                "request",
            )


def _key(target: Target) -> Key:
    return Key(target.resource, target.namespace or "", target.name or "")


def _bare(item: Json) -> Json:
    return {name: value for name, value in item.items() if name not in ("apiVersion", "kind")}


def _selected(labels: str, fields: str) -> selectors.Predicate:
    by_labels, by_fields = selectors.by_labels(labels), selectors.by_fields(fields)
    return lambda item: by_labels(item) and by_fields(item)


def _manifest(resource: Resource, body: bytes) -> Json:
    expected = f"the object provided is unrecognized (must be of type {resource.kind})"
    try:
        manifest = json.loads(body)
    except ValueError as error:
        raise RefusedError(400, f"{expected}: json parse error: {error}") from error
    if not isinstance(manifest, dict):
        raise RefusedError(400, f"{expected}: json parse error: not an object")
    kind = manifest.get("kind", resource.kind)
    if kind != resource.kind:
        message = f'{kind} in version "v1" cannot be handled as a {resource.kind}'
        raise RefusedError(400, message)
    return manifest


def _proposal(resource: Resource, live: Json, body: bytes) -> Json:
    patched = patches.apply(live, body)
    name = live["metadata"]["name"]
    try:
        proposal = objects.completed(resource, patched)
    except RefusedError as error:
        raise answers.unreadable_patch(str(error)) from error
    version = proposal["metadata"].get("resourceVersion")
    if proposal["metadata"]["name"] != name:
        asked = proposal["metadata"]["name"]
        message = f"the name of the object ({asked}) does not match the name on the URL ({name})"
        raise RefusedError(400, message)
    if version not in (None, live["metadata"]["resourceVersion"]):
        raise answers.modified(resource, name)
    return proposal


def _check_preconditions(key: Key, preconditions: Json, metadata: Json) -> None:
    for name, label, consequence in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        expected = preconditions.get(name, metadata[name])
        if expected != metadata[name]:
            complaint = (
                f"the {label} in the precondition ({expected}) does not match the {label} in "
                f"record ({metadata[name]}). The object might have been {consequence}"
            )
            raise answers.precondition_failed(key.resource, key.name, complaint)
