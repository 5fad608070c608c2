"""The keys of an issuer: fetched from a real server, kept, rotated, and not read too often."""

import gzip
import itertools
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import responses
from kubernetes.client import ApiClient

from image_puller import limits
from image_puller.cluster.client import KubernetesCluster
from image_puller.errors import KeysUnavailableError
from image_puller.http import key_sets
from image_puller.http.key_sets import CachedKeys, from_file, from_issuer, from_url
from image_puller.http.oidc import GOOGLE_KEYS, KeySet, key_set
from tests.support.building import configuration
from tests.support.clock import Seconds
from tests.support.dripping import BODY, CONTINUE, HEADERS, STATUS, DrippingServer
from tests.support.installation import Installation
from tests.support.issuer import Issuer
from tests.support.waiting import TIMEOUT_SECONDS

AGAIN = limits.KEYS_AGAIN_SECONDS


class KeyReader:
    """Reads the keys of an issuer. It counts the reads, and fails while `broken`."""

    def __init__(self) -> None:
        self.issuer = Issuer("ES256")
        self.reads = 0
        self.broken = False

    def __call__(self) -> KeySet:
        self.reads += 1
        if self.broken:
            raise KeysUnavailableError("it does not answer")
        return key_set(self.issuer.document())


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def reader() -> KeyReader:
    return KeyReader()


@pytest.fixture
def keys(reader: KeyReader, clock: Seconds) -> CachedKeys:
    return CachedKeys(reader, clock=clock)


def test_keys_are_read_at_first_use_and_then_kept(
    keys: CachedKeys, reader: KeyReader, clock: Seconds
) -> None:
    assert reader.reads == 0
    for _ in range(3):
        assert "first" in keys.current("first").keys
        clock.now += limits.KEYS_LAST_SECONDS / 3
    assert reader.reads == 1


def test_old_keys_are_read_again_so_a_withdrawn_key_is_no_longer_valid(
    keys: CachedKeys, reader: KeyReader, clock: Seconds
) -> None:
    reader.issuer.rotate("second")
    keys.current("first")
    reader.issuer.withdraw("first")
    clock.now += limits.KEYS_LAST_SECONDS
    assert "first" in keys.current("first").keys
    clock.now += 1
    assert set(keys.current("first").keys) == {"second"}
    assert reader.reads == 2


def test_new_key_is_found(keys: CachedKeys, reader: KeyReader, clock: Seconds) -> None:
    keys.current("first")
    reader.issuer.rotate("second")
    clock.now += AGAIN
    assert set(keys.current("second").keys) == {"first", "second"}
    assert "first" in keys.current("first").keys
    assert reader.reads == 2


def test_forged_key_ids_cause_few_reads_and_block_no_valid_key(
    keys: CachedKeys, reader: KeyReader, clock: Seconds
) -> None:
    keys.current("first")
    for step in range(100):
        clock.now += AGAIN / 10
        try:
            assert f"forged{step}" not in keys.current(f"forged{step}").keys
        except KeysUnavailableError as error:
            assert f"have no key 'forged{step}'" in str(error)  # noqa: PT017
        assert "first" in keys.current("first").keys
    assert reader.reads == 1 + 10


def test_unknown_key_is_rejected_only_after_a_recent_read(
    keys: CachedKeys, reader: KeyReader, clock: Seconds
) -> None:
    keys.current("first")
    reader.issuer.rotate("second")
    clock.now += AGAIN - 1
    with pytest.raises(KeysUnavailableError):
        keys.current("second")
    clock.now += 1
    assert "second" in keys.current("second").keys
    assert "third" not in keys.current("third").keys  # the keys were read just now
    assert reader.reads == 2


def test_failed_read_is_repeated_after_a_while(
    keys: CachedKeys, reader: KeyReader, clock: Seconds
) -> None:
    reader.broken = True
    for _ in range(3):
        with pytest.raises(KeysUnavailableError, match="it does not answer"):
            keys.current("first")
    assert reader.reads == 1
    reader.broken = False
    clock.now += AGAIN
    assert "first" in keys.current("first").keys
    assert reader.reads == 2


