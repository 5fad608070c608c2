"""The product's images hold what pods need and nothing else, and run like in a pod.

On nodes, test_on_nodes.py runs them with the user of the pods there. Here the tests do what a
runtime does, for any user: a read-only root, a fresh /dev, a numeric user without groups, and the
environment of the image.
"""

import io
import json
import re
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.processes import free_port
from e2e.harness.registry import HOST, Registry
from e2e.harness.workspace import Workspace, http_session
from image_puller import __version__

BUILD = Path(__file__).parent / "components" / "product-images"
OWN_USER = "65532:65532"
OPENSHIFT_USER = "1000680000:0"
SERVICE_ACCOUNT = "run/secrets/kubernetes.io/serviceaccount"  # /var/run is a link to /run
START_SECONDS = 120
# As in ELF headers, in the byte order of the architecture.
ELF_MACHINES = {
    "amd64": b"\x3e\0",
    "arm64": b"\xb7\0",
    "ppc64le": b"\x15\0",
    "s390x": b"\0\x16",
}
WHITEOUT = ".wh."
COMMANDS = re.compile(r"(.*-)?(pip|easy_install|g?cc|[gc]\+\+|cpp|clang|as|ld|make)[\d.-]*")
PACKAGES = {"pip", "setuptools", "ensurepip", "hatchling", "wheel"}

ENTER = """
set -e
root=$1 user=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir -m 1777 "$root/dev/shm"
for device in null zero random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount --bind /proc "$root/proc"
exec chroot --userspec="$user" --groups= "$root" "$@"
"""


