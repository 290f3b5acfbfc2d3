"""A repeated command gets its first answer again and does nothing (PROTOCOL 3)."""

from agent.core.commands import Seen
from tests.core.orders import NOW_S


def test_a_repeated_jti_gets_the_first_answer() -> None:
    seen: Seen[str] = Seen()

    assert seen.first_answer("g.li", "j", NOW_S) is None
    assert seen.remember("g.li", "j", exp=NOW_S + 60, answer="first", now_s=NOW_S) == "first"
    assert seen.remember("g.li", "j", exp=NOW_S + 60, answer="second", now_s=NOW_S + 1) == "first"
    assert seen.first_answer("g.li", "j", NOW_S + 2) == "first"
    assert seen.first_answer("g.wang", "j", NOW_S) is None, "a jti is its giver's own"
    assert len(seen) == 1


def test_an_answer_is_kept_until_the_command_could_not_be_taken_any_more() -> None:
    seen: Seen[str] = Seen()
    seen.remember("g.li", "ahead", exp=NOW_S + 124, answer="a", now_s=NOW_S)
    seen.remember("g.li", "past", exp=NOW_S - 9999, answer="b", now_s=NOW_S)

    assert seen.first_answer("g.li", "ahead", NOW_S + 129) == "a"
    assert seen.first_answer("g.li", "ahead", NOW_S + 129.1) is None
    assert seen.first_answer("g.li", "past", NOW_S + 125) == "b", "taken under an unsure clock"
    assert seen.first_answer("g.li", "past", NOW_S + 125.1) is None
    assert seen.remember("g.li", "past", exp=NOW_S, answer="new", now_s=NOW_S + 200) == "new"


def test_nobody_pushes_out_anothers_answers() -> None:
    seen: Seen[int] = Seen(per_kid=4)
    seen.remember("g.li", "mine", exp=NOW_S, answer=1, now_s=NOW_S)
    for number in range(100):
        seen.remember("g.wang", f"flood-{number}", exp=NOW_S, answer=-number, now_s=NOW_S + number / 1000)

    assert seen.first_answer("g.li", "mine", NOW_S + 1) == 1
    assert [seen.first_answer("g.wang", f"flood-{number}", NOW_S + 1) for number in range(95, 100)] == [
        None,
        -96,
        -97,
        -98,
        -99,
    ]
    assert len(seen) == 5


def test_a_kid_has_room_for_more_than_a_person_gives_in_two_minutes() -> None:
    seen: Seen[int] = Seen()
    for number in range(200):
        seen.remember("g.li", str(number), exp=NOW_S, answer=number, now_s=NOW_S)

    assert len(seen) == 128


def test_what_is_over_goes_before_what_is_not() -> None:
    seen: Seen[str] = Seen(per_kid=2)
    seen.remember("g.li", "old", exp=NOW_S, answer="old", now_s=NOW_S)
    seen.remember("g.li", "new", exp=NOW_S, answer="new", now_s=NOW_S + 200)
    seen.remember("g.li", "newest", exp=NOW_S, answer="newest", now_s=NOW_S + 201)

    assert seen.first_answer("g.li", "new", NOW_S + 202) == "new"
    assert seen.first_answer("g.li", "newest", NOW_S + 202) == "newest"
    assert len(seen) == 2