def test_known_keys_stay_valid_for_a_limited_time_while_reads_fail(
    keys: CachedKeys, reader: KeyReader, clock: Seconds
) -> None:
    keys.current("first")
    reader.broken = True
    clock.now += AGAIN
    with pytest.raises(KeysUnavailableError):
        keys.current("second")
    assert "first" in keys.current("first").keys
    clock.now += limits.KEYS_LAST_SECONDS
    for _ in range(2):
        with pytest.raises(KeysUnavailableError):
            keys.current("first")
    assert reader.reads == 3


def test_one_thread_reads_the_keys_while_the_others_wait() -> None:
    issuer = Issuer("ES256")
    reading, done = threading.Event(), threading.Event()
    reads: list[int] = []

    def read() -> KeySet:
        reads.append(1)
        reading.set()
        assert done.wait(TIMEOUT_SECONDS)
        return key_set(issuer.document())

    keys = CachedKeys(read)
    found: list[KeySet] = []
    threads = [
        threading.Thread(target=lambda: found.append(keys.current("first"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert reading.wait(TIMEOUT_SECONDS)
    done.set()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    assert len(found) == 8
    assert len(reads) == 1


def test_wait_for_another_thread_ends_at_the_timeout() -> None:
    reading, done = threading.Event(), threading.Event()

    def read() -> KeySet:
        reading.set()
        assert done.wait(TIMEOUT_SECONDS)
        raise KeysUnavailableError("it does not answer")

    keys = CachedKeys(read, answer_seconds=0.01)

    def ask() -> None:
        with pytest.raises(KeysUnavailableError, match="it does not answer"):
            keys.current("a")

    first = threading.Thread(target=ask)
    first.start()
    assert reading.wait(TIMEOUT_SECONDS)
    with pytest.raises(KeysUnavailableError, match="still being read"):
        keys.current("b")
    done.set()
    first.join(TIMEOUT_SECONDS)


# Over HTTP


class KeyServer:
    """A real server of one document. With `drip`, the document never ends."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.drip = False
        self.asked: list[dict[str, str]] = []
        self.stopped = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(dict(self.headers))
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if not outer.drip:
                    self.wfile.write(outer.body)
                while outer.drip and not outer.stopped.wait(0.01):
                    try:
                        self.wfile.write(b" ")
                    except OSError:
                        return

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    started = KeyServer()
    yield started
    started.close()


def test_keys_are_read_from_a_url(server: KeyServer) -> None:
    server.body = Issuer().document()
    assert set(from_url(server.url).keys) == {"first"}
    assert server.asked[0]["Accept"] == "application/jwk-set+json, application/json"


def test_request_for_keys_has_no_credentials(
    server: KeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.body = Issuer().document()
    from_url(server.url)
    assert "Authorization" not in server.asked[0]


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (404, {}, b"{}", "it answered 404"),
        (500, {}, b"", "it answered 500"),
        (302, {"Location": "http://127.0.0.1:1/"}, b"", "it answered 302"),
        (200, {}, b"<html>", "not JSON"),
        (200, {}, b'{"keys": []}', "no key with an id"),
        (200, {}, b" " * (limits.KEYS_BYTES + 1), f"longer than {limits.KEYS_BYTES} bytes"),
        (200, {"Content-Encoding": "gzip"}, gzip.compress(b"{}", mtime=0), "not JSON"),
        (200, {"Content-Length": "100"}, b"{}", "IncompleteRead"),
    ],
)
def test_error_about_an_unusable_answer_has_its_url(
    server: KeyServer, status: int, headers: dict[str, str], body: bytes, reason: str
) -> None:
    server.status, server.headers, server.body = status, headers, body
    with pytest.raises(KeysUnavailableError) as failed:
        from_url(server.url)
    assert str(failed.value).startswith(f"token keys can't be read from {server.url}: ")
    assert reason in str(failed.value)
    assert len(server.asked) == 1


def test_endless_answer_is_an_error(server: KeyServer) -> None:
    later = itertools.count(step=limits.KEYS_ANSWER_SECONDS)
    server.drip = True
    with pytest.raises(KeysUnavailableError, match="it answers too slowly"):
        from_url(server.url, clock=lambda: next(later))


@pytest.mark.parametrize("start", [b"", STATUS, HEADERS, CONTINUE, BODY])
def test_answer_that_drips_is_cut_off_at_the_deadline_and_its_connection_closed(
    start: bytes,
) -> None:
    began = time.monotonic()
    with DrippingServer(start) as server:
        with pytest.raises(KeysUnavailableError, match=f"http://{server.host}/keys: "):
            from_url(f"http://{server.host}/keys", seconds=0.2)
        assert time.monotonic() - began < 1
        assert server.closed.wait(TIMEOUT_SECONDS)


def test_error_about_an_unreachable_server_has_its_url(server: KeyServer) -> None:
    server.close()
    message = r"token keys can't be read from http://127\.0\.0\.1"
    with pytest.raises(KeysUnavailableError, match=message):
        from_url(server.url)


@responses.activate
def test_keys_of_google_are_read_from_google() -> None:
    responses.get(GOOGLE_KEYS, body=Issuer().document())
    keys = key_sets.of(GOOGLE_KEYS, lambda: ("", b""))
    assert "first" in keys.current("first").keys
    responses.assert_call_count(GOOGLE_KEYS, 1)


# From a file


def test_keys_are_read_from_a_file_and_again_after_a_change(tmp_path: Path, clock: Seconds) -> None:
    issuer = Issuer("ES256")
    file = tmp_path / "jwks.json"
    file.write_bytes(issuer.document())
    keys = key_sets.of(file, lambda: ("", b""), clock=clock)
    assert "first" in keys.current("first").keys
    clock.now += limits.KEYS_AGAIN_SECONDS + 1
    issuer.rotate("second")
    issuer.withdraw("first")
    file.write_bytes(issuer.document())
    assert set(keys.current("first").keys) == {"second"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"{", "not JSON"),
        (b" " * (limits.KEYS_BYTES + 1), f"longer than {limits.KEYS_BYTES} bytes"),
    ],
)
def test_error_about_an_unusable_file_has_its_path(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_bytes(content)
    message = f"token keys can't be read from file {file}: .*{reason}"
    with pytest.raises(KeysUnavailableError, match=message):
        from_file(file)


# From the API server


@pytest.fixture
def kubernetes(api: ApiClient) -> KubernetesCluster:
    return KubernetesCluster(api, configuration())


def publish(installation: Installation, issuer: Issuer) -> None:
    """Publish keys as an API server does. `e2e/test_oidc.py` asks a real one."""
    keys = json.loads(issuer.document())
    installation.cluster.documents["/openid/v1/jwks"] = keys
    described = {"issuer": "https://kubernetes.default.svc", "jwks_uri": "https://elsewhere/"}
    installation.cluster.documents["/.well-known/openid-configuration"] = described


def test_keys_and_issuer_are_read_from_the_api_server(
    installation: Installation, kubernetes: KubernetesCluster
) -> None:
    publish(installation, Issuer())
    found = key_sets.of(None, kubernetes.issuer).current("first")
    assert found.issuer == "https://kubernetes.default.svc"
    assert set(found.keys) == {"first"}


def test_error_of_the_api_server_is_reported(
    installation: Installation, kubernetes: KubernetesCluster
) -> None:
    with pytest.raises(
        KeysUnavailableError, match="token keys can't be read from the API server: 404"
    ):
        from_issuer(kubernetes.issuer)
    publish(installation, Issuer())
    for status in (401, 403, 500):
        installation.cluster.fail(path="/openid/v1/jwks", status=status)
        with pytest.raises(
            KeysUnavailableError, match="token keys can't be read from the API server"
        ):
            from_issuer(kubernetes.issuer)
    installation.cluster.documents["/openid/v1/jwks"] = {}
    with pytest.raises(
        KeysUnavailableError, match="token keys can't be read from the API server: it has no list"
    ):
        from_issuer(kubernetes.issuer)