@dataclass(frozen=True)
class Layout:
    """An image in an OCI layout."""

    folder: Path

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which the image is pulled."""
        index = json.loads((self.folder / "index.json").read_text())
        digest: str = index["manifests"][0]["digest"]
        return digest

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, with config and layers."""
        manifest: dict[str, Any] = json.loads(self._blob(self.digest).read_text())
        return manifest

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of containers: Env, User, Entrypoint and so on."""
        config: dict[str, Any] = json.loads(
            self._blob(self.manifest["config"]["digest"]).read_text()
        )["config"]
        return config

    @property
    def megabytes(self) -> float:
        """The size of the layers that a node downloads."""
        return sum(float(layer["size"]) for layer in self.manifest["layers"]) / 1e6

    def unpack(self, root: Path) -> None:
        """Unpack all layers in order, and delete what a layer deletes."""
        for layer in self.manifest["layers"]:
            with tarfile.open(self._blob(layer["digest"])) as files:
                kept = []
                for member in files:
                    path = root / member.name
                    if path.name.startswith(WHITEOUT):
                        remove(path.with_name(path.name.removeprefix(WHITEOUT)))
                    else:
                        kept.append(member)
                files.extractall(root, kept, filter="fully_trusted")

    def removed(self) -> Iterator[str]:
        """Yield the file names, without folders, that layers delete."""
        names = (Path(member.name).name for member in self._members())
        return (name.removeprefix(WHITEOUT) for name in names if name.startswith(WHITEOUT))

    def brought(self) -> set[str]:
        """Return the names of all files in layers above the base image."""
        return {member.name for member in self._members()}

    def _members(self) -> Iterator[tarfile.TarInfo]:
        _, *layers = self.manifest["layers"]
        for layer in layers:
            with tarfile.open(self._blob(layer["digest"])) as files:
                yield from files

    def _blob(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "/")


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Image:
    """An unpacked image, from which containers can run."""

    layout: Layout
    root: Path

    @classmethod
    def unpacked(cls, layout: Layout, root: Path) -> "Image":
        """Unpack an image, and create the folders on which a runtime mounts."""
        layout.unpack(root)
        for folder in ("dev", "proc"):
            (root / folder).mkdir(exist_ok=True)
        return cls(layout, root)

    def start(
        self, *command: str, user: str = OWN_USER, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a container with this command, by default that of the image."""
        own = dict(variable.split("=", 1) for variable in self.layout.config["Env"])
        enter = ["unshare", "--mount", "--", "/bin/sh", "-c", ENTER, "sh", str(self.root), user]
        return subprocess.Popen(
            enter + list(command or self.command()),
            env=own | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def command(self, *arguments: str) -> list[str]:
        """Return the entry point with these arguments, by default those of the image."""
        config = self.layout.config
        return [*config["Entrypoint"], *(arguments or config["Cmd"])]

    def run(
        self, *command: str, user: str = OWN_USER, environment: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a container to its end; return its exit code and what it printed."""
        container = self.start(*command, user=user, environment=environment)
        output, _ = container.communicate(timeout=START_SECONDS)
        return container.returncode, output.strip()


@pytest.fixture(scope="module")
def sleep(workspace: Workspace, built_sleep_image: Path) -> Image:
    """Return the sleep image."""
    return Image.unpacked(Layout(built_sleep_image), workspace.folder("sleep-image"))


@pytest.fixture(scope="module")
def service_image(workspace: Workspace, built_service_image: Path) -> Image:
    """Return the image of the service, with files of a service account like in a pod."""
    service = Image.unpacked(Layout(built_service_image), workspace.folder("service-image"))
    account = service.root / SERVICE_ACCOUNT
    account.mkdir(parents=True)
    (account / "namespace").write_text("images")
    (account / "token").write_text("none")
    shutil.copy(service.root / "etc/ssl/certs/ca-certificates.crt", account / "ca.crt")
    return service


@pytest.fixture(params=[OWN_USER, OPENSHIFT_USER], ids=["own user", "OpenShift's user"])
def user(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the user and group of the container."""
    return request.param  # type: ignore[no-any-return] # pytest does not type its params


def test_the_sleep_image_has_only_the_binary(sleep: Image) -> None:
    assert sleep.layout.config["User"] == OWN_USER
    files = [path for path in sleep.root.rglob("*") if path.is_file()]
    assert files == [sleep.root / "sleep"]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o755
    print(f"sleep image: {files[0].stat().st_size} bytes, {sleep.layout.digest}")


def test_sleep_image_sleeps(sleep: Image, user: str) -> None:
    assert sleep.run("/sleep", "--version", user=user) == (0, f"sleep {__version__}")
    assert sleep.run("/sleep", "10ms", user=user) == (0, "")


def test_two_builds_of_the_sleep_image_are_identical(sleep: Image, workspace: Workspace) -> None:
    again = workspace.folder("again")
    subprocess.run([BUILD, "--fresh", again, "sleep"], check=True)
    assert Layout(again / "sleep-image").digest == sleep.layout.digest


def test_two_builds_of_the_sleep_image_for_all_architectures_are_identical(
    sleep: Image, make_registry: Callable[..., Registry]
) -> None:
    name, digests = "all-sleep", set()
    with make_registry() as registry:
        for _ in range(2):
            subprocess.run([BUILD, "--push", f"{HOST}/all"], check=True)
            digests.add(registry.digest(name, "e2e"))
        assert len(digests) == 1
        listed = registry.manifest(name, "e2e")["manifests"]
        assert [each["platform"]["architecture"] for each in listed] == list(ELF_MACHINES)
        assert sleep.layout.digest in {each["digest"] for each in listed}
        for each, machine in zip(listed, ELF_MACHINES.values(), strict=True):
            (layer,) = registry.manifest(name, each["digest"])["layers"]
            with tarfile.open(fileobj=io.BytesIO(registry.blob(name, layer["digest"]))) as files:
                (binary,) = map(files.extractfile, files.getmembers())
                assert binary is not None
                assert binary.read(20)[18:] == machine


def test_the_entry_point_of_the_service_image_is_the_command(
    service_image: Image, user: str
) -> None:
    assert service_image.layout.config["User"] == OWN_USER
    by_entry_point = service_image.command("--version")
    assert service_image.run(*by_entry_point, user=user) == (0, __version__)
    assert service_image.run("image-puller", "--version", user=user) == (0, __version__)


def test_the_service_image_without_configuration_names_the_missing_variable(
    service_image: Image,
) -> None:
    status, output = service_image.run()
    assert status == 2
    assert "IMAGES: must be set" in output


def test_the_service_starts_as_any_user_on_a_read_only_root(
    service_image: Image, user: str
) -> None:
    port = free_port()
    environment = {
        "IMAGES": "a=registry.example/a:1",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(free_port()),
        "PORT": str(port),
    }
    started = time.monotonic()
    container = service_image.start(user=user, environment=environment)
    try:
        seconds = seconds_until_alive(container, port, started)
        container.terminate()
        output, _ = container.communicate(timeout=START_SECONDS)
    finally:
        container.kill()
    assert container.returncode == 0, output
    assert "Read-only file system" not in output
    assert "Permission denied" not in output
    print(f"/healthz answered {seconds:.2f} s after the start as {user}")


def seconds_until_alive(container: subprocess.Popen[str], port: int, started: float) -> float:
    """Return how many seconds after its start the container answers."""
    with http_session() as session:
        while container.poll() is None and time.monotonic() < started + START_SECONDS:
            try:
                if session.get(f"http://127.0.0.1:{port}/healthz", timeout=10).ok:
                    return time.monotonic() - started
            except OSError:
                time.sleep(0.005)
    container.kill()
    pytest.fail(f"no answer: {container.communicate()[0]}")


def test_the_service_image_can_import_every_module(service_image: Image) -> None:
    script = (
        "import importlib, pkgutil, image_puller\n"
        "for module in pkgutil.walk_packages(image_puller.__path__, 'image_puller.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
    )
    assert service_image.run("python3", "-c", script) == (0, "")


def test_all_modules_of_the_service_image_are_compiled(service_image: Image) -> None:
    script = (
        "import sys, image_puller.serve\n"
        "from pathlib import Path\n"
        "for module in list(sys.modules.values()):\n"
        "    cached = getattr(module, '__cached__', None)\n"
        "    if cached and not Path(cached).exists(): print(module.__file__)\n"
    )
    assert service_image.run("python3", "-c", script) == (0, "")


def test_the_service_image_has_the_same_sleep_binary(sleep: Image, service_image: Image) -> None:
    assert service_image.run("/sleep", "--version") == (0, f"sleep {__version__}")
    assert (service_image.root / "sleep").read_bytes() == (sleep.root / "sleep").read_bytes()


def test_the_default_sleep_image_is_the_one_built_with_the_service(service_image: Image) -> None:
    environment = {"IMAGES": "a=registry.example/a:1"}
    status, output = service_image.run("image-puller", "render", environment=environment)
    assert status == 0
    assert "image: localhost/kubernetes-image-puller-sleep:e2e\n" in output


def test_the_service_image_has_no_installer_and_no_compiler(service_image: Image) -> None:
    paths = [path for path in service_image.root.rglob("*") if not path.is_symlink()]
    assert [path for path in paths if path.is_file() and COMMANDS.fullmatch(path.name)] == []
    assert [path for path in paths if path.is_dir() and path.name in PACKAGES] == []


def test_pip_of_the_base_image_was_removed(service_image: Image) -> None:
    removed = set(service_image.layout.removed())
    assert {"pip3", "pip", "setuptools"} <= removed


def test_the_standard_library_of_the_base_image_was_compiled(service_image: Image) -> None:
    script = "import json; print(json.__cached__)"
    status, cached = service_image.run("python3", "-c", script)
    assert status == 0
    assert cached.removeprefix("/") in service_image.layout.brought()


def test_the_service_is_readable_by_all_and_writable_by_none(service_image: Image) -> None:
    app = service_image.root / "app"
    modes = {path: path.stat().st_mode for path in (app, *app.rglob("*"))}
    assert [path for path, mode in modes.items() if not mode & stat.S_IROTH] == []
    assert [path for path, mode in modes.items() if mode & (stat.S_IWGRP | stat.S_IWOTH)] == []


def test_only_the_cryptography_package_brings_openssl(service_image: Image) -> None:
    """docs/fips.md says so."""
    app = service_image.root / "app"
    libraries = [path for path in app.rglob("*.so*") if b"OpenSSL" in path.read_bytes()]
    assert {path.relative_to(app).parts[0] for path in libraries} == {"cryptography"}


def test_the_service_image_is_small(service_image: Image) -> None:
    megabytes = service_image.layout.megabytes
    print(f"service image: {megabytes:.1f} MB to download, {service_image.layout.digest}")
    assert megabytes < 90
