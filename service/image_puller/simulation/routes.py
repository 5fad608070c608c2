"""From a request to its answer: who asks, what goes wrong, which verb of the API is meant."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic

from image_puller.simulation import answers, objects, patches
from image_puller.simulation.answers import Json, RefusedError
from image_puller.simulation.api import Api
from image_puller.simulation.faults import Faults, HungUpError
from image_puller.simulation.resources import Resource, Target, locate
from image_puller.simulation.server import Answer, Request

_VERSION = {"major": "1", "minor": "34", "gitVersion": "v1.34.4", "platform": "linux/amd64"}
_OK, _CREATED = 200, 201


@dataclass(slots=True)
class Routes:
    """Serves requests, and remembers them with the status of their answers."""

    api: Api
    faults: Faults
    token: str | None
    requests: list[Request] = field(default_factory=list)
    groups: list[str] = field(default_factory=lambda: ["apps"])
    documents: dict[str, Json] = field(default_factory=lambda: {"/version": _VERSION})

    def serve(self, request: Request) -> Answer:
        """Answer a request, with a Status object if it is refused; may hang up instead."""
        try:
            answer = self._serve(request)
        except RefusedError as error:
            answer = _refusal(error)
        except HungUpError:
            self.requests.append(request)
            raise
        self.requests.append(dataclasses.replace(request, status=answer.status))
        return answer

    def _serve(self, request: Request) -> Answer:
        self.faults.strike_before(request.method, request.path)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            raise RefusedError(401, "Unauthorized")
        try:
            return self._route(request)
        finally:
            self.faults.strike_after(request.method, request.path)

    def _route(self, request: Request) -> Answer:
        if request.path == "/readyz":
            return Answer(_OK, "ok")
        if request.path == "/apis":
            return Answer(_OK, self._group_list())
        if request.path in self.documents:
            return Answer(_OK, self.documents[request.path])
        target = locate(request.path)
        if target is None or (target.resource.group not in ("", *self.groups)):
            return self._nowhere(request.path)
        return self._call(request, target)

    def _call(self, request: Request, target: Target) -> Answer:
        verbs: dict[str, Callable[[Request, Target], Answer]] = {
            "GET": self._get if target.name else self._list,
            "POST": self._create,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }
        on_object = request.method in ("PATCH", "DELETE")
        is_misplaced = request.method != "GET" and on_object != bool(target.name)
        if request.method not in target.resource.verbs or is_misplaced:
            raise answers.method_not_allowed()
        return verbs[request.method](request, target)

    def _get(self, request: Request, target: Target) -> Answer:
        return Answer(_OK, _shaped(request, self.api.get(target)))

    def _list(self, request: Request, target: Target) -> Answer:
        if request.query.get("watch") in ("true", "1"):
            return Answer(_OK, self._watch(request, target))
        if _wants_metadata(request):
            kind = target.resource.kind
            raise RefusedError(
                406,
                "you requested PartialObjectMetadata, but the requested object is a list "
                f"(*{target.resource.group or 'core'}.{kind}List)",
            )
        return Answer(_OK, self.api.index(target, **_selection(request)))

    def _create(self, request: Request, target: Target) -> Answer:
        item = self.api.create(target, request.body, dry_run=_is_dry_run(request))
        return Answer(_CREATED, _shaped(request, item))

    def _patch(self, request: Request, target: Target) -> Answer:
        if request.content_type != patches.JSON_PATCH:
            raise RefusedError(415, "415: Unsupported Media Type", details={})
        item = self.api.patch(target, request.body, dry_run=_is_dry_run(request))
        return Answer(_OK, _shaped(request, item))

    def _delete(self, request: Request, target: Target) -> Answer:
        return Answer(_OK, self.api.delete(target, request.body, dry_run=_is_dry_run(request)))

    def _watch(self, request: Request, target: Target) -> Iterator[Json]:
        """Tell what is there (unless a version is given), then every change, until time is up."""
        selection = _selection(request)
        listed = self.api.index(target, **selection)
        since = int(request.query.get("resourceVersion") or 0)
        ends = monotonic() + float(request.query.get("timeoutSeconds", "3600"))
        present = [] if since else listed["items"]
        seen = since or int(listed["metadata"]["resourceVersion"])
        return itertools.chain(
            ({"type": "ADDED", "object": target.resource.typed(item)} for item in present),
            self._changes(target, seen, ends, selection),
        )

    def _changes(
        self, target: Target, seen: int, ends: float, selection: dict[str, str]
    ) -> Iterator[Json]:
        store, closing = self.api.store, self.faults.closing
        while not closing.is_set() and monotonic() < ends:
            try:
                changes, seen = self.api.changes(target, seen, **selection)
            except RefusedError as error:
                yield {"type": "ERROR", "object": error.body}
                return
            for change in changes:
                yield {"type": change.type, "object": change.item}
            store.wait(seen, max(0.0, ends - monotonic()), closing)

    def _group_list(self) -> Json:
        groups = []
        for name in self.groups:
            version = {"groupVersion": f"{name}/v1", "version": "v1"}
            groups.append({"name": name, "versions": [version], "preferredVersion": version})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _nowhere(self, path: str) -> Answer:
        roots = ["/api/v1/", *(f"/apis/{group}/" for group in self.groups)]
        if any(path.startswith(root) for root in roots):
            raise answers.unknown_resource()
        return Answer(404, "404 page not found\n")


def _refusal(error: RefusedError) -> Answer:
    after = error.retry_after
    headers = {} if after is None else {"Retry-After": str(after)}
    return Answer(error.code, error.body, headers)


def _wants_metadata(request: Request) -> bool:
    return "as=PartialObjectMetadata;" in request.headers.get("accept", "")


def _shaped(request: Request, item: Json) -> Json:
    return objects.partial(item) if _wants_metadata(request) else item


def _selection(request: Request) -> dict[str, str]:
    return {
        "labels": request.query.get("labelSelector", ""),
        "fields": request.query.get("fieldSelector", ""),
    }


def _is_dry_run(request: Request) -> bool:
    asked = request.query.get("dryRun")
    if asked not in (None, "All"):
        kind = {"POST": "CreateOptions", "PATCH": "PatchOptions", "DELETE": "DeleteOptions"}
        options = Resource(group="meta.k8s.io", version="v1", plural="", kind=kind[request.method])
        complaint = f'Unsupported value: ["{asked}"]: supported values: "All"'
        cause = answers.Cause("FieldValueNotSupported", complaint, "dryRun")
        raise answers.invalid(options, "", [cause])
    return asked == "All"
