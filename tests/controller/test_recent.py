"""The last pushes of a process: the newest first, bounded in number and in length."""

from dataclasses import replace

from image_puller import limits
from image_puller.controller.recent import Recent
from image_puller.core.received import Received
from tests.support.building import NOON

PUSH = Received(time=NOON, source="quay", subject="app 1.2.4", decision="tracked")


def test_the_newest_push_comes_first() -> None:
    recent = Recent()
    assert recent.newest_first() == ()
    newer = replace(PUSH, subject="app 1.2.5")
    for each in (PUSH, newer):
        recent.note(each)
    assert recent.newest_first() == (newer, PUSH)


def test_only_the_last_pushes_are_kept() -> None:
    recent = Recent()
    pushes = [replace(PUSH, subject=str(number)) for number in range(limits.RECEIVED + 3)]
    for each in pushes:
        recent.note(each)
    assert recent.newest_first() == tuple(reversed(pushes[3:]))


def test_long_texts_from_outside_are_cut() -> None:
    recent = Recent()
    recent.note(replace(PUSH, subject="s" * 10_000, why="w" * 10_000))
    (kept,) = recent.newest_first()
    assert kept.subject == "s" * (limits.RECEIVED_CHARACTERS - 1) + "…"
    assert len(kept.why) == limits.RECEIVED_CHARACTERS
