"""The HTTP routes: each proves who asks, reads what is bounded, and hands the events on.

Answers follow what each sender does with them: see the README's table of endpoints.
"""

import json
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from image_puller import limits
from image_puller.config.configuration import Config, EventAuth, ReadAuth
from image_puller.controller.intake import Intake
from image_puller.controller.metrics import Metrics
from image_puller.core import status
from image_puller.errors import (
    BadEventError,
    ClusterUnavailableError,
    ImagePullerError,
    UnauthenticatedError,
)
from image_puller.events import sources
from image_puller.events.sources import SOURCES, Source
from image_puller.http import authentication
from image_puller.http.authentication import EVENTS, READ, Secrets

log = logging.getLogger(__name__)

_CLOUDEVENTS = SOURCES["cloudevents"]
UNAVAILABLE = ClusterUnavailableError.status


class Look(Protocol):
    """What the routes show of the cluster and of the process."""

    def status(self) -> dict[str, Any]:
        """The status as JSON; raises ClusterUnavailableError."""

    def unready(self) -> str | None:
        """Why this process can't take events, or None. No API call."""


class Tokens(Protocol):
    """Believes some issuer's tokens."""

    def prove(self, authorization: str | None) -> bool:
        """Whether a header holds one; raises KeysUnavailableError where that can't be told now."""


