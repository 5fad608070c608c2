"""Routes requests: authenticates them, applies faults, and calls the verbs of the API."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic

from image_puller.simulation import objects, patches, responses
from image_puller.simulation.access import REVIEWS, Access
from image_puller.simulation.api import Api
from image_puller.simulation.faults import Faults, HungUpError
from image_puller.simulation.resources import Resource, Target, locate
from image_puller.simulation.responses import ApiError, Json
from image_puller.simulation.server import Request, Response

_VERSION = {"major": "1", "minor": "34", "gitVersion": "v1.34.4", "platform": "linux/amd64"}
_OK, _CREATED = 200, 201


@dataclass(slots=True)
class Routes:
    """Serves requests, and records them with the status of their responses."""

    api: Api
    faults: Faults
    token: str | None
    access: Access = field(default_factory=Access)
    requests: list[Request] = field(default_factory=list)
    groups: list[str] = field(default_factory=lambda: ["apps"])
    documents: dict[str, Json] = field(default_factory=lambda: {"/version": _VERSION})

    def serve(self, request: Request) -> Response:
        """Return the response to a request. Raises HungUpError where a fault asks for it."""
        try:
            response = self._serve(request)
        except ApiError as error:
            response = _error_response(error)
        except HungUpError:
            self.requests.append(request)
            raise
        self.requests.append(dataclasses.replace(request, status=response.status))
        return response

    def _serve(self, request: Request) -> Response:
        self.faults.apply_before(request.method, request.path)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            raise ApiError(401, "Unauthorized")
        try:
            return self._route(request)
        finally:
            self.faults.apply_after(request.method, request.path)

    def _route(self, request: Request) -> Response:
        if request.path == "/readyz":
            return Response(_OK, "ok")
        if request.path == "/apis":
            return Response(_OK, self._group_list())
        if (request.method, request.path) == ("POST", REVIEWS):
            return Response(_CREATED, self.access.reviewed(request.body))
        if request.path in self.documents:
            return Response(_OK, self.documents[request.path])
        target = locate(request.path)
        if target is None or (target.resource.group not in ("", *self.groups)):
            return self._unknown_path(request.path)
        return self._dispatch(request, target)

    def _dispatch(self, request: Request, target: Target) -> Response:
        verbs: dict[str, Callable[[Request, Target], Response]] = {
            "GET": self._get if target.name else self._list,
            "POST": self._create,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }
        needs_name = request.method in ("PATCH", "DELETE")
        is_wrong_path = request.method != "GET" and needs_name != bool(target.name)
        if request.method not in target.resource.verbs or is_wrong_path:
            raise responses.method_not_allowed()
        self.access.check(_verb(request, target), target)
        return verbs[request.method](request, target)

    def _get(self, request: Request, target: Target) -> Response:
        return Response(_OK, _in_requested_form(request, self.api.get(target)))

    def _list(self, request: Request, target: Target) -> Response:
        if request.query.get("watch") in ("true", "1"):
            return Response(_OK, self._watch(request, target))
        if _wants_metadata(request):
            kind = target.resource.kind
            raise ApiError(
                406,
                "you requested PartialObjectMetadata, but the requested object is a list "
                f"(*{target.resource.group or 'core'}.{kind}List)",
            )
        after = request.query.get("continue", "")
        limit = int(request.query.get("limit") or 0)
        selection = _selection(request)
        listed = self.api.list_objects(
            target,
            labels=selection["labels"],
            fields=selection["fields"],
            limit=limit,
            after=after,
        )
        if "as=PartialObjectMetadataList;" in request.headers.get("accept", ""):
            listed = objects.partial_list(listed)
        return Response(_OK, listed)

    def _create(self, request: Request, target: Target) -> Response:
        item = self.api.create(target, request.body, dry_run=_is_dry_run(request))
        return Response(_CREATED, _in_requested_form(request, item))

    def _patch(self, request: Request, target: Target) -> Response:
        if request.content_type != patches.JSON_PATCH:
            raise ApiError(415, "415: Unsupported Media Type", details={})
        item = self.api.patch(target, request.body, dry_run=_is_dry_run(request))
        return Response(_OK, _in_requested_form(request, item))

    def _delete(self, request: Request, target: Target) -> Response:
        return Response(_OK, self.api.delete(target, request.body, dry_run=_is_dry_run(request)))

    def _watch(self, request: Request, target: Target) -> Iterator[Json]:
        """Yield the events of a watch until its `timeoutSeconds` have passed.

        Without a `resourceVersion`, it begins with the objects that exist.
        """
        selection = _selection(request)
        listed = self.api.list_objects(
            target, labels=selection["labels"], fields=selection["fields"]
        )
        since = int(request.query.get("resourceVersion") or 0)
        deadline = monotonic() + float(request.query.get("timeoutSeconds", "3600"))
        existing = [] if since else listed["items"]
        seen = since or int(listed["metadata"]["resourceVersion"])
        return itertools.chain(
            ({"type": "ADDED", "object": target.resource.typed(item)} for item in existing),
            self._events(target, seen, deadline, selection),
        )

    def _events(
        self, target: Target, seen: int, deadline: float, selection: dict[str, str]
    ) -> Iterator[Json]:
        store, closing = self.api.store, self.faults.closing
        while not closing.is_set() and monotonic() < deadline:
            try:
                events, seen = self.api.events_since(target, seen, **selection)
            except ApiError as error:
                yield {"type": "ERROR", "object": error.body}
                return
            for event in events:
                yield {"type": event.type, "object": event.item}
            store.wait(seen, max(0.0, deadline - monotonic()), closing)

    def _group_list(self) -> Json:
        groups = []
        for name in self.groups:
            version = {"groupVersion": f"{name}/v1", "version": "v1"}
            groups.append({"name": name, "versions": [version], "preferredVersion": version})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _unknown_path(self, path: str) -> Response:
        roots = ["/api/v1/", *(f"/apis/{group}/" for group in self.groups)]
        if any(path.startswith(root) for root in roots):
            raise responses.unknown_resource()
        return Response(404, "404 page not found\n")


def _verb(request: Request, target: Target) -> str:
    """Return the verb that RBAC has for a request."""
    if request.method == "GET" and target.name is None:
        return "watch" if request.query.get("watch") in ("true", "1") else "list"
    return {"GET": "get", "POST": "create"}.get(request.method, request.method.lower())


def _error_response(error: ApiError) -> Response:
    seconds = error.retry_after
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    return Response(error.code, error.body, headers)


def _wants_metadata(request: Request) -> bool:
    return "as=PartialObjectMetadata;" in request.headers.get("accept", "")


def _in_requested_form(request: Request, item: Json) -> Json:
    return objects.partial(item) if _wants_metadata(request) else item


def _selection(request: Request) -> dict[str, str]:
    return {
        "labels": request.query.get("labelSelector", ""),
        "fields": request.query.get("fieldSelector", ""),
    }


def _is_dry_run(request: Request) -> bool:
    value = request.query.get("dryRun")
    if value not in (None, "All"):
        kind = {"POST": "CreateOptions", "PATCH": "PatchOptions", "DELETE": "DeleteOptions"}
        options = Resource(group="meta.k8s.io", version="v1", plural="", kind=kind[request.method])
        problem = f'Unsupported value: ["{value}"]: supported values: "All"'
        cause = responses.Cause("FieldValueNotSupported", problem, "dryRun")
        raise responses.invalid(options, "", [cause])
    return value == "All"
