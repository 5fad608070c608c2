"""The HTTP routes. Each authenticates the sender, reads a bounded body, and passes events on.

`docs/http-api.md` explains the status codes.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Protocol

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from image_puller import limits
from image_puller.config.configuration import Config, EventAuth, ReadAuth
from image_puller.controller.intake import Intake
from image_puller.controller.metrics import Metrics
from image_puller.controller.places import Places
from image_puller.core import awaiting, page, status
from image_puller.core.awaiting import Verdict
from image_puller.core.page import Seen
from image_puller.core.reading import Reading
from image_puller.core.received import Received
from image_puller.errors import (
    BadEventError,
    ClusterUnavailableError,
    ImagePullerError,
    OverloadedError,
    UnauthenticatedError,
)
from image_puller.events import sources
from image_puller.events.sources import SOURCES, Source
from image_puller.http import authentication, pages, parking, status_query
from image_puller.http.authentication import EVENTS, READ, Secrets
from image_puller.http.rejections import Rejections
from image_puller.http.status_query import StatusQuery
from image_puller.values.reference import InvalidReferenceError

log = logging.getLogger(__name__)

_CLOUDEVENTS = SOURCES["cloudevents"]
UNAVAILABLE = ClusterUnavailableError.status
_STATUS_OF_VERDICT = {
    Verdict.HELD: HTTPStatus.OK,
    # `curl --fail --retry` asks again after this one.
    Verdict.PENDING: HTTPStatus.REQUEST_TIMEOUT,
    Verdict.IMPOSSIBLE: HTTPStatus.CONFLICT,
}


class StatusReader(Protocol):
    """Reads the status of the cluster and of this process."""

    def reading(self) -> Reading:
        """Return the status, and the labels of the nodes. Raises ClusterUnavailableError."""

    def recent(self) -> Reading:
        """Return the same from a second ago, or longer if a reading takes longer."""

    def recent_in(self) -> float:
        """Return in how many seconds `recent` has something new."""

    def status_text(self) -> str:
        """Return the encoded status. Raises ClusterUnavailableError."""

    def seen(self) -> tuple[Seen, ...]:
        """Return what is known of each group, at least one. Raises ClusterUnavailableError."""

    def metrics_text(self) -> bytes:
        """Return the metrics, within a bounded time. Raises OverloadedError."""

    def received(self) -> tuple[Received, ...]:
        """Return the pushes that this process received last, the newest first."""

    def broken(self) -> str | None:
        """Return why only a restart helps this process, or None. It makes no API request."""

    def unready(self) -> str | None:
        """Return why this process can't take events, or None. It makes no API request."""


