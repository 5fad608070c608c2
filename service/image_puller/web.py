"""The HTTP routes: each proves who asks, reads what is bounded, and hands the events on.

Answers follow what each sender does with them: see the README's table of endpoints.
"""

import json
import logging
from collections.abc import Callable
from typing import Any, Protocol

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from image_puller import authentication, limits, sources, status
from image_puller.authentication import EVENTS, READ, Secrets
from image_puller.config import Config, EventAuth, ReadAuth
from image_puller.errors import (
    BadEventError,
    ClusterUnavailableError,
    ImagePullerError,
    UnauthenticatedError,
)
from image_puller.intake import Intake
from image_puller.metrics import Metrics
from image_puller.sources import SOURCES, Source

log = logging.getLogger(__name__)

_CLOUDEVENTS = SOURCES["cloudevents"]


class Look(Protocol):
    """What the routes show of the cluster and of the process."""

    def status(self) -> dict[str, Any]:
        """The status as JSON; raises ClusterUnavailableError."""

    def unready(self) -> str | None:
        """Why this process can't take events, or None. No API call."""


def create_app(config: Config, intake: Intake, look: Look, metrics: Metrics) -> Flask:
    """The Flask application."""
    app = Flask("image_puller", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = limits.BODY_BYTES
    secrets = Secrets(config.webhook_secrets_dir)

    @app.post("/")
    def event() -> Response:
        if config.event_auth is EventAuth.TOKEN:
            _check(
                authentication.proves_token(secrets.of(EVENTS), _authorization()),
                secrets,
                EVENTS,
            )
        events = sources.decode(_CLOUDEVENTS.name, _headers(), request.get_data())
        accept = intake.accept if config.event_auth is EventAuth.TOKEN else intake.accept_untrusted
        accept(_CLOUDEVENTS.name, events, patience=_CLOUDEVENTS.patience)
        return Response(status=202)

    @app.post("/webhooks/<name>")
    @app.post("/webhooks/<name>/<secret>")
    def webhook(name: str, secret: str | None = None) -> Response:
        source = SOURCES.get(name)
        if source is None or source is _CLOUDEVENTS:
            return _answer(404, f"no source is called {name[:40]!r}")
        if source.tests_with_empty_body and _is_test_call():
            metrics.count_event(name, "test")
            return Response(status=202)
        _authenticate(source, secrets, secret)
        _accept_webhook(source, intake, metrics)
        return Response(status=202)

    @app.route("/", methods=["OPTIONS"])
    @app.route("/webhooks/<name>", methods=["OPTIONS"])
    def handshake(name: str = "") -> Response:
        del name
        return _consent()

    @app.get("/healthz")
    def alive() -> Response:
        return _answer(200, "ok")

    @app.get("/readyz")
    def ready() -> Response:
        reason = look.unready()
        return _answer(200, "ok") if reason is None else _answer(503, reason)

    def reads(show: Callable[[], Response]) -> Response:
        if config.read_auth is ReadAuth.TOKEN:
            _check(authentication.proves(secrets.of(READ), _authorization()), secrets, READ)
        return show()

    @app.get("/status")
    def whole_status() -> Response:
        return reads(lambda: _json(look.status()))

    @app.get("/status/<path:image>")
    def image_status(image: str) -> Response:
        def show() -> Response:
            selected = status.select(look.status(), image)
            if selected is None:
                return _answer(404, f"no image is called {image[:200]!r}")
            return _json(selected)

        return reads(show)

    @app.get("/metrics")
    def counted() -> Response:
        return reads(
            lambda: Response(
                metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8"
            )
        )

    @app.errorhandler(ImagePullerError)
    def refused(error: ImagePullerError) -> Response:
        return _refuse(error, metrics)

    @app.errorhandler(HTTPException)
    def unroutable(error: HTTPException) -> Response:
        return _answer(error.code or 500, error.description or error.name)

    return app


def _accept_webhook(source: Source, intake: Intake, metrics: Metrics) -> None:
    """Everything authenticated is accepted: a registry would send it for ever, or give up on us."""
    try:
        events = sources.decode(source.name, _headers(), request.get_data())
    except RequestEntityTooLarge:
        metrics.count_event(source.name, "too large")
        log.warning("%s: a body of more than %s bytes is ignored", source.name, limits.BODY_BYTES)
    except BadEventError as error:
        metrics.count_event(source.name, "unreadable")
        log.warning("%s: a body that can't be read is ignored: %s", source.name, error)
    else:
        intake.accept(source.name, events, patience=source.patience)


def _authenticate(source: Source, secrets: Secrets, secret: str | None) -> None:
    known = secrets.of(source.name)
    if secret is not None and source.secret_in_path:
        proven = authentication.proves_path(known, secret)
    else:
        proven = secret is None and authentication.proves(known, _authorization())
    _check(proven, secrets, source.name)


def _check(proven: bool, secrets: Secrets, name: str) -> None:  # noqa: FBT001 - the one thing checked
    if proven:
        return
    if not secrets.of(name):
        log.warning(
            "a request was refused because no secret is set for it: put one into file %s of %s",
            name,
            secrets.folder,
        )
    raise UnauthenticatedError(f"credentials for {name} are missing or wrong")


def _consent() -> Response:
    """The handshake of CloudEvents' HTTP webhooks (http-webhook.md, 4): consent is in headers."""
    response = Response(status=200)
    response.headers["Allow"] = "OPTIONS, POST"
    origin = request.headers.get("WebHook-Request-Origin")
    if origin:
        response.headers["WebHook-Allowed-Origin"] = origin
        response.headers["WebHook-Allowed-Rate"] = "*"
    return response


def _refuse(error: ImagePullerError, metrics: Metrics) -> Response:
    source = request.path.split("/")[2] if request.path.startswith("/webhooks/") else "cloudevents"
    if request.method == "POST":
        metrics.count_refusal(source, error.status)
    if isinstance(error, ClusterUnavailableError):
        log.error("answered 503: %s", error)
        response = _answer(503, "try again later")
        response.headers["Retry-After"] = str(limits.RETRY_AFTER_SECONDS)
        return response
    response = _answer(error.status, str(error))
    if error.status == UnauthenticatedError.status:
        response.headers["WWW-Authenticate"] = 'Basic realm="image-puller"'
    return response


def _answer(code: int, text: str) -> Response:
    return Response(f"{text}\n", status=code, content_type="text/plain; charset=utf-8")


def _json(value: Any) -> Response:
    return Response(json.dumps(value, indent=2) + "\n", content_type="application/json")


def _is_test_call() -> bool:
    """Harbor's TEST ENDPOINT sends neither body nor credentials."""
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    return not has_body and _authorization() is None


def _authorization() -> str | None:
    return request.headers.get("Authorization")


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
