"""The entries of `IMAGES`: each with its name, its image and its policy."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from image_puller.config import policy, variables
from image_puller.config.policy import InvalidPolicyError, Policy
from image_puller.values.reference import Reference, parse

INSTALL_CONTAINER = "install-sleep"
"""The install container, and the volume that it installs to."""
COMMON_CONTAINER = "held-images"
"""The common container, which holds images by volumes."""
_RESERVED = {INSTALL_CONTAINER: "the install container", COMMON_CONTAINER: "the common container"}
"""No entry can have these names, because it names a container and a volume too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of `IMAGES`. `reference` is the parsed form of `image`."""

    name: str
    image: str
    reference: Reference
    policy: Policy

    @property
    def tag(self) -> str | None:
        """Return the configured tag, or None where a digest is configured."""
        return self.reference.pull_tag

    @property
    def configured(self) -> str:
        """Return the configured tag or digest."""
        return self.tag or str(self.reference.digest)

    @property
    def repository(self) -> Reference:
        """Return the image's repository."""
        return replace(self.reference, tag=None, digest=None)

    def reference_of(self, tag: str) -> Reference:
        """Return the image of another tag in the same repository."""
        return replace(self.reference, tag=tag, digest=None)


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in a text of entries, valid or not."""
    return tuple(item.partition("=")[0].strip() for item in variables.items(text))


def parse_entries(
    text: str, policies: Mapping[str, str], elsewhere: Collection[str] | None = ()
) -> tuple[tuple[Entry, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the entries of `IMAGES` and `IMAGE_TAG_POLICIES`, then warnings, then problems.

    A malformed entry gives a warning and is left out. Of two entries with one name the last counts.
    A malformed policy gives a problem, because the service can't know which tags to track.
    A policy of no entry gives a warning, unless another group has the entry: `elsewhere` has their
    names. None means that any may have it.
    """
    entries: dict[str, Entry] = {}
    warnings, problems = [], []
    for item in variables.items(text):
        try:
            entry = _entry(item, policies)
        except InvalidPolicyError as error:
            problems.append(f"IMAGE_TAG_POLICIES: {item.partition('=')[0].strip()}: {error}")
            continue
        except ValueError as error:
            warnings.append(f"IMAGES: {variables.quoted(item)}: {error}; the entry is ignored")
            continue
        if entries.pop(entry.name, None):
            warnings.append(f"IMAGES: the name {entry.name!r} is used twice; the last entry counts")
        entries[entry.name] = entry
    if not problems and elsewhere is not None:
        warnings.extend(
            f"IMAGE_TAG_POLICIES: no valid entry of IMAGES is called {name!r}"
            for name in policies
            if name not in entries and name not in elsewhere
        )
    return tuple(entries.values()), tuple(warnings), tuple(problems)


def _entry(item: str, policies: Mapping[str, str]) -> Entry:
    name, separator, image = (part.strip() for part in item.partition("="))
    if not separator or "=" in image or not image:
        raise ValueError("not of the form name=image")
    if variables.dns_label(name) in _RESERVED:
        raise ValueError(f"{name!r} is the name of {_RESERVED[name]}; choose another name")
    reference = parse(image)
    return Entry(
        name=name,
        image=image,
        reference=reference,
        policy=policy.parse(policies.get(name, "auto"), reference.tag, reference.digest),
    )