class TokenVerifier(Protocol):
    """Verifies the signed tokens of some issuer."""

    def verify(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header has a valid token. Raises KeysUnavailableError."""


def create_app(
    config: Config,
    intake: Intake,
    reader: StatusReader,
    metrics: Metrics,
    token_verifiers: Mapping[str, TokenVerifier] = MappingProxyType({}),
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Flask:
    """Return the application. `token_verifiers` has an item for each source that sends tokens."""
    app = Flask("image_puller", static_folder=None, template_folder="http/templates")
    app.config["MAX_CONTENT_LENGTH"] = limits.BODY_BYTES + 1
    # No sender follows redirects, and a Location header would expose a secret in the path.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    rejections = Rejections(clock)
    app.before_request(rejections.write_due)
    pages.prepare(app)
    routes = _Routes(config, intake, reader, metrics, token_verifiers, rejections)
    for method, path, view in (
        ("POST", "/", routes.event),
        ("POST", "/webhooks/<name>", routes.webhook),
        ("POST", "/webhooks/<name>/<path:secret>", routes.webhook),
        ("OPTIONS", "/", routes.handshake),
        ("OPTIONS", "/webhooks/<name>", routes.handshake),
        ("OPTIONS", "/webhooks/<name>/<path:secret>", routes.handshake),
        ("GET", "/healthz", routes.alive),
        ("GET", "/readyz", routes.ready),
        ("GET", "/", routes.status),
        ("GET", "/status", routes.status),
        ("GET", "/status/<path:image>", routes.image_status),
        ("GET", "/nodes/<node>", routes.node),
        ("GET", "/metrics", routes.metrics),
    ):
        app.add_url_rule(path, view_func=view, methods=[method], provide_automatic_options=False)
    app.register_error_handler(ImagePullerError, routes.rejected)
    app.register_error_handler(RequestEntityTooLarge, routes.too_large)
    app.register_error_handler(HTTPException, _unroutable)
    app.register_error_handler(Exception, _failed)
    return app


class _Routes:
    """One method for each route. The sender is authenticated first, the body is read last."""

    def __init__(
        self,
        config: Config,
        intake: Intake,
        reader: StatusReader,
        metrics: Metrics,
        token_verifiers: Mapping[str, TokenVerifier],
        rejections: Rejections,
    ) -> None:
        self._config = config
        self._intake = intake
        self._reader = reader
        self._metrics = metrics
        self._token_verifiers = token_verifiers
        self._rejections = rejections
        self._secrets = Secrets(config.webhook_secrets_dir)
        reads = "reads of the status"
        self._readers = Places(limits.READERS, reads, reason="too_many_readers")

    def event(self) -> Response:
        """Take CloudEvents. Answer 202, 4xx where a Broker should drop them, 503 for a retry."""
        trusted = self._config.event_auth is not EventAuth.NONE
        if trusted:
            self._check_event()
        events = sources.decode(_CLOUDEVENTS.name, _headers(), _body())
        self._intake.accept(
            _CLOUDEVENTS.name, events, timeout=_CLOUDEVENTS.timeout, is_trusted=trusted
        )
        return _accepted()

    def webhook(self, name: str, secret: str | None = None) -> Response:
        """Take a registry's webhook. Answer 202 once it is authenticated, or 503 for a retry."""
        source = SOURCES.get(name)
        if source is None or source is _CLOUDEVENTS:
            return _answer(404, f"no source is called {name[:40]!r}")
        if source.tests_with_empty_body and _is_test_call():
            self._metrics.count_event(name, "test")
            return _accepted()
        if name in self._token_verifiers:
            self._check_token(name)
        else:
            authenticated = _is_authenticated(source, self._secrets.of(name), secret)
            self._check(name, is_authenticated=authenticated)
        return self._take(source)

    def handshake(self, **_path: str) -> Response:
        """Answer the handshake of CloudEvents webhooks in headers (http-webhook.md, 4)."""
        response = Response(status=200, headers={"Allow": "OPTIONS, POST"})
        origin = request.headers.get("WebHook-Request-Origin")
        if origin:
            response.headers["WebHook-Allowed-Origin"] = origin
            response.headers["WebHook-Allowed-Rate"] = "*"
        return response

    def alive(self) -> Response:
        """Answer the liveness probe: whether this process can work on."""
        reason = self._reader.broken()
        return _answer(200, "ok") if reason is None else _answer(500, reason)

    def ready(self) -> Response:
        """Answer the readiness probe: whether this process takes events."""
        reason = self._reader.unready()
        return _answer(200, "ok") if reason is None else _answer(503, reason)

    def status(self) -> Response:
        """Return the status of all images and nodes: a page for browsers, else JSON."""
        self._check_reader()
        with self._readers.take():
            if not pages.is_asked_for():
                return pages.varying(_json(self._status_text()))
            found = page.overview(
                self._reader.seen(),
                self._reader.received(),
                number=pages.number("page"),
                images=pages.number("images"),
            )
        return pages.rendered("overview.html", found)

    def _status_text(self) -> str:
        selector = status_query.parse(request.args).selector
        if selector is None:
            return self._reader.status_text()
        return as_text(self._reader.reading().of_nodes(selector))

    def image_status(self, image: str) -> Response:
        """Return the status of one image, named by its entry or its reference.

        With `?wait=` the answer comes once enough nodes hold the image.
        """
        self._check_reader()
        if pages.is_asked_for():
            return self._image_page(image)
        asked = status_query.parse(request.args)
        if asked.wait is not None:
            return self._awaited(image, asked, asked.wait)
        with self._readers.take():
            found = self._reader.reading().of_nodes(asked.selector)
        selected = status.select(found, image)
        return _no_image(image) if selected is None else pages.varying(_json(as_text(selected)))

    def _awaited(self, image: str, asked: StatusQuery, seconds: int) -> Response:
        """Return the status of an image that somebody waits for, and what became of it.

        While it is pending, the server asks again. It keeps the request without a thread.
        """
        with self._readers.take():
            found = self._reader.recent().of_nodes(asked.selector)
        try:
            progress = awaiting.progress(found, [image], asked.enough)
        except InvalidReferenceError:
            return _no_image(image)
        verdict = awaiting.verdict(progress)
        if verdict is Verdict.PENDING and seconds:
            parking.park(seconds, again_in=self._reader.recent_in())
        selected = status.select(found, image) or status.without_images(found)
        response = _json(as_text({**selected, "awaited": awaiting.described(progress)}))
        response.status_code = _STATUS_OF_VERDICT[verdict]
        return pages.varying(response)

    def _image_page(self, image: str) -> Response:
        with self._readers.take():
            found = page.image(
                self._reader.seen(), self._reader.received(), image, number=pages.number("page")
            )
        if found is None:
            return pages.missing(f"no image is called {image[:200]!r}")
        return pages.rendered("image.html", found)

    def node(self, node: str) -> Response:
        """Return the page of one node."""
        self._check_reader()
        with self._readers.take():
            found = page.node(self._reader.seen(), node, number=pages.number("page"))
        if found is None:
            return pages.missing(f"no node is called {node[:200]!r}")
        return pages.rendered("node.html", found)

    def metrics(self) -> Response:
        """Return the metrics for Prometheus."""
        self._check_reader()
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return Response(self._reader.metrics_text(), content_type=content_type)

    def rejected(self, error: ImagePullerError) -> Response:
        """Answer an error. A 4xx has the message in its body; a 503 has it only in the log."""
        if request.method == "POST":
            source = self._count_rejection(error.status)
            if isinstance(error, BadEventError):
                self._rejections.note(source, request.remote_addr, str(error), status=error.status)
        if isinstance(error, OverloadedError):
            self._metrics.count_refusal(error.reason)
        if error.status == UNAVAILABLE:
            log.error("answered %s: %s", error.status, error)
            response = _answer(error.status, "try again later")
            response.headers["Retry-After"] = str(limits.RETRY_AFTER_SECONDS)
            return response
        response = _answer(error.status, str(error))
        if error.status == UnauthenticatedError.status and request.method == "GET":
            response.headers["WWW-Authenticate"] = 'Basic realm="image-puller"'
        return response

    def too_large(self, error: RequestEntityTooLarge) -> Any:
        """Answer 413. A part of the body is not enough to read an event or check a signature."""
        source = self._count_rejection(error.code)
        why = f"its body has more than {limits.BODY_BYTES} bytes"
        self._rejections.note(source, request.remote_addr, why, status=error.code)
        return _unroutable(error)

    def _count_rejection(self, code: int) -> str:
        """Count a rejected request, and return its source."""
        source: str = (request.view_args or {}).get("name", _CLOUDEVENTS.name)
        self._metrics.count_rejection(source, code)
        return source

    def _take(self, source: Source) -> Response:
        """Pass the events on. An unreadable body is ignored, because a retry would not help."""
        try:
            body = _body()
            answer = source.handshake(body) if source.handshake else None
            if answer is not None:
                self._metrics.count_event(source.name, "handshake")
                return _json(as_text(answer))
            events = sources.decode(source.name, _headers(), body)
        except RequestEntityTooLarge:
            self._metrics.count_event(source.name, "too_large")
            why = f"the body has more than {limits.BODY_BYTES} bytes"
            self._intake.note_unreadable(source.name, why)
            log.warning("%s: ignored: %s", source.name, why)
        except BadEventError as error:
            self._metrics.count_event(source.name, "unreadable")
            self._intake.note_unreadable(source.name, str(error))
            log.warning("%s: ignored: the body can't be read: %s", source.name, error)
        else:
            self._intake.accept(source.name, events, timeout=source.timeout)
        return _accepted()

    def _check_event(self) -> None:
        if EVENTS in self._token_verifiers:
            self._check_token(EVENTS)
        else:
            secrets = self._secrets.of(EVENTS)
            # The CloudEvents webhook specification (3.2) requires receivers to accept both.
            in_query = request.args.get("access_token", "")
            authenticated = authentication.is_valid_bearer(
                secrets, _authorization()
            ) or authentication.is_valid_url_secret(secrets, in_query)
            self._check(EVENTS, is_authenticated=authenticated)

    def _check_token(self, name: str) -> None:
        """Require a signed token. A secret is not enough, because it is weaker."""
        if not self._token_verifiers[name].verify(_authorization()):
            self._rejections.note(
                name, request.remote_addr, "its token is missing, or is not accepted"
            )
            raise _unauthenticated(name)

    def _check_reader(self) -> None:
        if self._config.read_auth is ReadAuth.TOKEN:
            secrets = self._secrets.of(READ)
            if secrets and _authorization() is None and pages.is_asked_for():
                # A browser asks for the password only after this answer, so it is no news.
                raise _unauthenticated(READ)
            authenticated = authentication.has_valid_secret(secrets, _authorization())
            self._check(READ, is_authenticated=authenticated)

    def _check(self, name: str, *, is_authenticated: bool) -> None:
        if is_authenticated:
            return
        if self._secrets.of(name):
            self._rejections.note(
                name,
                request.remote_addr,
                "its credentials are missing or wrong; give the sender the secret in file "
                f"{name} of {self._secrets.folder}",
            )
        else:
            log.warning(
                "a request was rejected because no secret is set: put one into file %s of %s",
                name,
                self._secrets.folder,
            )
        raise _unauthenticated(name)


def _unauthenticated(name: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"credentials for {name} are missing or wrong")


def _is_authenticated(source: Source, secrets: tuple[bytes, ...], in_path: str | None) -> bool:
    """Whether a request authenticates its source. The body is read only to check a signature."""
    if in_path is not None:
        return source.scheme.in_path and authentication.is_valid_path_secret(secrets, in_path)
    headers = _headers()
    if authentication.has_valid_header(source.scheme, secrets, headers):
        return True
    sent = authentication.signatures(source.scheme, headers)
    return bool(sent and secrets) and authentication.has_valid_signature(sent, secrets, _body())


def _unroutable(error: HTTPException) -> Any:
    """Return an error of Flask as plain text, with its headers."""
    response = error.get_response()
    response.data = f"{error.description or error.name}\n".encode()
    response.content_type = "text/plain; charset=utf-8"
    return response


def _failed(error: Exception) -> Response:
    """Answer 500. Flask's own handler would log the path, which may have a secret."""
    log.error("answered 500", exc_info=error)
    return _answer(500, "internal error")


def _json(text: str) -> Response:
    return Response(text, content_type="application/json")


def as_text(value: Any) -> str:
    """Return a JSON value as text for people and programs."""
    return json.dumps(value, indent=2) + "\n"


def _no_image(image: str) -> Response:
    return _answer(404, f"no image is called {image[:200]!r}; /status lists all")


def _is_test_call() -> bool:
    """Whether this is Harbor's TEST ENDPOINT, which sends neither body nor credentials."""
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    return not has_body and _authorization() is None


def _body() -> bytes:
    """Return the body. Raises RequestEntityTooLarge.

    Werkzeug returns only the first part of a chunked body that is too long.
    """
    try:
        body = request.get_data()
    except HTTPException:
        raise
    except Exception as error:
        # Errors of the web server: a malformed chunk, or a closed connection.
        raise BadEventError(f"the body can't be read: {type(error).__name__}") from error
    if len(body) > limits.BODY_BYTES:
        raise RequestEntityTooLarge
    return body


def _accepted() -> Response:
    # A Broker takes a body that is no CloudEvent as a failure. No cache may keep a URL with a
    # secret (RFC 6750, 2.3).
    return Response(status=202, headers={"Cache-Control": "private"})


def _answer(code: int, text: str) -> Response:
    return Response(f"{text}\n", status=code, content_type="text/plain; charset=utf-8")


def _authorization() -> str | None:
    return request.headers.get("Authorization")


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
