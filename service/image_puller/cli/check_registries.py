"""The part of `image-puller check` that asks registries about configured images."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from image_puller.cli.findings import Finding, failed, ok, skipped, warning
from image_puller.config.configuration import Config
from image_puller.registries.lookup import Lookup
from image_puller.values.answers import Absent, Answer, OtherArtifact, Present, Unanswered
from image_puller.values.reference import Reference, parse

_NOT_ASKED = "ASK_REGISTRIES is false, so no registry is asked"
_SHARE_OF_IMAGES = 0.6
"""The part of the time for questions about images. The rest is for lists of tags."""
_NAMED = 5
_FIXES = (
    ("limits requests", "wait; credentials in IMAGE_PULL_SECRETS often raise the limit"),
    ("WRONG_VERSION_NUMBER", "if it has no TLS, name it in INSECURE_REGISTRIES"),
    ("record layer failure", "if it has no TLS, name it in INSECURE_REGISTRIES"),
    ("no trusted TLS connection", "name the file of its CA in REGISTRY_CA_FILE"),
    ("through the proxy", "correct HTTPS_PROXY and NO_PROXY"),
)
"""Words of the registry client about a registry that does not answer, and what to do."""
_LET_THROUGH = (
    "correct the name of the registry, or let the service reach it: look at DNS, the NetworkPolicy "
    "and HTTPS_PROXY; if it never can, set ASK_REGISTRIES=false"
)

Listing = tuple[str, ...] | Unanswered


def hosts(config: Config) -> frozenset[str]:
    """Return the registries that `RegistriesCheck` asks."""
    images = (*_images(config), parse(config.kip_image))
    return frozenset(each.registry for each in images)


class RegistriesCheck:
    """Asks registries as the service does, all of them at once.

    `lacks_secrets` says whether a pull secret could not be read. `is_running` says whether a
    container of an image runs in a pod. `seconds` returns how long the questions may take.
    """

    def __init__(
        self,
        config: Config,
        lookup: Lookup,
        *,
        lacks_secrets: Callable[[], bool],
        is_running: Callable[[str], bool],
        seconds: Callable[[], float],
    ) -> None:
        self._config = config
        self._lookup = lookup
        self._lacks_secrets = lacks_secrets
        self._is_running = is_running
        self._seconds = seconds
        self._sleep_image = parse(config.kip_image)
        self._sleep_answer: Answer = Unanswered("it was not asked")

    def registries(self) -> Iterator[Finding]:
        """Yield whether each registry answers, and has the configured images."""
        if not self._config.ask_registries:
            yield skipped("registries", _NOT_ASKED)
            return
        seconds = self._seconds()
        references = _images(self._config)
        answers = self._lookup.digests(
            [*references, self._sleep_image], seconds=seconds * _SHARE_OF_IMAGES
        )
        self._sleep_answer = answers[self._sleep_image]
        images = {each: answers[each] for each in references}
        names = dict.fromkeys(
            Reference(registry=each.registry, repository=each.repository)
            for each, answer in images.items()
            if not isinstance(answer, Unanswered)
        )
        listings = self._lookup.tags(tuple(names), seconds=seconds * (1 - _SHARE_OF_IMAGES))
        for registry in dict.fromkeys(each.registry for each in references):
            yield from of_registry(
                registry,
                {each: answer for each, answer in images.items() if each.registry == registry},
                {each: found for each, found in listings.items() if each.registry == registry},
                lacks_secrets=self._lacks_secrets(),
            )

    def sleep_image(self) -> Iterator[Finding]:
        """Yield whether the nodes can pull the sleep image."""
        yield of_sleep_image(
            self._sleep_image,
            self._sleep_answer,
            is_running=self._is_running(str(self._sleep_image)),
            is_asked=self._config.ask_registries,
            lacks_secrets=self._lacks_secrets(),
        )


def of_registry(
    registry: str,
    images: Mapping[Reference, Answer],
    listings: Mapping[Reference, Listing],
    *,
    lacks_secrets: bool,
) -> Iterator[Finding]:
    """Yield what the answers of one registry say: about itself, then about single images."""
    title = f"registry {registry}"
    answers: tuple[tuple[Reference, Answer | Listing], ...] = (*images.items(), *listings.items())
    refused, away = {}, []
    for reference, answer in answers:
        if isinstance(answer, Unanswered) and answer.is_unqueryable:
            refused[reference] = answer
        elif isinstance(answer, Unanswered):
            away.append(answer)
    if len(away) == len(answers):
        yield _unreachable(title, away[0].reason)
        return
    if refused:
        yield _refused(title, refused, lacks_secrets=lacks_secrets)
    if away:
        yield warning(
            title,
            f"{len(away)} of {len(answers)} questions have no answer: {away[0].reason}",
            "run the command again",
        )
    present = [each for each, answer in images.items() if isinstance(answer, Present)]
    if not (refused or away) and len(present) == len(images):
        many = f"all {len(images)} configured images"
        yield ok(
            title, f"it answers, and has {many if len(images) > 1 else 'the configured image'}"
        )
    for image, answer in images.items():
        yield from _of_image(image, answer)


def of_sleep_image(
    image: Reference, answer: Answer, *, is_running: bool, is_asked: bool, lacks_secrets: bool
) -> Finding:
    """Return whether nodes can pull the sleep image. One that runs somewhere was pulled there."""
    title = "sleep image"
    if isinstance(answer, Present):
        return ok(title, f"{image.registry} has {image}")
    if not is_asked:
        return ok(title, f"{image} runs on a node") if is_running else skipped(title, _NOT_ASKED)
    if isinstance(answer, Absent):
        why = f"{image.registry} does not have {image}"
        fix = "push it to that registry, or correct KIP_IMAGE"
    elif isinstance(answer, OtherArtifact):
        why = f"{image} is {answer.kind}, and no image"
        fix = "correct KIP_IMAGE"
    else:
        why = answer.reason
        fix = (
            "correct KIP_IMAGE, or name a pull secret for it in IMAGE_PULL_SECRETS"
            if answer.is_unqueryable
            else _advice(answer.reason)
        )
    if is_running:
        return warning(title, f"it runs on a node, but other nodes may lack it: {why}", fix)
    if isinstance(answer, Unanswered) and answer.is_unqueryable and lacks_secrets:
        return skipped(title, _after_secrets(why))
    return failed(title, why, fix)


def _images(config: Config) -> tuple[Reference, ...]:
    """Return the configured images of all groups, each once."""
    found = (entry.reference for group in config.all_groups for entry in group.entries)
    return tuple(dict.fromkeys(found))


def _of_image(image: Reference, answer: Answer) -> Iterator[Finding]:
    title = f"image {image}"
    if isinstance(answer, Absent):
        yield failed(
            title,
            "its registry does not have it",
            "push it, or correct its entry in IMAGES or IMAGE_GROUPS",
        )
    elif isinstance(answer, OtherArtifact):
        yield failed(
            title,
            f"it is {answer.kind}, and no image",
            "correct its entry in IMAGES or IMAGE_GROUPS",
        )


def _unreachable(title: str, reason: str) -> Finding:
    make = warning if "limits requests" in reason else failed
    return make(title, reason, _advice(reason))


def _refused(
    title: str, refused: Mapping[Reference, Unanswered], *, lacks_secrets: bool
) -> Finding:
    reasons: dict[str, list[str]] = defaultdict(list)
    for reference, answer in refused.items():
        reasons[reference.repository].append(answer.reason)
    names = _listed(sorted(reasons))
    first = next(iter(refused.values())).reason
    detail = f"it refuses access to {names}: {first}"
    if lacks_secrets:
        return skipped(title, _after_secrets(detail))
    return failed(
        title,
        detail,
        "name a pull secret in IMAGE_PULL_SECRETS whose account may pull from and list these "
        "repositories, or correct their names",
    )


def _after_secrets(why: str) -> str:
    return f"a pull secret could not be read, see above, and may be the reason: {why}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _advice(reason: str) -> str:
    return next((fix for words, fix in _FIXES if words in reason), _LET_THROUGH)
