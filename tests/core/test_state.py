import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller import limits
from image_puller.core import daemonset, decide
from image_puller.core.state import (
    Blocked,
    Followed,
    Refused,
    State,
    Tag,
    UnknownSchemaError,
    UnreadableStateError,
    Unverified,
    decode,
    encode,
    fits,
    trimmed,
)
from image_puller.errors import ImagePullerError
from tests.support.building import NOON, at, configuration, digest, push, state_of

texts = st.text(max_size=8)
times = st.integers(0, 10**9).map(lambda milliseconds: at(milliseconds / 1000)) | st.just(NOON)
tags = st.lists(
    st.builds(
        Tag,
        name=texts,
        digest=st.none() | texts,
        time=times,
        moved=st.booleans(),
        again=st.booleans(),
        seen=st.booleans(),
    ),
    max_size=3,
).map(tuple)
states = st.builds(
    State,
    configuration=texts,
    structure=texts,
    template=texts,
    changed=st.none() | times,
    refreshed=st.none() | times,
    blocked=st.none() | st.builds(Blocked, template=texts, reason=texts),
    entries=st.dictionaries(
        texts,
        st.builds(
            Followed,
            image=texts,
            tags=tags,
            applied=st.none() | tags,
            refused=st.lists(
                st.builds(Refused, name=texts, digest=st.none() | texts, reason=texts), max_size=2
            ).map(tuple),
            unverified=st.lists(
                st.builds(
                    Unverified, tag=texts, digest=st.none() | texts, time=times, reason=texts
                ),
                max_size=2,
            ).map(tuple),
        ),
        max_size=3,
    ),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(NOON.isoformat()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)

FULL = State(
    configuration="c0ffee",
    structure="5eed",
    template="ab1e",
    changed=at(0),
    refreshed=at(0.5),
    blocked=Blocked(template="0ff", reason="no 'é'"),
    entries={
        "app": Followed(
            image="quay.io/org/app:1.2.3",
            tags=(
                Tag(name="1.2.5", digest=None, time=at(2), again=True, seen=True),
                Tag(name="1.2.4", digest=digest(1), time=at(1), moved=True),
            ),
            applied=(Tag(name="1.2.4", digest=digest(1), time=at(1), moved=True),),
            refused=(Refused(name="1.2.6", digest=None, reason="quota"),),
            unverified=(Unverified(tag="1.2.7", digest=None, time=at(3), reason="401"),),
        ),
        "web": Followed(image="nginx"),
    },
)
TEXT = (
    '{"schema":1,"configuration":"c0ffee","structure":"5eed","template":"ab1e",'
    '"changed":"2026-01-15T12:00:00.000Z","refreshed":"2026-01-15T12:00:00.500Z",'
    '"blocked":{"template":"0ff","reason":"no \'é\'"},"entries":{"app":{'
    '"image":"quay.io/org/app:1.2.3","tags":['
    '{"tag":"1.2.5","digest":null,"time":"2026-01-15T12:00:02.000Z","again":true,'
    '"seen":true},'
    f'{{"tag":"1.2.4","digest":"{digest(1)}","time":"2026-01-15T12:00:01.000Z","moved":true}}],'
    f'"applied":[{{"tag":"1.2.4","digest":"{digest(1)}","time":"2026-01-15T12:00:01.000Z",'
    '"moved":true}],"refused":[{"tag":"1.2.6","digest":null,"reason":"quota"}],'
    '"unverified":[{"tag":"1.2.7","digest":null,"time":"2026-01-15T12:00:03.000Z",'
    '"reason":"401"}]},'
    '"web":{"image":"nginx","tags":[],"applied":null}}}'
)


def test_a_state_is_written_as_one_line_of_json():
    assert encode(FULL) == TEXT


def test_a_written_state_is_read():
    assert decode(TEXT) == FULL


def test_entries_keep_their_order():
    assert list(decode(encode(FULL)).entries) == ["app", "web"]


def test_where_space_is_short_the_newest_unverified_pushes_stay_without_their_reasons():
    pushes = tuple(
        Unverified(tag=f"1.3.{n}", digest=digest(n), time=at(n), reason="x" * 200) for n in range(8)
    )
    entry = replace(FULL.entries["app"], unverified=pushes)

    left = trimmed(FULL.with_entry("app", entry), 2).entries["app"].unverified

    assert [push.tag for push in left] == ["1.3.6", "1.3.7"]
    assert all(len(push.reason) < 40 for push in left)


def test_what_is_applied_is_not_written_twice():
    entry = replace(FULL.entries["app"], applied=FULL.entries["app"].tags)
    text = encode(FULL.with_entry("app", entry))

    assert "applied" not in json.loads(text)["entries"]["app"]
    assert decode(text).entries["app"] == entry


@given(states)
@settings(max_examples=200, deadline=None)
def test_what_was_written_is_read_as_it_was(state):
    text = encode(state)

    assert decode(text) == state
    assert encode(decode(text)) == text


def test_a_time_is_read_in_utc():
    text = TEXT.replace("2026-01-15T12:00:00.000Z", "2026-01-15T14:00:00+02:00")

    assert encode(decode(text)) == TEXT


def without(key):
    value = json.loads(TEXT)
    del value[key]
    return value


def with_entry(**changes):
    value = json.loads(TEXT)
    value["entries"]["app"] |= changes
    return value


@pytest.mark.parametrize(
    "text",
    [None, "", " ", "{", "null", "1", "[]", "{}", '"schema"', '{"schem":1}', "[" * 100_000]
    + [
        json.dumps(value)
        for value in (
            {"schema": 1},
            *(without(key) for key in json.loads(TEXT)),
            json.loads(TEXT) | {"configuration": None},
            json.loads(TEXT) | {"template": 1},
            json.loads(TEXT) | {"changed": 1},
            json.loads(TEXT) | {"changed": "yesterday"},
            json.loads(TEXT) | {"changed": "2026-01-15T12:00:00"},
            json.loads(TEXT) | {"changed": "0001-01-01T00:00:00+14:00"},
            json.loads(TEXT) | {"blocked": {}},
            json.loads(TEXT) | {"blocked": ""},
            json.loads(TEXT) | {"entries": []},
            json.loads(TEXT) | {"entries": {"app": None}},
            with_entry(image=None),
            with_entry(tags=None),
            with_entry(tags=["1.2.4"]),
            with_entry(tags=[{"tag": "1.2.4", "digest": None, "time": None}]),
            with_entry(tags=[{"tag": "1.2.4", "digest": 1, "time": "2026-01-15T12:00:00Z"}]),
            with_entry(applied=1),
            with_entry(refused=[{}]),
        )
    ],
)
def test_what_can_not_be_read_is_unreadable(text):
    with pytest.raises(UnreadableStateError, match=r"^the state annotation can't be read: "):
        decode(text)


@pytest.mark.parametrize("schema", [0, 2, "1", None, [1]])
def test_an_unknown_schema_is_never_taken_for_unreadable(schema):
    with pytest.raises(UnknownSchemaError) as unknown:
        decode(json.dumps({"schema": schema}))

    assert str(unknown.value) == f"the state has schema {schema!r}; this release knows 1"
    assert isinstance(unknown.value, ImagePullerError)


@given(st.dictionaries(st.sampled_from([*json.loads(TEXT)]), anything))
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_state_or_refused(changes):
    try:
        state = decode(json.dumps(json.loads(TEXT) | changes))
    except (UnreadableStateError, UnknownSchemaError):
        return
    assert decode(encode(state)) == state


def test_a_tag_is_found_by_its_name():
    followed = FULL.entries["app"]

    assert followed.tag("1.2.4") == followed.tags[1]
    assert followed.tag("1.2.6") is None
    assert followed.tag(None) is None


def test_what_the_cluster_refused_is_known_by_its_name():
    followed = FULL.entries["app"]

    assert followed.refuses("1.2.6")
    assert not followed.refuses("1.2.5")


def test_a_changed_entry_keeps_its_place():
    state = FULL.with_entry("app", Followed(image="x"))

    assert list(state.entries) == ["app", "web"]
    assert state.entries["app"] == Followed(image="x")
    assert state.entries["web"] == FULL.entries["web"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a" * limits.STATE_BYTES, True),
        ("a" * (limits.STATE_BYTES + 1), False),
        ("é" * (limits.STATE_BYTES // 2 + 1), False),
    ],
)
def test_a_state_fits_by_its_bytes(text, answer):
    assert fits(text) is answer


def test_the_limit_leaves_room_for_other_annotations():
    assert limits.STATE_BYTES < 256 * 1024


def test_a_trimmed_state_keeps_what_is_cached():
    config = configuration(KEEP_TAGS="2")
    state = state_of(config, *(push(f"1.2.{n}", n, seconds=n) for n in range(4, 9)))

    followed = trimmed(state, 2).entries["app"]

    assert [tag.name for tag in followed.tags] == ["1.2.8", "1.2.7"]


@pytest.mark.parametrize("image", ["quay.io/org/app:stable", "quay.io/org/app"])
def test_a_trimmed_state_keeps_what_is_known_of_the_configured_tag(image):
    config = configuration(IMAGES=f"app={image}", IMAGE_TAG_POLICIES="app=any", KEEP_TAGS="2")
    configured = config.entries[0].tag
    later = [push(f"build-{n}", n, seconds=n) for n in range(1, 6)]
    state = state_of(config, push(configured, 0), *later)

    followed = trimmed(state, 2).entries["app"]

    assert [tag.name for tag in followed.tags] == ["build-5", "build-4", configured]


def test_a_trimmed_state_does_without_the_refused():
    state = FULL.with_entry("app", replace(FULL.entries["app"], applied=()))

    assert trimmed(state, 1).entries["app"].refused == ()


def test_a_trimmed_state_still_does_without_a_refused_configured_image():
    config = configuration()
    refused = Refused(name="1.2.3", digest=None, reason="no")
    state = decide.refuse(state_of(config, push("1.2.4", 1)), config.entries[0], refused)

    assert trimmed(state, 2).entries["app"].refuses("1.2.3")


policies = st.sampled_from(["auto", "any", "exact", "semver:*"])
tag_names = st.sampled_from(
    ["1.2.3", "1.2.4", "1.2.5", "1.2.6", "1.2.7", "1.2.8", "1.3.0", "2.0.0"]
)


@given(
    policies,
    st.integers(1, 3),
    st.lists(st.builds(push, tag_names, st.none() | st.integers(0, 2), seconds=st.integers(0, 9))),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_trimming_makes_a_state_no_longer_and_changes_no_template(policy, keep, pushes, applied):
    config = configuration(IMAGE_TAG_POLICIES=f"app={policy}", KEEP_TAGS=str(keep))
    followed = [each for each in pushes if config.entries[0].policy.follows(each.tag)]
    state = state_of(config, *followed[:-1])
    if applied:
        entry = state.entries["app"]
        state = state.with_entry("app", replace(entry, applied=entry.tags))
    state, _ = decide.apply(config, state, followed[-1:])

    shorter = trimmed(state, keep)

    assert len(encode(shorter)) <= len(encode(state))
    assert daemonset.template_hash(config, shorter) == daemonset.template_hash(config, state)


def test_the_largest_state_of_many_images_fits_once_it_is_trimmed():
    names = [f"app-{n}" for n in range(150)]
    config = configuration(IMAGES=";".join(f"{name}=quay.io/org/{name}:1.2.3" for name in names))
    pushes = [push(f"1.3.{n}", n, seconds=n, entry=name) for name in names for n in range(6)]
    state = state_of(config, *pushes)
    for name, entry in state.entries.items():
        state = state.with_entry(name, replace(entry, applied=tuple(reversed(entry.tags))))

    assert not fits(encode(state))
    assert fits(encode(trimmed(state, config.keep_tags)))
