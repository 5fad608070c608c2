from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.core.changes import CheckDaemonSet, EnsureExists, TrackTag, UntrackTag
from image_puller.core.matching import NoMatch, match
from image_puller.events.event import CheckRequested, Ignored, ImageDeleted, ImagePushed, NodeJoined
from tests.support.building import NOON, at, configuration, digest


def pushed(repository="org/app", tag="1.2.4", registry="quay.io", content=None, time=None):
    return ImagePushed(registry=registry, repository=repository, tag=tag, digest=content, time=time)


def deleted(tag=None, content=None, time=None):
    return ImageDeleted(
        registry="quay.io", repository="org/app", tag=tag, digest=content, time=time
    )


def matched(config, event, source="harbor"):
    return match(config, source, event, received=NOON)


def tracked(config, event, source="harbor"):
    """The entries and tags that a push is for; none where it is refused."""
    changes = matched(config, event, source)
    return [] if isinstance(changes, NoMatch) else [(c.entry, c.tag) for c in changes]


def test_a_push_is_for_the_entry_that_names_its_repository():
    assert matched(configuration(), pushed(content=digest(1), time=at(-5))) == (
        TrackTag(entry="app", tag="1.2.4", digest=digest(1), time=at(-5)),
    )


def test_a_push_is_for_every_entry_that_names_its_repository():
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
def test_names_of_one_repository_are_one(image, registry, repository):
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
def test_a_repository_that_no_entry_names_is_refused(registry, repository):
    assert matched(configuration(), pushed(repository, registry=registry)).reason == (
        "unknown repository"
    )


def test_the_log_names_a_repository_that_is_unknown():
    assert matched(configuration(), pushed("org/other")) == NoMatch(
        reason="unknown repository", detail="no entry of IMAGES names quay.io/org/other"
    )


def test_the_log_names_the_entry_with_the_same_path_on_another_host():
    event = pushed(registry="quay-internal.svc:8080")

    assert matched(configuration(), event) == NoMatch(
        reason="unknown repository",
        detail="no entry of IMAGES names quay-internal.svc:8080/org/app, but app names "
        "quay.io/org/app; if both are the same registry, set REGISTRY_ALIASES to "
        "quay-internal.svc:8080=quay.io",
    )


def test_what_the_log_tells_to_set_helps():
    config = configuration(REGISTRY_ALIASES="quay-internal.svc:8080=quay.io")

    assert tracked(config, pushed(registry="quay-internal.svc:8080")) == [("app", "1.2.4")]


def test_a_tag_that_the_policy_refuses_is_refused_with_the_reason():
    assert matched(configuration(), pushed(tag="1.2.2")) == NoMatch(
        reason="policy: not newer",
        detail="tag 1.2.2 of quay.io/org/app: app: not newer than the configured 1.2.3",
    )


def test_the_log_has_the_reason_of_every_entry():
    config = configuration(IMAGES="a=quay.io/org/app:1.2.3;b=quay.io/org/app:latest")

    assert matched(config, pushed(tag="edge")) == NoMatch(
        reason="policy: no version",
        detail="tag edge of quay.io/org/app: a: not a full version like the configured 1.2.3; "
        "b: only the configured latest is tracked",
    )


def test_a_tag_outside_the_grammar_is_refused():
    config = configuration(IMAGE_TAG_POLICIES="app=any")

    assert matched(config, pushed(tag="1.2.4+build")).reason == "policy: not a tag"


def test_a_manifest_without_a_tag_is_refused():
    assert matched(configuration(), pushed(tag=None, content=digest(1))) == NoMatch(
        reason="untagged", detail=f"quay.io/org/app@{digest(1)} has no tag"
    )


def test_a_configured_digest_is_pinned():
    config = configuration(IMAGES=f"app=quay.io/org/app@{digest(1)}")

    assert matched(config, pushed(tag="latest")).reason == "policy: pinned"


@pytest.mark.parametrize(
    ("tag", "content"), [("1.2.4", None), (None, digest(1)), ("1.2.4", digest(1)), (None, None)]
)
def test_a_deletion_is_for_every_entry_that_names_its_repository(tag, content):
    config = configuration(IMAGES="a=quay.io/org/app:1.2.3;b=quay.io/org/app:latest;c=nginx")

    assert matched(config, deleted(tag, content, time=at(-1))) == tuple(
        UntrackTag(entry=entry, tag=tag, digest=content, time=at(-1)) for entry in "ab"
    )


def test_a_deletion_elsewhere_is_refused():
    config = configuration(IMAGES="a=nginx")

    assert matched(config, deleted()).reason == "unknown repository"


def test_a_node_that_joins_wants_the_daemonset_confirmed():
    assert matched(configuration(), NodeJoined(node="n1")) == (EnsureExists(),)


def test_a_tick_wants_the_daemonset_looked_at_whole():
    assert matched(configuration(), CheckRequested()) == (CheckDaemonSet(),)


