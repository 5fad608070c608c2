"""The host rules: which addresses the registry client may ask. Pure.

The first request goes to a host that `IMAGES` or an alias names. A redirect or a token realm may
lead to another host under these rules:

- The other host is asked by https only, so TLS verifies its name.
- It is never an IP address or a local name.
- A registry in `INSECURE_REGISTRIES` may also lead to another host in `INSECURE_REGISTRIES`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from urllib.parse import urljoin

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_API_HOSTS = {"docker.io": "registry-1.docker.io"}
"""The hosts of the API of registries whose references have another host."""
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[a-f0-9:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>[/?][!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_PRINTABLE = re.compile(r"[!-~]+")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_LOCAL = re.compile(r"(ip6-)?(localhost|localdomain|loopback)[46]?")


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https URL, in parts that make its host unambiguous."""

    scheme: str
    host: str
    port: str
    path: str

    @property
    def origin(self) -> tuple[str, str, str]:
        """Return scheme, host and port."""
        return (self.scheme, self.host, self.port)

    @property
    def netloc(self) -> str:
        """Return host and port as in a reference: without the default port of the scheme."""
        return self.host if self.port == _DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    def at(self, path: str) -> "Address":
        """Return the address of another path on the same origin."""
        return replace(self, path=path)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse(url: str) -> Address | None:
    """Return the parts of a URL, or None if it has a user, other characters or another scheme."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    path = (match["path"] or "/").partition("#")[0]
    port = match["port"] or _DEFAULT_PORTS[scheme]
    return Address(scheme, match["host"].lower(), port, path if path[0] == "/" else f"/{path}")


def of_registry(registry: str, insecure: Collection[str]) -> Address | None:
    """Return the root of a registry's API, or None if its name is not that of a host.

    `insecure` has the registries to ask by plain HTTP, in the form of `Address.netloc`.
    """
    host = _API_HOSTS.get(registry, registry)
    plain = parse(f"http://{host}/")
    return plain if plain and plain.netloc in insecure else parse(f"https://{host}/")


def resolve(start: Address, link: str) -> Address | None:
    """Return the target of a relative or absolute link, or None if `parse` does not accept it."""
    if not _PRINTABLE.fullmatch(link):
        return None
    try:
        return parse(urljoin(str(start), link))
    except ValueError:  # the text in brackets is no IPv6 address
        return None


def may_lead(start: Address, target: Address, insecure: Collection[str]) -> bool:
    """Whether an answer from one host may send the client to another."""
    if start.origin == target.origin:
        return True
    if target.scheme == "https":
        return not _is_local(target.host)
    return start.scheme == "http" and target.netloc in insecure


def _is_local(host: str) -> bool:
    """Whether a host is an IP address in any notation, or a name of this machine."""
    last = host.rstrip(".").rpartition(".")[2]
    return host.startswith("[") or bool(_LOCAL.fullmatch(last) or _NUMERIC.fullmatch(last))
