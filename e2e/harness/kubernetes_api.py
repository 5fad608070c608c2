"""A client of the Kubernetes API that takes paths and returns JSON."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from e2e.harness.workspace import TIMEOUT_SECONDS, http_session

Json = dict[str, Any]

APPLY_PATCH = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused a request: its HTTP status code, and its Status object if any."""

    def __init__(self, response: requests.Response) -> None:
        self.code = response.status_code
        self.status: Json = {}
        if response.headers.get("Content-Type", "").startswith("application/json"):
            self.status = response.json()
        request = response.request
        message = self.status.get("message", response.text)
        super().__init__(f"{request.method} {request.url}: {self.code} {message}")


@dataclass(frozen=True, kw_only=True)
class KubernetesApi:
    """The Kubernetes API for the owner of a token.

    Keyword arguments are query parameters (`dryRun="All"`). Each request opens a connection,
    because the API server can have restarted since the last one.
    """

    url: str
    ca: Path
    token: str = field(repr=False)

    def get(self, path: str, **query: str) -> Json:
        """Read an object or a list."""
        return self._json("GET", path, query)

    def text(self, path: str) -> str:
        """Read a text, such as a log."""
        return self._send("GET", path).text

    def post(self, path: str, body: Json, **query: str) -> Json:
        """Create an object."""
        return self._json("POST", path, query, json=body)

    def patch(self, path: str, body: Json | list[Json], **query: str) -> Json:
        """Change an object: by JSON Patch if the body is a list, else by merge patch."""
        content_type = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        return self._json("PATCH", path, query, json=body, headers={"Content-Type": content_type})

    def apply(self, path: str, body: Json, **query: str) -> Json:
        """Create or change an object by server-side apply."""
        query = {"fieldManager": "e2e", "force": "true"} | query
        return self._json("PATCH", path, query, json=body, headers={"Content-Type": APPLY_PATCH})

    def delete(self, path: str, **query: str) -> Json:
        """Delete an object, without waiting until it is gone."""
        return self._json("DELETE", path, query)

    def _json(self, method: str, path: str, query: dict[str, str], **body: Any) -> Json:
        answer: Json = self._send(method, path, params=query, **body).json()
        return answer

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        with http_session() as session:
            session.headers["Authorization"] = f"Bearer {self.token}"
            session.verify = str(self.ca)
            response = session.request(method, self.url + path, timeout=TIMEOUT_SECONDS, **options)
        if not response.ok:
            raise ApiError(response)
        return response
