"""The ledger's way to its witnesses: what goes out, what comes back, what is written of it."""

from pathlib import Path
from typing import Any

import pytest

from agent.recorder.log import LogError
from agent.recorder.relay import RECORD_EVERY_S, REMEMBERED, REPEAT_S, RETRY_S, SENDS_PER_TICK, WINDOW, _kind
from tests.console.witness.ledgers import Chain, sha
from tests.recorder.relays import KEYS, Remote, Scene

FULL = LogError(Path("ledger.jsonl"), "No space left on device")


def scene_of(count: int, *witnesses: str, recording: bool = False) -> Scene:
    """A ledger of `count` entries."""
    return Scene(Chain().grow(count - 1), witnesses or ("w1",), recording=recording)


# ---- what goes out


def test_remote_gets_the_head_at_once_and_then_every_new_entry() -> None:
    scene = scene_of(5)
    scene.relay.opened(scene.connection())
    (message,) = scene.remote.taken()
    line = scene.chain.lines[4]
    assert message == {
        "type": "ledger",
        "n": 4,
        "line": line.decode(),
        "hash": sha(line),
        "head": {"n": 4, "hash": sha(line)},
    }
    assert scene.tick() == []
    assert scene.grow(3) == [5, 6, 7]


def test_other_modules_are_not_remote() -> None:
    scene = scene_of(2)
    other = Remote("reflex")
    scene.relay.opened(scene.connection(other))
    scene.relay.ended(scene.connection(other))
    assert other.taken() == []
    scene.relay.heard(scene.connection(other), {"type": "witness_ack", "token": scene.token(1)})
    assert (scene.relay.witnessed, len(scene.refused)) == (-1, 1)


def test_without_remote_nothing_goes_out_and_nothing_is_lost() -> None:
    scene = scene_of(3)
    scene.open()
    scene.ack(2)
    scene.relay.ended(scene.connection())
    assert scene.grow(4) == []
    assert sorted(set(scene.open())) == [3, 4, 5, 6]


def test_a_ledger_without_entries_is_waited_for() -> None:
    chain = Chain()
    genesis = chain.lines.pop()
    scene = Scene(chain)
    assert scene.open() == []
    chain.lines.append(genesis)
    assert scene.tick() == [0]


def test_with_no_witness_pinned_every_entry_is_published_once_and_no_receipt_taken() -> None:
    scene = Scene(Chain().grow(2), ())
    assert scene.open() == [2]
    assert scene.grow(2) == [3, 4]
    assert scene.tick(10 * REPEAT_S) == []
    assert scene.ack(4) == []
    assert (scene.relay.witnessed, scene.relay.witnessed_by_all, scene.relay.witness_time_s) == (-1, -1, 0)
    assert scene.refused == ["witness_ack: unknown_key: this key is not trusted"]
    assert scene.recorded() == []


def test_a_witness_that_has_nothing_gets_everything_a_window_at_a_time() -> None:
    scene = scene_of(100)
    scene.open()
    assert scene.ack(-1) == list(range(WINDOW))
    assert scene.tick() == []
    assert scene.ack(0) == [WINDOW]
    assert scene.ack(20) == list(range(WINDOW + 1, 20 + WINDOW + 1))
    for n in range(21, 100):
        scene.ack(n)
    assert scene.relay.witnessed == 99


def test_a_witness_that_says_where_it_is_gets_what_comes_after() -> None:
    scene = scene_of(10)
    scene.open()
    assert scene.ack(6) == [7, 8, 9]


def test_what_is_not_acknowledged_is_asked_again_every_30_seconds() -> None:
    scene = scene_of(5)
    scene.open()
    scene.ack(4)
    assert scene.tick(10 * REPEAT_S) == [], "nothing is owed"
    assert scene.grow(3) == [5, 6, 7]
    assert scene.tick(REPEAT_S - 1) == []
    assert scene.tick(1) == [5], "one is enough"
    assert scene.tick(REPEAT_S) == [5]
    assert scene.ack(5) == [6, 7], "the rest was lost as well"
    assert scene.ack(6) == []


def test_a_witness_that_was_never_heard_is_asked_with_the_head() -> None:
    scene = scene_of(5)
    scene.open()
    scene.grow(2)
    assert scene.tick(REPEAT_S) == [6]
    scene.grow(1)
    assert scene.tick(REPEAT_S) == [7]


def test_two_witnesses_share_what_both_need() -> None:
    scene = scene_of(5, "w1", "w2")
    scene.open()
    assert scene.ack(4, "w1") == []
    assert scene.ack(4, "w2") == []
    assert scene.grow(2) == [5, 6]
    scene.ack(6, "w1")
    assert (scene.relay.witnessed, scene.relay.witnessed_by_all) == (6, 4)
    scene.ack(5, "w2")
    assert (scene.relay.witnessed, scene.relay.witnessed_by_all) == (6, 5)


