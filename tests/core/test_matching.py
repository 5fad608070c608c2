"""Matching: the entries that an event is about, and its changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core.changes import (
    Change,
    CheckDaemonSet,
    EnsureExists,
    TrackTag,
    UntrackTag,
)
from image_puller.core.matching import NoMatch, match, repository_to_check
from image_puller.events.event import (
    CheckRequested,
    DaemonSetChanged,
    Event,
    Ignored,
    ImageDeleted,
    ImagePushed,
    NodeJoined,
)
from image_puller.values.reference import parse
from tests.support.building import NOON, at, configuration, digest


def pushed(
    repository: str = "org/app",
    *,
    tag: str | None = "1.2.4",
    registry: str | None = "quay.io",
    content: str | None = None,
    time: datetime | None = None,
) -> ImagePushed:
    return ImagePushed(registry=registry, repository=repository, tag=tag, digest=content, time=time)


def deleted(
    tag: str | None = None, content: str | None = None, time: datetime | None = None
) -> ImageDeleted:
    return ImageDeleted(
        registry="quay.io", repository="org/app", tag=tag, digest=content, time=time
    )


def matched(config: Config, event: Event, source: str = "harbor") -> tuple[Change, ...] | NoMatch:
    return match(config, source, event, received=NOON)


def tracked(config: Config, event: Event, source: str = "harbor") -> list[tuple[str, str]]:
    """Return the entries and tags that a push asks to track; none where it is ignored."""
    changes = matched(config, event, source)
    found = () if isinstance(changes, NoMatch) else changes
    return [(change.entry, change.tag) for change in found if isinstance(change, TrackTag)]


def reason_of(config: Config, event: Event, source: str = "harbor") -> str:
    """Return why an event is ignored."""
    ignored = matched(config, event, source)
    assert isinstance(ignored, NoMatch)
    return ignored.reason


def test_a_push_matches_the_entry_that_names_its_repository() -> None:
    assert matched(configuration(), pushed(content=digest(1), time=at(-5))) == (
        TrackTag(entry="app", tag="1.2.4", digest=digest(1), time=at(-5)),
    )


def test_a_push_matches_every_entry_that_names_its_repository() -> None:
    config = configuration(
        IMAGES="a=quay.io/org/app:1.2.3;b=quay.io/org/other:1.2.3;c=quay.io/org/app:1.3.0;"
        "d=quay.io/org/app:latest"
    )

    assert tracked(config, pushed(tag="1.2.4")) == [("a", "1.2.4")]
    assert tracked(config, pushed(tag="1.4.0")) == [("a", "1.4.0"), ("c", "1.4.0")]
    assert tracked(config, pushed(tag="latest")) == [("d", "latest")]


@pytest.mark.parametrize(
    ("image", "registry", "repository"),
    [
        ("nginx:1.2.3", "docker.io", "library/nginx"),
        ("nginx:1.2.3", "docker.io", "nginx"),
        ("nginx:1.2.3", "index.docker.io", "library/nginx"),
        ("nginx:1.2.3", "registry-1.docker.io", "library/nginx"),
        ("docker.io/bitnami/redis:1.2.3", "registry.hub.docker.com", "bitnami/redis"),
        ("registry-1.docker.io/library/nginx:1.2.3", "docker.io", "library/nginx"),
        ("harbor.local:8443/p/app:1.2.3", "Harbor.Local:8443", "p/app"),
    ],
)
def test_different_names_of_one_repository_match(
    image: str, registry: str, repository: str
) -> None:
    event = pushed(registry=registry, repository=repository)

    assert tracked(configuration(IMAGES=f"app={image}"), event) == [("app", "1.2.4")]


@pytest.mark.parametrize(
    ("registry", "repository"),
    [
        ("quay.io", "org/app/x"),
        ("quay.io", "org/ap"),
        ("quay.io", "app"),
        ("quay.io:443", "org/app"),
    ],
)
def test_a_repository_that_no_entry_names_is_ignored(registry: str, repository: str) -> None:
    event = pushed(repository, registry=registry)

    assert reason_of(configuration(), event) == "unknown repository"


def test_the_detail_names_an_unknown_repository() -> None:
    assert matched(configuration(), pushed("org/other")) == NoMatch(
        reason="unknown repository", detail="no entry of IMAGES names quay.io/org/other"
    )


def test_the_detail_names_an_entry_with_the_same_path_on_another_host() -> None:
    event = pushed(registry="quay-internal.svc:8080")

    assert matched(configuration(), event) == NoMatch(
        reason="unknown repository",
        detail="no entry of IMAGES names quay-internal.svc:8080/org/app, but app names "
        "quay.io/org/app; if both are the same registry, set REGISTRY_ALIASES to "
        "quay-internal.svc:8080=quay.io",
    )


def test_the_alias_that_the_detail_proposes_matches() -> None:
    config = configuration(REGISTRY_ALIASES="quay-internal.svc:8080=quay.io")

    assert tracked(config, pushed(registry="quay-internal.svc:8080")) == [("app", "1.2.4")]


def test_a_tag_that_the_policy_does_not_allow_is_ignored_with_the_reason() -> None:
    assert matched(configuration(), pushed(tag="1.2.2")) == NoMatch(
        reason="policy: not newer",
        detail="tag 1.2.2 of quay.io/org/app: app: not newer than the configured 1.2.3",
    )


def test_the_detail_has_the_reason_of_every_entry() -> None:
    config = configuration(IMAGES="a=quay.io/org/app:1.2.3;b=quay.io/org/app:latest")

    assert matched(config, pushed(tag="edge")) == NoMatch(
        reason="policy: no version",
        detail="tag edge of quay.io/org/app: a: not a full version like the configured 1.2.3; "
        "b: only the configured latest is tracked",
    )


def test_a_malformed_tag_is_ignored() -> None:
    config = configuration(IMAGE_TAG_POLICIES="app=any")

    assert reason_of(config, pushed(tag="1.2.4+build")) == "policy: not a tag"


def test_a_manifest_without_a_tag_is_ignored() -> None:
    assert matched(configuration(), pushed(tag=None, content=digest(1))) == NoMatch(
        reason="untagged", detail=f"quay.io/org/app@{digest(1)} has no tag"
    )


def test_a_configured_digest_is_pinned() -> None:
    config = configuration(IMAGES=f"app=quay.io/org/app@{digest(1)}")

    assert reason_of(config, pushed(tag="latest")) == "policy: pinned"


@pytest.mark.parametrize(
    ("tag", "content"), [("1.2.4", None), (None, digest(1)), ("1.2.4", digest(1)), (None, None)]
)
def test_a_deletion_matches_every_entry_that_names_its_repository(
    tag: str | None, content: str | None
) -> None:
    config = configuration(IMAGES="a=quay.io/org/app:1.2.3;b=quay.io/org/app:latest;c=nginx")

    assert matched(config, deleted(tag, content, time=at(-1))) == tuple(
        UntrackTag(entry=entry, tag=tag, digest=content, time=at(-1)) for entry in "ab"
    )


def test_a_deletion_in_an_unknown_repository_is_ignored() -> None:
    config = configuration(IMAGES="a=nginx")

    assert reason_of(config, deleted()) == "unknown repository"


def test_a_node_that_joins_ensures_that_the_daemonset_exists() -> None:
    assert matched(configuration(), NodeJoined(node="n1")) == (EnsureExists(),)


def test_a_requested_check_checks_the_daemonset() -> None:
    assert matched(configuration(), CheckRequested()) == (CheckDaemonSet(),)


def test_a_change_of_the_daemonset_asks_for_no_change_of_the_state() -> None:
    config = configuration()
    assert matched(config, DaemonSetChanged(name=config.daemonset_name)) == ()
    assert reason_of(config, DaemonSetChanged(name="other")) == "other DaemonSet"


def test_an_ignored_event_stays_ignored() -> None:
    assert matched(configuration(), Ignored(reason="pull")) == NoMatch(reason="pull")
    detailed = Ignored(reason="subscription deleted", detail="run: …")
    assert matched(configuration(), detailed) == NoMatch(
        reason="subscription deleted", detail="run: …"
    )


@pytest.mark.parametrize(
    ("time", "effective", "own_clock"),
    [
        (None, NOON, True),
        (at(-3600), at(-3600), False),
        (at(1), at(1), False),
        (at(limits.CLOCK_TOLERANCE_SECONDS), at(limits.CLOCK_TOLERANCE_SECONDS), False),
        (at(limits.CLOCK_TOLERANCE_SECONDS + 1), NOON, True),
        (datetime(9999, 12, 31, tzinfo=UTC), NOON, True),
        (at(-0.0001), at(-0.001), False),
        (datetime(2026, 1, 15, 13, tzinfo=timezone(timedelta(hours=2))), at(-3600), False),
    ],
)
def test_a_push_has_its_own_time_but_none_far_after_its_receipt(
    time: datetime | None, effective: datetime, own_clock: bool
) -> None:
    changes = matched(configuration(), pushed(time=time))
    assert not isinstance(changes, NoMatch)
    (change,) = changes

    assert isinstance(change, TrackTag)
    assert (change.time, change.own_clock) == (effective, own_clock)
    assert change.time.tzinfo is UTC
    assert change.time.microsecond % 1000 == 0


@pytest.mark.parametrize(
    ("aliases", "registry", "repository", "image"),
    [
        ("a.local=b.local", "a.local", "org/app", "b.local/org/app"),
        ("a.local=b.local/mirror/a", "a.local", "org/app", "b.local/mirror/a/org/app"),
        ("a.local/proxy=b.local", "a.local", "proxy/org/app", "b.local/org/app"),
        ("a.local/proxy=docker.io", "a.local", "proxy/nginx", "nginx"),
        ("a.local/proxy=docker.io", "a.local", "proxy/library/nginx", "nginx"),
        ("docker.io=b.local/hub", "index.docker.io", "nginx", "b.local/hub/library/nginx"),
        ("a.local/org/app=b.local/other", "a.local", "org/app", "b.local/other"),
        ("A.Local=b.local", "a.local", "org/app", "b.local/org/app"),
        ("harbor=b.local", "harbor", "org/app", "b.local/org/app"),
        ("a.local=b.local;a.local/org=c.local", "a.local", "org/app", "c.local/app"),
        ("a.local/org=c.local;a.local=b.local", "a.local", "org/app", "c.local/app"),
        ("index.docker.io=b.local;docker.io/x=c.local", "docker.io", "x/app", "c.local/app"),
        ("a.local=b.local;b.local=c.local", "a.local", "org/app", "b.local/org/app"),
    ],
)
def test_an_alias_maps_the_reported_name_to_the_name_that_nodes_pull_by(
    aliases: str, registry: str, repository: str, image: str
) -> None:
    config = configuration(IMAGES=f"app={image}:1.2.3", REGISTRY_ALIASES=aliases)

    assert tracked(config, pushed(repository, registry=registry)) == [("app", "1.2.4")]


@pytest.mark.parametrize(
    ("registry", "repository"),
    [("a.local", "proxyx/app"), ("a.localx", "proxy/app"), ("a.local:80", "proxy/app")],
)
def test_an_alias_matches_whole_path_segments_only(registry: str, repository: str) -> None:
    config = configuration(
        IMAGES="app=b.local/app:1.2.3;x=b.localx/app:1.2.3",
        REGISTRY_ALIASES="a.local/proxy=b.local",
    )

    assert tracked(config, pushed(repository, registry=registry)) == []


def test_a_push_without_a_host_is_ignored_and_the_detail_names_the_variable() -> None:
    assert matched(configuration(), pushed(registry=None), "quay") == NoMatch(
        reason="no registry",
        detail="quay does not name the registry of org/app; set WEBHOOK_REGISTRIES to quay=<host>",
    )


@pytest.mark.parametrize(
    ("confined_to", "repository", "image"),
    [
        ("quay.io", "org/app", "quay.io/org/app"),
        ("nexus.local:5000/docker", "org/app", "nexus.local:5000/docker/org/app"),
        ("docker.io", "nginx", "nginx"),
    ],
)
def test_a_missing_host_is_taken_from_webhook_registries(
    confined_to: str, repository: str, image: str
) -> None:
    config = configuration(IMAGES=f"app={image}:1.2.3", WEBHOOK_REGISTRIES=f"quay={confined_to}")

    assert tracked(config, pushed(repository, registry=None), "quay") == [("app", "1.2.4")]


def test_the_host_of_one_source_does_not_count_for_another() -> None:
    config = configuration(WEBHOOK_REGISTRIES="quay=quay.io")

    assert reason_of(config, pushed(registry=None), "harbor") == "no registry"


def test_a_source_may_not_report_another_registry() -> None:
    config = configuration(WEBHOOK_REGISTRIES="harbor=harbor.local")

    assert matched(config, pushed(), "harbor") == NoMatch(
        reason="other registry",
        detail="quay.io/org/app is not in harbor.local, the only registry that WEBHOOK_REGISTRIES "
        "lets harbor report",
    )
    assert tracked(config, pushed(), "quay") == [("app", "1.2.4")]


@pytest.mark.parametrize(
    ("confined_to", "is_own"),
    [
        ("quay.io", True),
        ("Quay.io", True),
        ("quay.io/org", True),
        ("quay.io/org/app", True),
        ("quay.io/or", False),
        ("quay.io/other", False),
        ("quay.io:443", False),
        ("quay.i", False),
    ],
)
def test_a_source_may_be_confined_to_the_beginning_of_a_path(
    confined_to: str, is_own: bool
) -> None:
    config = configuration(WEBHOOK_REGISTRIES=f"harbor={confined_to}")

    assert tracked(config, pushed()) == ([("app", "1.2.4")] if is_own else [])
    assert isinstance(matched(config, deleted("1.2.4")), NoMatch) is not is_own


@pytest.mark.parametrize("confined_to", ["core.svc", "quay.io"])
def test_a_source_may_be_confined_to_a_registry_by_either_of_its_names(confined_to: str) -> None:
    config = configuration(
        REGISTRY_ALIASES="core.svc=quay.io", WEBHOOK_REGISTRIES=f"harbor={confined_to}"
    )

    assert tracked(config, pushed(registry="core.svc")) == [("app", "1.2.4")]
    assert tracked(config, pushed(registry=None)) == [("app", "1.2.4")]
    assert tracked(config, pushed(registry="other.svc")) == []


@given(
    registry=st.none() | st.sampled_from(["quay.io", "evil.io", "docker.io", "quay.io.evil.io"]),
    repository=st.sampled_from(["org/app", "quay.io/org/app", "app", "library/app", "io/org/app"]),
)
@settings(max_examples=50, deadline=None)
def test_no_event_of_a_confined_source_matches_another_registry(
    registry: str | None, repository: str
) -> None:
    config = configuration(
        IMAGES="app=quay.io/org/app:1.2.3;evil=evil.io/org/app:1.2.3;hub=app:1.2.3",
        WEBHOOK_REGISTRIES="quay=evil.io",
    )

    for entry, _ in tracked(config, pushed(repository, registry=registry), "quay"):
        assert entry == "evil"


# Repositories to check


@pytest.mark.parametrize(
    ("policy", "tag", "is_checked"),
    [
        ("auto", "latest", True),
        ("auto", "1.2", True),
        ("auto", "1.2.4", False),
        ("exact", "1.2.4", True),
        ("semver:<2", "2.0.0", True),
        ("any", "latest", False),
        ("pinned", "latest", False),
    ],
)
def test_a_repository_is_checked_after_a_push_that_the_policy_does_not_track(
    policy: str, tag: str, is_checked: bool
) -> None:
    config = configuration(IMAGE_TAG_POLICIES=f"app={policy}")
    found = repository_to_check(config, "harbor", pushed(tag=tag))
    assert found == (parse("quay.io/org/app") if is_checked else None)


def test_a_repository_is_checked_although_another_entry_tracks_the_push() -> None:
    config = configuration(IMAGES="a=quay.io/org/app:latest;b=quay.io/org/app:1.2.3")
    found = repository_to_check(config, "harbor", pushed(tag="latest"))
    assert found == parse("quay.io/org/app")


def test_a_source_can_not_cause_a_check_of_a_registry_that_it_may_not_report() -> None:
    config = configuration(WEBHOOK_REGISTRIES="harbor=harbor.local")
    assert repository_to_check(config, "harbor", pushed(tag="latest")) is None


# Registries that do not distinguish the case of tags


@pytest.mark.parametrize(
    ("configured", "policy", "reported", "expected"),
    [
        ("2.7.18.RELEASE", "auto", "2.7.19.release", "2.7.19.RELEASE"),
        ("V1.2.3-Alpine", "auto", "v1.2.4-alpine", "V1.2.4-Alpine"),
        ("1.2.3-RC1", "auto", "1.2.3-rc2", "1.2.3-rc2"),
        ("Nightly", "auto", "nightly", "Nightly"),
        ("Nightly", "exact", "nightly", "Nightly"),
        ("main", "glob:*-RELEASE", "1-release", "1-RELEASE"),
        ("1.2.3", "auto", "1.2.4", "1.2.4"),
    ],
)
def test_a_tag_in_lower_case_is_spelled_as_the_policy_tracks_it(
    configured: str, policy: str, reported: str, expected: str
) -> None:
    config = configuration(
        IMAGES=f"app=quay.io/org/app:{configured}", IMAGE_TAG_POLICIES=f"app={policy}"
    )
    event = replace(pushed(tag=reported), folds_case=True)
    assert tracked(config, event, "gitea") == [("app", expected)]
    assert repository_to_check(config, "gitea", event) is None
    changes = matched(config, replace(deleted(reported), folds_case=True))
    assert not isinstance(changes, NoMatch)
    assert [change.tag for change in changes if isinstance(change, UntrackTag)] == [expected]


@pytest.mark.parametrize("tag", ["2.7.19.beta", "2.7.17.release", "other"])
def test_a_tag_in_lower_case_that_no_spelling_fits_is_ignored(tag: str) -> None:
    config = configuration(IMAGES="app=quay.io/org/app:2.7.18.RELEASE")
    event = replace(pushed(tag=tag), folds_case=True)
    assert reason_of(config, event).startswith("policy: ")


def test_other_registries_distinguish_the_case_of_tags() -> None:
    config = configuration(IMAGES="app=quay.io/org/app:2.7.18.RELEASE")
    assert reason_of(config, pushed(tag="2.7.19.release")) == "policy: other shape"


def test_the_proposed_alias_is_that_of_the_other_host_of_the_payload() -> None:
    config = configuration(IMAGES="a=a.example.com/org/app:1.2.3;b=b.example.com/org/app:1.2.3")
    event = replace(pushed(registry="registry:5000"), other_host="B.example.com")
    ignored = matched(config, event)
    assert isinstance(ignored, NoMatch)
    assert "but b names b.example.com/org/app" in ignored.detail
    assert ignored.detail.endswith("set REGISTRY_ALIASES to registry:5000=b.example.com")