def create_app(
    config: Config,
    intake: Intake,
    look: Look,
    metrics: Metrics,
    tokens: Mapping[str, Tokens] = MappingProxyType({}),
) -> Flask:
    """The Flask application; `tokens` has who proves itself by those instead of by a secret."""
    app = Flask("image_puller", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = limits.BODY_BYTES + 1
    # No sender of webhooks should be redirected, and a Location would show a secret in the path.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    routes = _Routes(config, intake, look, metrics, tokens)
    for method, path, view in (
        ("POST", "/", routes.event),
        ("POST", "/webhooks/<name>", routes.webhook),
        ("POST", "/webhooks/<name>/<path:secret>", routes.webhook),
        ("OPTIONS", "/", routes.handshake),
        ("OPTIONS", "/webhooks/<name>", routes.handshake),
        ("OPTIONS", "/webhooks/<name>/<path:secret>", routes.handshake),
        ("GET", "/healthz", routes.alive),
        ("GET", "/readyz", routes.ready),
        ("GET", "/status", routes.status),
        ("GET", "/status/<path:image>", routes.image_status),
        ("GET", "/metrics", routes.counted),
    ):
        app.add_url_rule(path, view_func=view, methods=[method], provide_automatic_options=False)
    app.register_error_handler(ImagePullerError, routes.refused)
    app.register_error_handler(RequestEntityTooLarge, routes.too_large)
    app.register_error_handler(HTTPException, _unroutable)
    app.register_error_handler(Exception, _failed)
    return app


class _Routes:
    """One method for each route: who asks is checked first, a body is read last."""

    def __init__(
        self,
        config: Config,
        intake: Intake,
        look: Look,
        metrics: Metrics,
        tokens: Mapping[str, Tokens],
    ) -> None:
        self._config = config
        self._intake = intake
        self._look = look
        self._metrics = metrics
        self._tokens = tokens
        self._secrets = Secrets(config.webhook_secrets_dir)

    def event(self) -> Response:
        """CloudEvents: 202, 4xx for what a Broker should drop, 503 for what it should repeat."""
        trusted = self._config.event_auth is not EventAuth.NONE
        if trusted:
            self._check_event()
        events = sources.decode(_CLOUDEVENTS.name, _headers(), _body())
        self._intake.accept(
            _CLOUDEVENTS.name, events, patience=_CLOUDEVENTS.patience, is_trusted=trusted
        )
        return _accepted()

    def webhook(self, name: str, secret: str | None = None) -> Response:
        """One registry's notifications: 202 for all that is authenticated, 503 for later."""
        source = SOURCES.get(name)
        if source is None or source is _CLOUDEVENTS:
            return _answer(404, f"no source is called {name[:40]!r}")
        if source.tests_with_empty_body and _is_test_call():
            self._metrics.count_event(name, "test")
            return _accepted()
        if name in self._tokens:
            self._check_token(name)
        else:
            self._check(name, proven=_proves(source, self._secrets.of(name), secret))
        return self._take(source)

    def handshake(self, **_path: str) -> Response:
        """The handshake of CloudEvents' webhooks (http-webhook.md, 4): consent is in headers."""
        response = Response(status=200, headers={"Allow": "OPTIONS, POST"})
        origin = request.headers.get("WebHook-Request-Origin")
        if origin:
            response.headers["WebHook-Allowed-Origin"] = origin
            response.headers["WebHook-Allowed-Rate"] = "*"
        return response

    def alive(self) -> Response:
        """Whether the process answers."""
        return _answer(200, "ok")

    def ready(self) -> Response:
        """Whether the process takes events."""
        reason = self._look.unready()
        return _answer(200, "ok") if reason is None else _answer(503, reason)

    def status(self) -> Response:
        """What is cached where."""
        self._check_reader()
        return _json(self._look.status())

    def image_status(self, image: str) -> Response:
        """The same of one image, by its entry's name or its reference."""
        self._check_reader()
        selected = status.select(self._look.status(), image)
        if selected is None:
            return _answer(404, f"no image is called {image[:200]!r}")
        return _json(selected)

    def counted(self) -> Response:
        """Metrics for Prometheus."""
        self._check_reader()
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return Response(self._metrics.text(), content_type=content_type)

    def refused(self, error: ImagePullerError) -> Response:
        """The answer that an error means: its words for a 4xx; those of a 503 stay in the log."""
        if request.method == "POST":
            self._count_refusal(error.status)
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
        """413: the body alone would tell what it is (`POST /`), or who sends it (an HMAC)."""
        self._count_refusal(error.code)
        log.warning("answered 413: a body above %s bytes", limits.BODY_BYTES)
        return _unroutable(error)

    def _count_refusal(self, code: int) -> None:
        source = (request.view_args or {}).get("name", _CLOUDEVENTS.name)
        self._metrics.count_refusal(source, code)

    def _take(self, source: Source) -> Response:
        """Hands on what can be read: a registry would send the rest for ever, or give up on us."""
        try:
            body = _body()
            answer = source.handshake(body) if source.handshake else None
            if answer is not None:
                self._metrics.count_event(source.name, "handshake")
                return _json(answer)
            events = sources.decode(source.name, _headers(), body)
        except RequestEntityTooLarge:
            self._metrics.count_event(source.name, "too large")
            log.warning("%s: a body above %s bytes is ignored", source.name, limits.BODY_BYTES)
        except BadEventError as error:
            self._metrics.count_event(source.name, "unreadable")
            log.warning("%s: a body that can't be read is ignored: %s", source.name, error)
        else:
            self._intake.accept(source.name, events, patience=source.patience)
        return _accepted()

    def _check_event(self) -> None:
        if EVENTS in self._tokens:
            self._check_token(EVENTS)
        else:
            secrets = self._secrets.of(EVENTS)
            # The CloudEvents specification of webhooks (3.2) has receivers take both.
            in_query = request.args.get("access_token", "")
            proven = authentication.proves_token(secrets, _authorization())
            proven = proven or authentication.proves_in_url(secrets, in_query)
            self._check(EVENTS, proven=proven)

    def _check_token(self, name: str) -> None:
        """Nothing else counts then: a secret beside it would be the weaker proof."""
        if not self._tokens[name].prove(_authorization()):
            raise _unauthenticated(name)

    def _check_reader(self) -> None:
        if self._config.read_auth is ReadAuth.TOKEN:
            tokens = self._secrets.of(READ)
            self._check(READ, proven=authentication.proves(tokens, _authorization()))

    def _check(self, name: str, *, proven: bool) -> None:
        if proven:
            return
        if not self._secrets.of(name):
            log.warning(
                "a request was refused because no secret is set for it: put one into file %s of %s",
                name,
                self._secrets.folder,
            )
        raise _unauthenticated(name)


def _unauthenticated(name: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"credentials for {name} are missing or wrong")


def _proves(source: Source, secrets: tuple[bytes, ...], in_path: str | None) -> bool:
    """By the schemes of the sender; the body is read only for who shows a signature of one."""
    if in_path is not None:
        return source.proof.in_path and authentication.proves_in_url(secrets, in_path)
    headers = _headers()
    if authentication.proves_header(source.proof, secrets, headers):
        return True
    claims = authentication.claims(source.proof, headers)
    return bool(claims and secrets) and authentication.proves_body(claims, secrets, _body())


def _unroutable(error: HTTPException) -> Any:
    """Flask's own refusals, in the same form as ours, with the headers that belong to them."""
    response = error.get_response()
    response.data = f"{error.description or error.name}\n".encode()
    response.content_type = "text/plain; charset=utf-8"
    return response


def _failed(error: Exception) -> Response:
    """A fault of ours. Flask's own way would log the path, which may hold a secret."""
    log.error("answered 500", exc_info=error)
    return _answer(500, "internal error")


def _json(value: Any) -> Response:
    return Response(json.dumps(value, indent=2) + "\n", content_type="application/json")


def _is_test_call() -> bool:
    """Harbor's TEST ENDPOINT sends neither body nor credentials."""
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    return not has_body and _authorization() is None


def _body() -> bytes:
    """The body. Of one in chunks Werkzeug cuts off what is too large, and says nothing."""
    try:
        body = request.get_data()
    except HTTPException:
        raise
    except Exception as error:
        # The server's own errors: of chunks that are none, of a connection that broke off.
        raise BadEventError(f"the body can't be read: {type(error).__name__}") from error
    if len(body) > limits.BODY_BYTES:
        raise RequestEntityTooLarge
    return body


def _accepted() -> Response:
    # A Broker takes a body that is no CloudEvent for a failure. No cache may keep a URL that has a
    # secret in it (RFC 6750, 2.3).
    return Response(status=202, headers={"Cache-Control": "private"})


def _answer(code: int, text: str) -> Response:
    return Response(f"{text}\n", status=code, content_type="text/plain; charset=utf-8")


def _authorization() -> str | None:
    return request.headers.get("Authorization")


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
