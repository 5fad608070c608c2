"""The status page: who gets HTML, and how it is rendered. `core.page` has what it shows."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from types import MappingProxyType
from urllib.parse import urlsplit

from flask import Flask, Response, render_template, request
from jinja2 import StrictUndefined
from markupsafe import Markup

from image_puller.core.page import ImagePage, NodePage, Overview
from image_puller.logs import escaped, shortened

_FOLDER = resources.files("image_puller.http") / "templates"
_STYLE = (_FOLDER / "style.css").read_text("utf-8")
_SCRIPT = (_FOLDER / "refresh.js").read_text("utf-8")
_SIGNS: Mapping[str, str] = MappingProxyType(
    {
        "held": "✓",
        "warm": "✓",
        "complete": "✓",
        "failing": "✗",
        "blocked": "✗",
        "quarantined": "✗",
        "refused": "✗",
        "not written": "✗",
        "no DaemonSet": "✗",
        "no pod": "!",
        "not warm": "…",
        "on node": "…",
        "pulling": "…",
        "waiting": "…",
        "pending": "…",
        "unverified": "…",
        "in progress": "…",
    }
)
"""The signs before words of states, so that colour is not the only sign."""
_DIGITS = 8


def _hash(text: str) -> str:
    """Return the source of a policy that allows this text only."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "; ".join(
            (
                "default-src 'none'",
                f"style-src {_hash(_STYLE)}",
                f"script-src {_hash(_SCRIPT)}",
                "connect-src 'self'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        ),
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)


def prepare(app: Flask) -> None:
    """Let an application render the pages."""
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.finalize = _visible
    app.jinja_env.filters |= {
        "breakable": _breakable,
        "short": shortened,
        "sign": _sign,
        "time": _time,
        "visible": escaped,
    }
    # Both are our own files, and the policy allows only these texts.
    app.jinja_env.globals |= {"style": Markup(_STYLE), "script": Markup(_SCRIPT)}  # noqa: S704
    app.jinja_env.globals["top"] = _top


def is_asked_for() -> bool:
    """Whether the request prefers HTML to JSON, as that of a browser does."""
    accepted = request.accept_mimetypes
    return bool(accepted["text/html"] > accepted["application/json"])


def number(parameter: str) -> int:
    """Return the number of the page of a table that the request asks for."""
    text = request.args.get(parameter, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else 1


def rendered(template: str, page: Overview | ImagePage | NodePage) -> Response:
    """Return a page. Equal pages have equal tags, so a browser that has it gets 304."""
    response = _html(render_template(template, page=page))
    response.set_etag(hashlib.sha256(response.data).hexdigest()[:32])
    response.make_conditional(request)
    return response


def missing(text: str) -> Response:
    """Return the page of a 404."""
    response = _html(render_template("missing.html", text=text))
    response.status_code = 404
    return response


def varying(response: Response) -> Response:
    """Return a response that caches keep apart from the page of the same URL."""
    response.headers["Vary"] = "Accept"
    return response


def _top() -> str:
    """Return the way from this page to the first one.

    No link begins at the root of the host, so that a proxy may serve the pages below any path.
    A browser counts the slashes of the path that it sent.
    """
    path = urlsplit(request.environ["RAW_URI"]).path
    return "../" * (path.count("/") - 1) or "./"


def _html(text: str) -> Response:
    response = Response(text, content_type="text/html; charset=utf-8", headers=dict(_HEADERS))
    return varying(response)


def _visible(value: object) -> object:
    """Return a value of a template. A text from outside can't hide what stands beside it."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return escaped(str(value)) if is_text else value


def _breakable(name: str) -> Markup:
    """Return the name of an image, whose lines break behind slashes."""
    return Markup("/<wbr>").join(escaped(name).split("/"))


def _time(time: datetime) -> Markup:
    """Return a time in UTC. It is absolute, so that an unchanged page stays the same."""
    utc = time.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    )


def _sign(state: str) -> Markup:
    """Return a state with its sign."""
    text = escaped(state)
    name = text.replace(" ", "-").lower()
    return Markup('<span class="state {}"><span aria-hidden="true">{}</span> {}</span>').format(
        name, _SIGNS.get(state, "·"), text
    )
