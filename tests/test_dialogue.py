"""The stages of a command: each told once, as its effect is seen, and never before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.causes import MS
from agent.core.commands import Code
from agent.dialogue import MAX_OPEN, START_NS, STOP_MARGIN_NS, Dialogue, Effect, Entry
from tests.core.factories import NOW_NS

STILL_NS = 1500 * MS
STOP_DUE_NS = NOW_NS + STILL_NS + STOP_MARGIN_NS
MOVING = Effect(withdrawn=False, still=False, running=True)
WITHDRAWN = Effect(withdrawn=True, still=False, running=False)
STANDING = Effect(withdrawn=True, still=True, running=False)
STILL_ONLY = Effect(withdrawn=False, still=True, running=False)


class People:
    """Who is told, with a dialogue that tells them."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Code | None]] = []
        self.dialogue = Dialogue(self._tell, still_ns=STILL_NS)

    def _tell(self, entry: Entry, stage: str, code: Code | None) -> None:
        self.told.append((entry.jti, stage, code))

    def waits(self) -> bool:
        return self.dialogue.waiting

    def stages(self, jti: str = "j") -> list[str]:
        return [stage for told, stage, _ in self.told if told == jti]


def entry(jti: str = "j", cmd: str = "stop") -> Entry:
    return Entry("g.li", jti, cmd, NOW_NS)


def test_a_refusal_is_the_last_word() -> None:
    people = People()
    people.dialogue.refuse(entry(), Code.NOT_ENTITLED)
    assert people.told == [("j", "refused", Code.NOT_ENTITLED)]
    assert not people.waits()


def test_what_has_no_effect_to_wait_for_is_accepted() -> None:
    people = People()
    people.dialogue.accept(entry(cmd="ping"))
    assert people.told == [("j", "accepted", None)]
    assert not people.waits()


def test_what_was_taken_and_did_nothing_has_failed() -> None:
    people = People()
    one = entry()
    people.dialogue.fail(one, Code.NOT_VERIFIED_IN_TIME)
    assert people.told == [("j", "failed", Code.NOT_VERIFIED_IN_TIME)]
    assert one.stages == ["failed"]


def test_a_stop_is_told_as_it_is_seen() -> None:
    people = People()
    people.dialogue.await_stop(entry())
    assert people.stages() == ["accepted"]
    people.dialogue.look(MOVING, NOW_NS)
    assert people.stages() == ["accepted"]
    people.dialogue.look(WITHDRAWN, NOW_NS + 1)
    people.dialogue.look(WITHDRAWN, NOW_NS + 2)
    assert people.stages() == ["accepted", "actuated"]
    assert people.waits()
    people.dialogue.look(STANDING, NOW_NS + 3)
    assert people.stages() == ["accepted", "actuated", "verified"]
    assert not people.waits()
    people.dialogue.look(STANDING, NOW_NS + 4)
    assert people.stages() == ["accepted", "actuated", "verified"]


def test_both_may_be_seen_at_one_look_and_are_told_in_order() -> None:
    people = People()
    people.dialogue.await_stop(entry())
    people.dialogue.look(STANDING, NOW_NS)
    assert people.stages() == ["accepted", "actuated", "verified"]


def test_a_robot_that_stands_while_it_may_move_is_not_stopped() -> None:
    people = People()
    people.dialogue.await_stop(entry())
    people.dialogue.look(STILL_ONLY, NOW_NS)
    assert people.stages() == ["accepted"]


@pytest.mark.parametrize("effect", [MOVING, WITHDRAWN, STILL_ONLY])
def test_a_stop_that_is_not_seen_in_time_has_failed(effect: Effect) -> None:
    people = People()
    people.dialogue.await_stop(entry())
    people.dialogue.look(effect, STOP_DUE_NS)
    assert "failed" not in people.stages()
    people.dialogue.look(effect, STOP_DUE_NS + 1)
    assert people.told[-1] == ("j", "failed", Code.NOT_VERIFIED_IN_TIME)
    assert not people.waits()


def test_a_stop_seen_at_the_last_look_is_verified_and_has_not_failed() -> None:
    people = People()
    people.dialogue.await_stop(entry())
    people.dialogue.look(STANDING, STOP_DUE_NS + 1)
    assert people.stages() == ["accepted", "actuated", "verified"]


def test_a_start_is_told_when_every_permit_permits() -> None:
    people = People()
    people.dialogue.await_start(entry(cmd="resume"))
    people.dialogue.look(WITHDRAWN, NOW_NS + START_NS)
    assert people.waits()
    assert people.stages() == ["accepted"]
    people.dialogue.look(MOVING, NOW_NS + START_NS)
    assert people.stages() == ["accepted", "actuated"]
    assert not people.waits()


def test_a_start_that_does_not_come_has_failed() -> None:
    people = People()
    people.dialogue.await_start(entry(cmd="resume"))
    people.dialogue.look(STANDING, NOW_NS + START_NS + 1)
    assert people.told[-1] == ("j", "failed", Code.NOT_VERIFIED_IN_TIME)
    assert not people.waits()


def test_each_command_has_stages_of_its_own() -> None:
    people = People()
    people.dialogue.await_stop(entry("one"))
    people.dialogue.look(WITHDRAWN, NOW_NS)
    people.dialogue.await_stop(entry("two"))
    people.dialogue.await_start(entry("three", "resume"))
    people.dialogue.look(STANDING, NOW_NS)
    assert people.stages("one") == people.stages("two") == ["accepted", "actuated", "verified"]
    assert people.stages("three") == ["accepted"]


def test_the_oldest_gives_way_when_too_many_wait() -> None:
    people = People()
    for number in range(MAX_OPEN + 3):
        people.dialogue.await_stop(entry(f"stop-{number}"))
        people.dialogue.await_start(entry(f"start-{number}", "resume"))
    people.told.clear()
    people.dialogue.look(STANDING, NOW_NS)
    people.dialogue.look(MOVING, NOW_NS)
    ended = {jti for jti, stage, _ in people.told}
    expected = range(3, MAX_OPEN + 3)
    assert ended == {f"{what}-{number}" for what in ("stop", "start") for number in expected}


effects = st.builds(Effect, withdrawn=st.booleans(), still=st.booleans(), running=st.booleans())


@given(st.lists(st.tuples(effects, st.integers(0, 700)), max_size=20))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_no_stage_is_told_twice_or_out_of_order_or_unseen(looks: list[tuple[Effect, int]]) -> None:
    people = People()
    people.dialogue.await_stop(entry())
    now_ns, seen = NOW_NS, []
    for effect, ms in looks:
        now_ns += ms * MS
        before = len(people.told)
        people.dialogue.look(effect, now_ns)
        seen = people.stages()
        for _, stage, _ in people.told[before:]:
            assert stage != "actuated" or effect.withdrawn
            assert stage != "verified" or (effect.withdrawn and effect.still)
            assert stage != "failed" or now_ns > STOP_DUE_NS
    whole = ["accepted", "actuated", "verified"]
    assert seen in (
        [],
        whole[:1],
        whole[:2],
        whole,
        [*whole[:1], "failed"],
        [*whole[:2], "failed"],
    )