def test_answers_meant_for_another_witness_move_nobody_back() -> None:
    scene = scene_of(50, "w1", "w2")
    scene.open()
    scene.ack(49, "w1")
    assert scene.ack(19, "w2") == list(range(20, 50))
    for n in range(20, 50):
        scene.ack(n, "w1")
    assert scene.tick() == []
    assert scene.relay.witnessed == 49


def test_a_witness_that_lost_everything_says_so_and_gets_everything() -> None:
    scene = scene_of(10)
    scene.open()
    scene.ack(9)
    assert scene.ack(-1) == list(range(10))
    assert scene.relay.witnessed == -1


def test_a_witness_that_was_set_back_is_noticed_when_it_does_not_get_on() -> None:
    scene = scene_of(10)
    scene.open()
    scene.ack(9)
    assert scene.ack(4) == [], "so far it may be an answer to something else"
    assert scene.grow(1) == [10]
    assert scene.tick(REPEAT_S) == [10]
    assert scene.ack(4) == [5, 6, 7, 8, 9, 10]


def test_a_witness_that_was_away_says_its_last_entry_and_gets_what_followed() -> None:
    scene = scene_of(5)
    scene.open()
    scene.ack(4)
    assert scene.grow(2) == [5, 6]
    assert scene.ack(4) == [], "said twice, as QoS 1 may"
    scene.now_s += 1
    assert scene.ack(4) == [5, 6]
    assert scene.ack(4) == []
    scene.ack(6)
    scene.now_s += 1
    assert scene.ack(6) == []


def test_an_old_receipt_said_again_moves_nobody_back() -> None:
    scene = scene_of(10)
    scene.open()
    old = scene.token(-1)
    scene.now_s += 100
    scene.ack(9)
    scene.hear(old)
    assert scene.tick() == []
    assert scene.relay.witnessed == 9


def test_when_remote_is_busy_the_rest_waits_in_order() -> None:
    scene = scene_of(20)
    scene.remote.room = 0
    assert scene.open() == []
    scene.remote.room = 5
    assert scene.ack(-1) == [19, 0, 1, 2, 3]
    assert scene.tick() == [4, 5, 6, 7, 8]
    scene.remote.room = 100
    assert scene.tick() == list(range(9, 20))


def test_one_turn_sends_only_so_many() -> None:
    scene = scene_of(1)
    scene.open()
    assert scene.grow(SENDS_PER_TICK + 5) == list(range(1, SENDS_PER_TICK + 1))
    assert scene.tick() == list(range(SENDS_PER_TICK + 1, SENDS_PER_TICK + 6))


def test_a_line_longer_than_a_packet_does_not_stand_before_the_rest() -> None:
    scene = scene_of(2)
    scene.open()
    scene.chain.add(body={"text": '"' * 70_000})
    scene.chain.add()
    assert scene.tick() == [3]


def test_when_remote_comes_back_what_was_on_its_way_goes_out_again() -> None:
    scene = scene_of(5)
    scene.open()
    scene.ack(4)
    scene.grow(2)
    scene.ack(5)
    scene.relay.ended(scene.connection())
    scene.remote = Remote()
    assert scene.open() == [6]
    scene.ack(6)
    scene.remote = Remote()
    assert scene.open() == [6], "the head always: remote must know how far the ledger goes"


def test_a_log_in_trouble_stops_nothing_but_this() -> None:
    scene = scene_of(5)
    scene.ledger.trouble = FULL
    assert scene.open() == []
    scene.hear(scene.token(3))
    scene.ledger.trouble = None
    assert scene.tick() == [4]
    assert scene.ack(3) == [4]


# ---- what comes back


BAD: dict[str, dict[str, Any]] = {
    "signed by a stranger": {"key": KEYS["stranger"]},
    "of a stranger": {"kid": "stranger", "key": KEYS["stranger"]},
    "in another's name": {"iss": "w2"},
    "for another robot": {"aud": "R2"},
    "another token": {"typ": "warden-reply+jwt"},
    "n as text": {"n": "3"},
    "n true": {"n": True},
    "n below -1": {"n": -2, "hash": ""},
    "hash without n": {"n": -1, "hash": "a" * 64},
    "n without hash": {"hash": ""},
    "hash in capitals": {"hash": "A" * 64},
    "hash a number": {"hash": 5},
    "no time": {"witness_time": None},
    "iat a float": {"iat": 1.5},
    "far too long": {"more": "x" * 3000},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=list(BAD))
