"""The entries of `IMAGES`: which images are cached, under which name, which tags they follow."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from image_puller.config import policy, variables
from image_puller.config.policy import InvalidPolicyError, Policy
from image_puller.values.reference import Reference, parse

INSTALLER = "install-sleep"
"""The one name that no entry can have: each entry's name is that of its container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of `IMAGES`: its name, its image as written and as meant, its policy."""

    name: str
    image: str
    reference: Reference
    policy: Policy

    @property
    def tag(self) -> str | None:
        """The tag that the image is pulled by; None where a digest is configured."""
        return None if self.reference.digest else self.reference.tag or "latest"

    @property
    def label(self) -> str:
        """The tag or digest configured: what tells the configured image from followed ones."""
        return self.tag or str(self.reference.digest)

    @property
    def repository(self) -> Reference:
        """Where the image comes from, without a tag."""
        return replace(self.reference, tag=None, digest=None)

    def reference_of(self, tag: str) -> Reference:
        """The image of that tag."""
        return replace(self.reference, tag=tag, digest=None)


def parse_entries(
    text: str, policies: Mapping[str, str]
) -> tuple[tuple[Entry, ...], tuple[str, ...], tuple[str, ...]]:
    """The entries that `IMAGES` and `IMAGE_TAG_POLICIES` hold, then warnings, then problems.

    A malformed or doubled entry is a warning and stops no other one (of doubles the last counts);
    a policy that can't be read is a problem, because what to follow is then unknown.
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
            warnings.append(f"IMAGES: the name {entry.name!r} is there twice; the last one counts")
        entries[entry.name] = entry
    if not problems:
        warnings.extend(
            f"IMAGE_TAG_POLICIES: no valid entry of IMAGES is called {name!r}"
            for name in policies
            if name not in entries
        )
    return tuple(entries.values()), tuple(warnings), tuple(problems)


def _entry(item: str, policies: Mapping[str, str]) -> Entry:
    name, separator, image = (part.strip() for part in item.partition("="))
    if not separator or "=" in image or not image:
        raise ValueError("not of the form name=image")
    if variables.label(name) == INSTALLER:
        raise ValueError(f"{name!r} is the name of the container that brings the sleep")
    reference = parse(image)
    return Entry(
        name=name,
        image=image,
        reference=reference,
        policy=policy.parse(policies.get(name, "auto"), reference.tag, reference.digest),
    )
