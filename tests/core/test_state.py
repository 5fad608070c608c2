"""The state annotation: its text, and texts that can't be read."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller import limits
from image_puller.core.charge import Process
from image_puller.core.state import (
    Blocked,
    Deletion,
    EntryState,
    Holding,
    Quarantined,
    Refused,
    Seeding,
    State,
    Tag,
    UnknownSchemaError,
    UnreadableStateError,
    UnverifiedPush,
    decode,
    encode,
    substance,
    until,
)
from image_puller.errors import ImagePullerError
from tests.support.building import NOON, at, digest

texts = st.text(max_size=8)
times = st.integers(0, 10**9).map(lambda milliseconds: at(milliseconds / 1000)) | st.just(NOON)
one_tag = st.builds(
    Tag,
    name=texts,
    digest=st.none() | texts,
    time=times,
    mutated=st.booleans(),
    pulled_again=st.booleans(),
    confirmed=st.booleans(),
    own_clock=st.booleans(),
)
tags = st.lists(one_tag, max_size=3).map(tuple)
states = st.builds(
    State,
    configuration=texts,
    processes=st.lists(
        st.builds(Process, name=texts, since=times, outside=st.booleans()), max_size=3
    ).map(tuple),
    structure=texts,
    template=texts,
    containers=st.integers(0, 500),
    changed=st.none() | times,
    pulled_again_at=st.none() | times,
    max_unavailable=st.none() | st.integers(1, 5000),
    seeding=st.none() | st.sampled_from(Seeding),
    degraded_since=st.none() | times,
    blocked=st.none() | st.builds(Blocked, template=texts, reason=texts),
    holding=st.builds(Holding, by_volumes=st.just(False), reason=texts)
    | st.builds(
        Holding,
        by_volumes=st.just(True),
        reason=texts,
        differs_since=st.none() | times,
        common=st.lists(texts, max_size=2).map(tuple),
        proven=st.lists(texts, max_size=2).map(tuple),
    ),
    entries=st.dictionaries(
        texts,
        st.builds(
            EntryState,
            image=texts,
            tags=tags,
            live_tags=st.none() | tags,
            previous=tags,
            quarantined=st.lists(
                st.builds(
                    Quarantined, tag=one_tag, since=times, reason=texts, pulled=st.booleans()
                ),
                max_size=2,
            ).map(tuple),
            refused=st.lists(
                st.builds(Refused, name=texts, digest=st.none() | texts, reason=texts), max_size=2
            ).map(tuple),
            unverified=st.lists(
                st.builds(
                    UnverifiedPush,
                    tag=texts,
                    digest=st.none() | texts,
                    time=times,
                    reason=texts,
                    own_clock=st.booleans(),
                ),
                max_size=2,
            ).map(tuple),
            deleted=st.lists(
                st.builds(
                    Deletion,
                    tag=st.none() | texts,
                    digest=st.none() | texts,
                    time=times,
                    own_clock=st.booleans(),
                    with_all_tags=st.booleans(),
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
    processes=(
        Process(name="pod", since=at(1)),
        Process(name="laptop", since=at(2), outside=True),
    ),
    structure="5eed",
    template="ab1e",
    containers=4,
    changed=at(0),
    pulled_again_at=at(0.5),
    max_unavailable=3,
    seeding=Seeding.SEEDS,
    degraded_since=at(3),
    blocked=Blocked(template="0ff", reason="no 'é'"),
    holding=Holding(by_volumes=True, common=("nginx:1",), proven=("quay.io/org/app:1.2.4",)),
    entries={
        "app": EntryState(
            image="quay.io/org/app:1.2.3",
            tags=(
                Tag(name="1.2.5", digest=None, time=at(2), pulled_again=True, confirmed=True),
                Tag(name="1.2.4", digest=digest(1), time=at(1), mutated=True),
            ),
            live_tags=(Tag(name="1.2.4", digest=digest(1), time=at(1), mutated=True),),
            previous=(Tag(name="1.2.5", digest=digest(2), time=at(0)),),
            quarantined=(
                Quarantined(
                    tag=Tag(name="1.2.4", digest=digest(3), time=at(4), mutated=True),
                    since=at(5),
                    reason="OOMKilled",
                    pulled=True,
                ),
            ),
            refused=(Refused(name="1.2.6", digest=None, reason="quota"),),
            unverified=(UnverifiedPush(tag="1.2.7", digest=None, time=at(3), reason="401"),),
        ),
        "web": EntryState(image="nginx"),
    },
)
TEXT = (
    '{"schema":3,"configuration":"c0ffee","processes":['
    '{"name":"pod","since":"2026-01-15T12:00:01.000Z"},'
    '{"name":"laptop","since":"2026-01-15T12:00:02.000Z","outside":true}],"structure":"5eed","template":"ab1e","containers":4,'
    '"changed":"2026-01-15T12:00:00.000Z","pulledAgainAt":"2026-01-15T12:00:00.500Z",'
    '"maxUnavailable":3,"seeding":"seeds","degradedSince":"2026-01-15T12:00:03.000Z",'
    '"blocked":{"template":"0ff","reason":"no \'é\'"},'
    '"holding":{"byVolumes":true,"reason":"","common":["nginx:1"],'
    '"proven":["quay.io/org/app:1.2.4"]},"entries":{"app":{'
    '"image":"quay.io/org/app:1.2.3","tags":['
    '{"tag":"1.2.5","digest":null,"time":"2026-01-15T12:00:02.000Z","pulledAgain":true,'
    '"confirmed":true},'
    f'{{"tag":"1.2.4","digest":"{digest(1)}","time":"2026-01-15T12:00:01.000Z","mutated":true}}],'
    f'"liveTags":[{{"tag":"1.2.4","digest":"{digest(1)}","time":"2026-01-15T12:00:01.000Z",'
    f'"mutated":true}}],"previous":[{{"tag":"1.2.5","digest":"{digest(2)}",'
    f'"time":"2026-01-15T12:00:00.000Z"}}],"quarantined":[{{"tag":"1.2.4","digest":"{digest(3)}",'
    '"time":"2026-01-15T12:00:04.000Z","mutated":true,"since":"2026-01-15T12:00:05.000Z",'
    '"reason":"OOMKilled","pulled":true}],"refused":[{"tag":"1.2.6","digest":null,"reason":"quota"}],'
    '"unverified":[{"tag":"1.2.7","digest":null,"time":"2026-01-15T12:00:03.000Z",'
    '"reason":"401"}]},'
    '"web":{"image":"nginx","tags":[],"liveTags":null}}}'
)


def test_a_state_is_written_as_one_line_of_json() -> None:
    assert encode(FULL) == TEXT


def test_a_written_state_is_read() -> None:
    assert decode(TEXT) == FULL


def test_entries_keep_their_order() -> None:
    assert list(decode(encode(FULL)).entries) == ["app", "web"]


def test_live_tags_equal_to_tags_are_not_written_twice() -> None:
    entry = replace(FULL.entries["app"], live_tags=FULL.entries["app"].tags)
    text = encode(FULL.with_entry("app", entry))

    assert "liveTags" not in json.loads(text)["entries"]["app"]
    assert decode(text).entries["app"] == entry


@given(states)
@settings(max_examples=200, deadline=None)
def test_every_state_is_read_as_it_was_written(state: State) -> None:
    text = encode(state)

    assert decode(text) == state
    assert encode(decode(text)) == text


def test_a_time_is_read_in_utc() -> None:
    text = TEXT.replace("2026-01-15T12:00:00.000Z", "2026-01-15T14:00:00+02:00")

    assert encode(decode(text)) == TEXT


def without(key: str) -> Any:
    """Return the JSON of the full state without a field."""
    value = json.loads(TEXT)
    del value[key]
    return value


def with_entry(**changes: Any) -> Any:
    """Return the JSON of the full state with other fields of an entry."""
    value = json.loads(TEXT)
    value["entries"]["app"] |= changes
    return value


@pytest.mark.parametrize(
    "text",
    [None, "", " ", "{", "null", "1", "[]", "{}", '"schema"', '{"schem":1}', "[" * 100_000]
    + [
        json.dumps(value)
        for value in (
            {"schema": 3},
            {"schema": 2},
            json.loads(TEXT) | {"schema": 2},
            json.loads(TEXT) | {"containers": -1},
            json.loads(TEXT) | {"containers": True},
            json.loads(TEXT) | {"holding": None},
            json.loads(TEXT) | {"holding": {}},
            json.loads(TEXT) | {"holding": {"byVolumes": True, "reason": "", "common": 1}},
            json.loads(TEXT) | {"maxUnavailable": 0},
            json.loads(TEXT) | {"maxUnavailable": -1},
            json.loads(TEXT) | {"maxUnavailable": True},
            json.loads(TEXT) | {"maxUnavailable": 2**31},
            json.loads(TEXT) | {"maxUnavailable": "50%"},
            json.loads(TEXT) | {"seeding": "other"},
            json.loads(TEXT) | {"seeding": None},
            json.loads(TEXT) | {"degradedSince": "yesterday"},
            with_entry(previous=1),
            with_entry(previous=["1.2.4"]),
            with_entry(quarantined=[{"tag": "1", "digest": None, "time": NOON.isoformat()}]),
            with_entry(
                quarantined=[
                    {
                        "tag": "1",
                        "digest": None,
                        "time": NOON.isoformat(),
                        "since": None,
                        "reason": "",
                    }
                ]
            ),
            *(without(key) for key in json.loads(TEXT) if key not in ("seeding", "degradedSince")),
            json.loads(TEXT) | {"configuration": None},
            json.loads(TEXT) | {"template": 1},
            json.loads(TEXT) | {"processes": None},
            json.loads(TEXT) | {"processes": {}},
            json.loads(TEXT) | {"processes": [{"name": "pod"}]},
            json.loads(TEXT) | {"processes": [{"name": 1, "since": "2026-01-15T12:00:00Z"}]},
            json.loads(TEXT) | {"processes": [{"name": "pod", "since": None}]},
            json.loads(TEXT) | {"changed": 1},
            json.loads(TEXT) | {"changed": "yesterday"},
            json.loads(TEXT) | {"changed": "2026-01-15T12:00:00"},
            json.loads(TEXT) | {"changed": "0001-01-01T00:00:00+14:00"},
            json.loads(TEXT) | {"changed": "9999-12-31T23:59:59Z"},
            json.loads(TEXT) | {"changed": "0001-01-01T00:00:00Z"},
            json.loads(TEXT) | {"pulledAgainAt": "9999-01-01T00:00:00Z"},
            json.loads(TEXT) | {"template": "\ud800"},
            json.loads(TEXT) | {"entries": {"\ud800": {"image": "a", "tags": []}}},
            with_entry(image="\ud800"),
            with_entry(tags=[{"tag": "\udfff", "digest": None, "time": "2026-01-15T12:00:00Z"}]),
            with_entry(tags=[{"tag": "1.2.4", "digest": None, "time": "9999-01-01T00:00:00Z"}]),
            with_entry(deleted=[{"tag": 1, "digest": None, "time": "2026-01-15T12:00:00Z"}]),
            with_entry(deleted=[{"tag": "1", "digest": None, "time": "9999-01-01T00:00:00Z"}]),
            json.loads(TEXT) | {"blocked": {}},
            json.loads(TEXT) | {"blocked": ""},
            json.loads(TEXT) | {"entries": []},
            json.loads(TEXT) | {"entries": {"app": None}},
            with_entry(image=None),
            with_entry(tags=None),
            with_entry(tags=["1.2.4"]),
            with_entry(tags=[{"tag": "1.2.4", "digest": None, "time": None}]),
            with_entry(tags=[{"tag": "1.2.4", "digest": 1, "time": "2026-01-15T12:00:00Z"}]),
            with_entry(liveTags=1),
            with_entry(refused=[{}]),
        )
    ],
)
def test_a_malformed_or_old_annotation_is_unreadable(text: str | None) -> None:
    with pytest.raises(UnreadableStateError, match=r"^the state annotation (can't be|has the old)"):
        decode(text)


@pytest.mark.parametrize("schema", [4, "3", None, [3]])
def test_an_unknown_schema_is_not_unreadable(schema: object) -> None:
    with pytest.raises(UnknownSchemaError) as unknown:
        decode(json.dumps({"schema": schema}))

    assert str(unknown.value) == f"the state has schema {schema!r}; this release reads 3"
    assert isinstance(unknown.value, ImagePullerError)


@given(st.dictionaries(st.sampled_from([*json.loads(TEXT)]), anything))
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_state_or_an_error(changes: dict[str, object]) -> None:
    try:
        state = decode(json.dumps(json.loads(TEXT) | changes))
    except (UnreadableStateError, UnknownSchemaError):
        return
    assert decode(encode(state)) == state


def test_the_times_of_known_digests_are_no_substance() -> None:
    known = EntryState(image="x", tags=(Tag(name="1.2.4", digest=digest(1), time=at(1)),))
    unknown = EntryState(image="x", tags=(Tag(name="1.2.4", digest=None, time=at(1)),))

    def later(entry: EntryState) -> EntryState:
        return replace(entry, tags=tuple(replace(tag, time=at(2)) for tag in entry.tags))

    def substance_with(entry: EntryState) -> State:
        return substance(FULL.with_entry("app", entry))

    assert substance_with(later(known)) == substance_with(known)
    assert substance_with(later(unknown)) != substance_with(unknown)


def test_a_tracked_tag_is_found_by_its_name() -> None:
    tracked = FULL.entries["app"]

    assert tracked.tag("1.2.4") == tracked.tags[1]
    assert tracked.tag("1.2.6") is None
    assert tracked.tag(None) is None


def test_a_refused_tag_is_found_by_its_name() -> None:
    tracked = FULL.entries["app"]

    assert tracked.refuses("1.2.6")
    assert not tracked.refuses("1.2.5")


def test_a_changed_entry_keeps_its_place() -> None:
    state = FULL.with_entry("app", EntryState(image="x"))

    assert list(state.entries) == ["app", "web"]
    assert state.entries["app"] == EntryState(image="x")
    assert state.entries["web"] == FULL.entries["web"]


# Times in the future

AHEAD = at(limits.CLOCK_TOLERANCE_SECONDS)
"""The latest time that a clock may write at NOON."""


@pytest.mark.parametrize("own", [True, False])
def test_a_time_far_in_the_future_becomes_now(own: bool) -> None:
    year = at(365 * 24 * 3600)
    entry = EntryState(
        image="a",
        tags=(Tag(name="1", digest=None, time=year, own_clock=own),),
        unverified=(UnverifiedPush(tag="2", digest=None, time=year, reason="no", own_clock=own),),
        deleted=(Deletion(tag="3", digest=None, time=year, own_clock=own),),
    )
    state = until(State(configuration="", changed=year, entries={"a": entry}), NOON)

    found = state.entries["a"]
    assert state.changed == NOON
    (tag,), (waiting,), (deleted,) = found.tags, found.unverified, found.deleted
    assert (tag.time, waiting.time, deleted.time) == (NOON, NOON, NOON)
    assert (tag.own_clock, waiting.own_clock, deleted.own_clock) == (True, True, True)


@given(states)
def test_no_time_in_a_state_is_later_than_the_tolerance(state: State) -> None:
    found = until(state, NOON)
    assert found.changed is None or found.changed <= AHEAD
    for entry in found.entries.values():
        assert all(tag.time <= AHEAD for tag in entry.tags)
        assert all(push.time <= AHEAD for push in entry.unverified)
        assert all(deletion.time <= AHEAD for deletion in entry.deleted)
    assert until(found, NOON) is found
    assert found.pulled_again_at == state.pulled_again_at