def test_what_is_no_receipt_is_refused_and_counts_for_nothing(changes: dict[str, Any]) -> None:
    scene = scene_of(5)
    scene.open()
    assert scene.ack(3, **changes) == []
    assert len(scene.refused) == 1
    assert (scene.relay.witnessed, scene.notes, scene.relay.disagreements) == (-1, [], 0)


@pytest.mark.parametrize("token", [None, 7, "", "a.b.c", "急停", "\ud800"])
def test_what_is_no_token_is_refused(token: object) -> None:
    scene = scene_of(2)
    scene.open()
    scene.relay.heard(scene.connection(), {"type": "witness_ack", "token": token})
    assert len(scene.refused) == 1


def test_a_good_signature_over_another_entry_is_evidence() -> None:
    scene = scene_of(5)
    scene.open()
    other = "b" * 64
    token = scene.token(3, hash=other)
    for _ in range(3):
        scene.hear(token)
    assert scene.relay.disagreements == 1
    assert scene.notes == [
        ("witness_disagrees", {"kid": "w1", "n": 3, "hash": other, "token": token, "head": 4})
    ]
    assert scene.relay.witnessed == -1
    assert scene.refused == []


def test_a_witness_that_has_more_than_we_do_is_evidence_too() -> None:
    scene = scene_of(5)
    scene.open()
    scene.hear(scene.token(7, hash="c" * 64))
    assert scene.relay.disagreements == 1
    assert scene.notes[0][1]["n"] == 7


def test_the_hash_of_an_old_entry_is_read_again() -> None:
    scene = scene_of(REMEMBERED + 100)
    scene.open()
    scene.ack(-1)
    reads = scene.ledger.reads
    scene.hear(scene.token(1050))
    assert scene.ledger.reads == reads + 1
    assert scene.relay.witnessed == 1050
    for n in range(1050, REMEMBERED + 100, 10):
        scene.ack(n)
    assert len(scene.relay._hashes) <= REMEMBERED


def test_the_time_of_a_witness_is_the_latest_it_stated() -> None:
    scene = scene_of(5)
    scene.open()
    scene.ack(3, witness_time=900)
    scene.ack(3, witness_time=950)
    scene.ack(4, witness_time=940)
    assert scene.relay.witness_time_s == 950


# ---- what is written of it


def test_a_receipt_goes_into_the_ledger_once_in_a_checkpoints_interval() -> None:
    scene = scene_of(5, recording=True)
    scene.open()
    token = scene.token(4)
    scene.ack(4)
    assert scene.recorded() == [("w1", 4)]
    assert scene.chain.lines[5].count(token.encode()) == 1
    for n in range(6, 20):
        scene.chain.grow(1)
        scene.ack(n)
    assert scene.recorded() == [("w1", 4)]
    scene.tick(RECORD_EVERY_S)
    assert scene.recorded() == [("w1", 4), ("w1", 19)]


def test_receipts_of_receipts_are_not_recorded() -> None:
    scene = scene_of(5, "w1", "w2", recording=True)
    scene.open()
    for kid in ("w1", "w2"):
        scene.ack(4, kid)
    for _ in range(5):
        head = len(scene.chain.lines) - 1
        for kid in ("w1", "w2"):
            scene.ack(head, kid)
        scene.tick(2 * RECORD_EVERY_S)
    assert scene.recorded() == [("w1", 4), ("w2", 4)]
    scene.chain.grow(1)
    scene.tick()
    scene.ack(7, "w1")
    assert scene.recorded()[2:] == [("w1", 7)]


def test_a_receipt_that_the_disk_refuses_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of(5, recording=True)
    scene.open()
    tries = []

    def refuse(kind: str, body: object) -> None:
        tries.append(kind)
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(scene.ledger, "append", refuse)
        scene.ack(4)
        scene.tick(RETRY_S - 1)
    assert tries == ["witness.ack"]
    scene.tick(1)
    assert scene.recorded() == [("w1", 4)]


def test_a_flood_of_entries_between_two_receipts_is_still_news() -> None:
    scene = scene_of(5, recording=True)
    scene.open()
    scene.ack(4)
    for _ in range(REMEMBERED // 20 + 2):
        scene.grow(20)
    scene.now_s += RECORD_EVERY_S
    scene.ack(8)
    assert scene.recorded() == [("w1", 4), ("w1", 8)]


@pytest.mark.parametrize("line", [b"", b"7", b"[]", b"\xff", b"[" * 50_000])
def test_what_is_no_entry_is_of_no_kind(line: bytes) -> None:
    assert _kind(line) == ""
