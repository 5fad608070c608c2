"""How to set up each sender: its URL, and the steps to take there.

The text of each source is Markdown in `guides/<source>.md`. `render` returns it in the form that
`image-puller webhook-url` prints, and `page` as the source's page in docs/registries. These marks
in the text are filled in:

`<service>`: the address at which senders reach the service; `<url>`: the URL of the source.
`<key>`: the secret, for a sender that can send it only in a URL.
`<read-secret>`: the command that reads the secret from the cluster into `$SECRET`.
`<google-account>`, `<google-audience>`: the account and the audience of Google's signed token.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from image_puller.config.configuration import Google
from image_puller.events.sources import SOURCES
from image_puller.events.sources.scheme import Scheme
from image_puller.http.authentication import EVENTS

COLUMNS = 98
"""The width of a printed comment, without the two characters of its mark."""

_MARK = re.compile(r"<([a-z-]+)>")
_HEADING = re.compile(r"^#+ ")
_INDENT = re.compile(r" *(- |[0-9]+\. )?")
_SECTION = re.compile(r"(?m)^(?=## )")
_SIGNED_SECTION = "## With Google's signed token\n"
_UNSIGNED_SECTION = "## With the secret in the URL\n"
_READ_COMMAND = (
    "SECRET=$(kubectl get secret image-puller-secrets -o jsonpath='{.data.<file>}' | base64 -d)"
)
_PAGE_ADDRESS = "https://<service>"
_PAGE_GOOGLE = Google(
    audience=f"{_PAGE_ADDRESS}/webhooks/gar",
    service_account="<account>@<project>.iam.gserviceaccount.com",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """The facts about one source. The steps are in its text.

    `authentication` replaces the text that comes from `SOURCES`. `page` is another source, if its
    page has this one too.
    """

    title: str
    url: str
    host: str
    digest: str
    authentication: str | None = None
    page: str | None = None


GUIDES: Mapping[str, Guide] = MappingProxyType(
    {
        "harbor": Guide(title="Harbor", url="<service>/webhooks/harbor", host="yes", digest="yes"),
        "quay": Guide(title="Quay", url="<with-key>/webhooks/quay", host="yes", digest="no"),
        "distribution": Guide(
            title="CNCF Distribution",
            url="<service>/webhooks/distribution",
            host="yes",
            digest="yes",
        ),
        "gitlab": Guide(
            title="GitLab",
            url="<service>/webhooks/gitlab",
            host="yes",
            digest="yes",
            page="distribution",
        ),
        "dockerhub": Guide(
            title="Docker Hub",
            url="<service>/webhooks/dockerhub/<key>",
            host="always docker.io",
            digest="no",
        ),
        "github": Guide(
            title="GitHub Packages", url="<service>/webhooks/github", host="yes", digest="yes"
        ),
        "acr": Guide(
            title="Azure Container Registry",
            url="<service>/webhooks/acr",
            host="yes",
            digest="yes",
        ),
        "ecr": Guide(
            title="Amazon ECR",
            url="<service>/webhooks/ecr",
            host="from account and region",
            digest="yes",
        ),
        "gar": Guide(
            title="Google Artifact Registry",
            url="<service>/webhooks/gar",
            host="yes",
            digest="yes",
            authentication="Google's signed token; or the secret as the last part of the URL",
        ),
        "jfrog": Guide(
            title="JFrog Artifactory",
            url="<service>/webhooks/jfrog",
            host="with a Custom Base URL",
            digest="yes",
        ),
        "nexus": Guide(
            title="Sonatype Nexus", url="<service>/webhooks/nexus", host="no", digest="no"
        ),
        "gitea": Guide(
            title="Gitea and Forgejo",
            url="<service>/webhooks/gitea",
            host="yes",
            digest="no, of tags",
        ),
        "zot": Guide(title="zot", url="<service>/webhooks/zot", host="no", digest="yes"),
        "cdevents": Guide(
            title="CDEvents",
            url="<service>/webhooks/cdevents",
            host="yes",
            digest="in the package URL, if given",
        ),
        "aliyun": Guide(
            title="Alibaba Cloud",
            url="<service>/webhooks/aliyun/<key>",
            host="from the region",
            digest="yes",
        ),
        "cloudevents": Guide(
            title="CloudEvents",
            url="<service>/",
            host="yes",
            digest="if given",
            authentication="the secret as Bearer token or as `?access_token=`; or a signed token "
            "(`EVENT_AUTH=oidc`); or nothing (`EVENT_AUTH=none`)",
        ),
    }
)
"""The guides by source, in the order of the documentation."""


def prints_secret(name: str, google: Google | None) -> bool:
    """Whether the text of a source has the secret in a URL, if the secret is known."""
    text = _url(name, google) + _text(name, google)
    return any(mark in text for mark in ("<key>", "<with-key>"))


def render(name: str, service: str, secret: bytes | None, google: Google | None) -> str:
    """Return the steps at a sender: commands and configuration, with the rest as comments.

    `service` is the address at which senders reach the service. An unknown `secret` stays a
    placeholder. With `google`, the source `gar` authenticates with its signed tokens.
    """
    key = "<secret>" if secret is None else quote(secret, safe="")
    head = f"# URL:    <url>\n# Secret: {_secret_of(name, google)}\n\n"
    head, text = (_fill(text, name, service, key, google) for text in (head, _text(name, google)))
    return head + "".join(_lines(text))


def page(name: str) -> str:
    """Return the Markdown page of a source, and of others on the same page, with placeholders."""
    sources = [each for each, guide in GUIDES.items() if name in (each, guide.page)]
    first, *others = (_section_of_page(each) for each in sources)
    return f"# {first}" + "".join(f"\n## {_with_lower_headings(other)}" for other in others)


def table() -> str:
    """Return the Markdown table of all sources."""
    rows = (
        f"| [{guide.title}]({guide.page or name}.md) | `{_path(guide)}` | {_authentication(name)} "
        f"| {guide.host} | {guide.digest} |\n"
        for name, guide in GUIDES.items()
    )
    head = "| sender | path | authentication | host in the payload | digest in the payload |\n"
    return head + "|---|---|---|---|---|\n" + "".join(rows)


def _section_of_page(name: str) -> str:
    """Return the title, without the mark of a heading, the facts and the whole text."""
    guide = GUIDES[name]
    facts = {
        "URL": f"`{_fill('<url>', name, _PAGE_ADDRESS, '<secret>', _PAGE_GOOGLE)}`",
        "authentication": _authentication(name),
        "secret": f"file `{_file(name)}` in `WEBHOOK_SECRETS_DIR`",
        "host in the payload": guide.host,
        "digest in the payload": guide.digest,
    }
    rows = "".join(f"| {fact} | {value} |\n" for fact, value in facts.items())
    text = _fill(_guide_text(name), name, _PAGE_ADDRESS, "<secret>", _PAGE_GOOGLE)
    command = f"`image-puller webhook-url {name} --url {_PAGE_ADDRESS}`"
    return (
        f"{guide.title}\n\n| fact | value |\n|---|---|\n{rows}\n"
        f"{command} prints these steps with your address and secret.\n\n{text}"
    )


def _with_lower_headings(section: str) -> str:
    """Return a section with its headings one level lower."""
    return section.replace("\n## ", "\n### ")


def _path(guide: Guide) -> str:
    return _MARK.sub(lambda mark: "<secret>" if mark[1] == "key" else "", guide.url)


def _authentication(name: str) -> str:
    return GUIDES[name].authentication or "; or ".join(_schemes(SOURCES[name].scheme))


def _schemes(scheme: Scheme) -> Iterator[str]:
    if scheme.authorization:
        yield "the secret in `Authorization`"
    for algorithm in dict.fromkeys(signature.algorithm for signature in scheme.signatures):
        headers = (
            f"`{signature.header.title()}`"
            for signature in scheme.signatures
            if signature.algorithm == algorithm
        )
        yield f"HMAC-{algorithm.upper()} in {' or '.join(headers)}"
    for header in scheme.headers:
        yield f"the secret in `{header.title()}`"
    if scheme.in_path:
        yield "the secret as the last part of the URL"


def _secret_of(name: str, google: Google | None) -> str:
    if name == "gar" and google is not None:
        return "none; Google's signed token is checked"
    return f"the content of file {_file(name)} in WEBHOOK_SECRETS_DIR"


def _file(name: str) -> str:
    return EVENTS if name == "cloudevents" else name


def _url(name: str, google: Google | None) -> str:
    url = GUIDES[name].url
    return f"{url}/<key>" if name == "gar" and google is None else url


@cache
def _guide_text(name: str) -> str:
    return (resources.files(__package__) / "guides" / f"{name}.md").read_text("utf-8")


def _text(name: str, google: Google | None) -> str:
    """Return the text of a source, without the alternative that is not configured."""
    other = _SIGNED_SECTION if google is None else _UNSIGNED_SECTION
    sections = _SECTION.split(_guide_text(name))
    return "".join(section for section in sections if not section.startswith(other))


def _fill(text: str, name: str, service: str, key: str, google: Google | None) -> str:
    """Return a text with its marks filled in. Other marks are placeholders, and stay."""
    values = {
        "service": service,
        "with-key": _with_user(service, name, key),
        "key": key,
        "google-account": google.service_account if google else "",
        "google-audience": google.audience if google else "",
        "read-secret": _READ_COMMAND.replace("<file>", _file(name)),
    }

    def fill(text: str) -> str:
        return _MARK.sub(lambda mark: values.get(mark[1], mark[0]), text)

    values["url"] = fill(_url(name, google))
    return fill(text)


def _with_user(service: str, user: str, key: str) -> str:
    parts = urlsplit(service)
    return parts._replace(netloc=f"{user}:{key}@{parts.netloc}").geturl()


def _lines(markdown: str) -> Iterator[str]:
    """Yield lines for a shell: code blocks as they are, and all other text as comments."""
    is_code = False
    for line in markdown.splitlines():
        if line.startswith("```"):
            is_code = not is_code
        elif is_code or not line:
            yield f"{line}\n"
        else:
            yield from (f"# {part}\n" for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
    """Return a line of Markdown as wrapped plain text. In a list, later lines are indented."""
    text = _HEADING.sub("", line).replace("**", "")
    indent = _INDENT.match(text)
    return textwrap.wrap(
        text,
        COLUMNS,
        subsequent_indent=" " * (indent.end() if indent else 0),
        break_long_words=False,
        break_on_hyphens=False,
    )