def test_what_was_ignored_stays_ignored():
    assert matched(configuration(), Ignored(reason="pull")) == NoMatch(reason="pull")


@pytest.mark.parametrize(
    ("time", "effective"),
    [
        (None, NOON),
        (at(-3600), at(-3600)),
        (at(1), NOON),
        (at(-0.0001), at(-0.001)),
        (datetime(2026, 1, 15, 13, tzinfo=timezone(timedelta(hours=2))), at(-3600)),
    ],
)
def test_a_push_has_its_own_time_but_never_one_after_its_receipt(time, effective):
    (follow,) = matched(configuration(), pushed(time=time))

    assert follow.time == effective
    assert follow.time.tzinfo is UTC
    assert follow.time.microsecond % 1000 == 0


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
def test_an_alias_maps_the_reported_name_to_the_one_pulled_by(aliases, registry, repository, image):
    config = configuration(IMAGES=f"app={image}:1.2.3", REGISTRY_ALIASES=aliases)

    assert tracked(config, pushed(repository, registry=registry)) == [("app", "1.2.4")]


@pytest.mark.parametrize(
    ("registry", "repository"),
    [("a.local", "proxyx/app"), ("a.localx", "proxy/app"), ("a.local:80", "proxy/app")],
)
def test_an_alias_fits_whole_path_parts_only(registry, repository):
    config = configuration(
        IMAGES="app=b.local/app:1.2.3;x=b.localx/app:1.2.3",
        REGISTRY_ALIASES="a.local/proxy=b.local",
    )

    assert tracked(config, pushed(repository, registry=registry)) == []


def test_a_missing_host_is_refused_unless_the_source_is_known_to_speak_for_one():
    assert matched(configuration(), pushed(registry=None), "quay") == NoMatch(
        reason="no registry",
        detail="quay does not name the registry of org/app; set WEBHOOK_REGISTRIES to quay=<host>",
    )


@pytest.mark.parametrize(
    ("speaks_for", "repository", "image"),
    [
        ("quay.io", "org/app", "quay.io/org/app"),
        ("nexus.local:5000/docker", "org/app", "nexus.local:5000/docker/org/app"),
        ("docker.io", "nginx", "nginx"),
    ],
)
def test_a_missing_host_is_filled_in(speaks_for, repository, image):
    config = configuration(IMAGES=f"app={image}:1.2.3", WEBHOOK_REGISTRIES=f"quay={speaks_for}")

    assert tracked(config, pushed(repository, registry=None), "quay") == [("app", "1.2.4")]


def test_a_filled_in_host_is_no_other_sources():
    config = configuration(WEBHOOK_REGISTRIES="quay=quay.io")

    assert matched(config, pushed(registry=None), "harbor").reason == "no registry"


def test_the_secret_of_one_registry_does_not_push_for_another():
    config = configuration(WEBHOOK_REGISTRIES="harbor=harbor.local")

    assert matched(config, pushed(), "harbor") == NoMatch(
        reason="other registry",
        detail="quay.io/org/app is not in harbor.local, the only registry that WEBHOOK_REGISTRIES "
        "lets harbor report",
    )
    assert tracked(config, pushed(), "quay") == [("app", "1.2.4")]


@pytest.mark.parametrize(
    ("speaks_for", "is_own"),
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
def test_a_source_may_speak_for_the_beginning_of_a_path(speaks_for, is_own):
    config = configuration(WEBHOOK_REGISTRIES=f"harbor={speaks_for}")

    assert tracked(config, pushed()) == ([("app", "1.2.4")] if is_own else [])
    assert isinstance(matched(config, deleted("1.2.4")), NoMatch) is not is_own


@pytest.mark.parametrize("speaks_for", ["core.svc", "quay.io"])
def test_a_source_may_speak_for_a_registry_by_either_of_its_names(speaks_for):
    config = configuration(
        REGISTRY_ALIASES="core.svc=quay.io", WEBHOOK_REGISTRIES=f"harbor={speaks_for}"
    )

    assert tracked(config, pushed(registry="core.svc")) == [("app", "1.2.4")]
    assert tracked(config, pushed(registry=None)) == [("app", "1.2.4")]
    assert tracked(config, pushed(registry="other.svc")) == []


@given(
    registry=st.none() | st.sampled_from(["quay.io", "evil.io", "docker.io", "quay.io.evil.io"]),
    repository=st.sampled_from(["org/app", "quay.io/org/app", "app", "library/app", "io/org/app"]),
)
@settings(max_examples=50, deadline=None)
def test_whatever_a_source_says_it_pushes_for_its_own_registry_only(registry, repository):
    config = configuration(
        IMAGES="app=quay.io/org/app:1.2.3;evil=evil.io/org/app:1.2.3;hub=app:1.2.3",
        WEBHOOK_REGISTRIES="quay=evil.io",
    )

    for entry, _ in tracked(config, pushed(repository, registry=registry), "quay"):
        assert entry == "evil"
