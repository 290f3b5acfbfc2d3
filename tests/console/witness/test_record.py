"""What a witness takes, answers and alarms: the folder is real, the clocks are the test's."""

import errno
import gc
import json
import os
import shutil
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.logformat.suites import SuiteError
from console.witness import entry as entry_module
from console.witness.alarms import BURST, EVERY_S
from console.witness.notices import REASONS, Kind
from console.witness.record import GAP_EVERY_S, Outcome, Receipt, Witness
from console.witness.store import Store
from tests.console.witness.ledgers import Chain, sha


class Scene:
    """One witness in a folder; it can be ended in any way and begun again."""

    def __init__(
        self,
        folder: Path,
        *,
        robots: Sequence[str] = (),
        genesis: Mapping[str, bytes] | None = None,
        silence_s: float = 900.0,
        max_robots: int = 10_000,
    ) -> None:
        self.folder = folder
        self.robots, self.genesis = robots, genesis
        self.silence_s, self.max_robots = silence_s, max_robots
        self.now_s = 1000.0
        self.begin()

    def begin(self) -> None:
        self.store = Store(self.folder)
        self.witness = Witness(
            self.store,
            robots=self.robots,
            genesis=self.genesis,
            silence_s=self.silence_s,
            max_robots=self.max_robots,
            clock=lambda: self.now_s,
            wall=lambda: 1.7e9 + self.now_s,
        )
        self.begun = self.witness.begin()

    def restart(self, genesis: Mapping[str, bytes] | None = None) -> None:
        self.store.close()
        self.genesis = genesis
        self.begin()

    def take(self, line: bytes, robot: str = "R1") -> Outcome:
        return self.witness.take(robot, line)

    def feed(self, chain: Chain) -> None:
        for n, line in enumerate(chain.lines):
            assert self.take(line, chain.robot).receipt == Receipt(chain.robot, n, sha(line))

    def kept(self, robot: str = "R1") -> list[bytes]:
        return (self.folder / f"{robot}.jsonl").read_bytes().splitlines()

    def alarms(self, robot: str = "R1") -> list[dict[str, Any]]:
        path = self.folder / f"{robot}.alarms.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "w")
    yield made
    made.store.close()


def kinds(outcome: Outcome) -> list[Kind]:
    return [notice.kind for notice in outcome.notices]


# ---- what is taken


def test_a_ledger_is_taken_entry_by_entry_and_each_is_acknowledged(scene: Scene) -> None:
    chain = Chain().grow(5)
    scene.feed(chain)
    assert scene.kept() == chain.lines
    assert scene.alarms() == []


def test_a_receipt_is_given_only_for_what_is_synced(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, order = Chain().grow(1), list[str]()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        order.append("synced")

    monkeypatch.setattr(os, "fsync", fsync)
    for line in chain.lines:
        receipt = scene.take(line).receipt
        assert receipt is not None
        order.append("answered")
    assert order == ["synced", "synced", "answered", "synced", "answered"]


def test_what_the_disk_refuses_gets_no_receipt_and_is_taken_when_it_works_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain().grow(2)
    scene.feed(chain)
    line = chain.add()
    with monkeypatch.context() as patch:

        def fsync(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(os, "fsync", fsync)
        first, second = scene.take(line), scene.take(line)
    assert (first.receipt, second.receipt) == (None, None)
    assert kinds(first) == [Kind.NOT_KEPT]
    assert first.notices[0].reason == "Input/output error"
    assert second.notices == (), "said once a minute"
    assert scene.witness.not_kept == 2, "and counted each time"
    assert scene.take(line).receipt == Receipt("R1", 3, sha(line))
    assert scene.kept() == chain.lines


def test_an_entry_that_was_taken_is_acknowledged_again_with_the_same_hash(scene: Scene) -> None:
    chain = Chain().grow(9)
    scene.feed(chain)
    scene.feed(chain)
    assert scene.kept() == chain.lines
    assert scene.take(chain.lines[4]).notices == ()


def test_a_gap_is_answered_with_the_head_once_a_second(scene: Scene) -> None:
    chain = Chain().grow(9)
    for line in chain.lines[:3]:
        scene.take(line)
    answers = [scene.take(line) for line in chain.lines[4:8]]
    assert answers == [Outcome(Receipt("R1", 2, sha(chain.lines[2]))), Outcome(), Outcome(), Outcome()]
    scene.now_s += GAP_EVERY_S
    assert scene.take(chain.lines[9]).receipt == Receipt("R1", 2, sha(chain.lines[2]))
    assert scene.kept() == chain.lines[:3]
    assert scene.take(chain.lines[3]).receipt == Receipt("R1", 3, sha(chain.lines[3]))


def test_a_robot_never_seen_is_asked_for_everything(scene: Scene) -> None:
    chain = Chain().grow(3)
    assert scene.take(chain.lines[3]) == Outcome(Receipt("R1", -1, ""))
    assert scene.take(chain.lines[2]) == Outcome()
    assert not (scene.folder / "R1.jsonl").exists()
    scene.feed(chain)


# ---- the first time


def test_first_use_is_said(scene: Scene) -> None:
    outcome = scene.take(Chain().lines[0])
    assert kinds(outcome) == [Kind.FIRST_USE, Kind.TAKEN]
    assert outcome.receipt is not None


def test_a_registered_genesis_must_be_the_one_that_comes(tmp_path: Path) -> None:
    chain, other = Chain().grow(1), Chain(seed="other")
    scene = Scene(tmp_path / "w", genesis={"R1": chain.lines[0]})
    refused = scene.take(other.lines[0])
    assert (refused.receipt, kinds(refused), refused.notices[0].reason) == (
        None,
        [Kind.FORK],
        "genesis_differs",
    )
    assert kinds(scene.take(chain.lines[0])) == [Kind.TAKEN]
    (alarm,) = scene.alarms()
    assert (alarm["ours"], alarm["theirs"]) == (chain.lines[0].decode(), other.lines[0].decode())


def test_a_record_that_began_otherwise_than_registered_is_not_followed(tmp_path: Path) -> None:
    chain, registered = Chain().grow(1), Chain(seed="other").lines[0]
    scene = Scene(tmp_path / "w")
    scene.take(chain.lines[0])
    scene.restart(genesis={"R1": registered})
    assert [(notice.kind, notice.reason) for notice in scene.begun] == [(Kind.FORK, "genesis_differs")]
    assert scene.take(chain.lines[1]) == Outcome()
    assert list(scene.witness.announce()) == []
    assert scene.kept() == chain.lines[:1]


def test_a_genesis_with_a_bad_signature_is_none(scene: Scene) -> None:
    empty = Chain()
    empty.lines.clear()
    body = {"suite": 1, "pk": json.loads(Chain().lines[0])["body"]["pk"]}
    forged = empty.make("genesis", body, key=Chain(seed="other").keys[0])
    outcome = scene.take(forged)
    assert (outcome.receipt, kinds(outcome)) == (None, [Kind.MALFORMED])
    assert not (scene.folder / "R1.jsonl").exists()


# ---- forks


def test_the_same_number_with_another_entry_is_a_fork_and_proven(scene: Scene) -> None:
    chain = Chain().grow(2)
    branch = chain.fork()
    scene.feed(chain.grow(2))
    theirs = branch.add(body={"streams": {"safety": "rewritten"}})
    outcome = scene.take(theirs)
    assert outcome.receipt == Receipt("R1", 3, sha(chain.lines[3])), "what is kept under that number"
    assert kinds(outcome) == [Kind.FORK]
    notice = outcome.notices[0]
    assert (notice.n, notice.reason, notice.proven, notice.kept) == (3, "other_entry", True, True)
    (alarm,) = scene.alarms()
    assert (alarm["ours"], alarm["theirs"]) == (chain.lines[3].decode(), theirs.decode())
    assert scene.kept() == chain.lines, "the first is kept"
    assert scene.take(chain.add()).receipt is not None, "and goes on"


def test_a_fork_at_the_head_is_one_too(scene: Scene) -> None:
    chain = Chain().grow(2)
    branch = chain.fork()
    scene.feed(chain.grow(1))
    assert scene.take(branch.add(body={})).notices[0].reason == "other_entry"


def test_another_history_behind_the_head_shows_in_the_next_entry(scene: Scene) -> None:
    chain = Chain().grow(2)
    branch = chain.fork()
    branch.add(body={"streams": {"tele": "rewritten"}})
    scene.feed(chain.grow(1))
    outcome = scene.take(branch.add())
    notice = outcome.notices[0]
    assert (notice.kind, notice.n, notice.reason, notice.proven) == (Kind.FORK, 4, "prev_hash", True)
    assert outcome.receipt == Receipt("R1", 3, sha(chain.lines[3]))
    assert scene.alarms()[0]["ours"] == chain.lines[3].decode()


def test_a_second_genesis_is_a_fork_that_nobody_can_prove(scene: Scene) -> None:
    chain = Chain().grow(2)
    scene.feed(chain)
    notice = scene.take(Chain(seed="new").lines[0]).notices[0]
    assert (notice.kind, notice.reason, notice.proven) == (Kind.FORK, "second_genesis", False)
    again = Chain()
    again.lines.clear()
    key = again.keys[0]
    body = {"suite": 1, "pk": json.loads(chain.lines[0])["body"]["pk"], "previous": {"n": 2}}
    notice = scene.take(again.make("genesis", body, key=key)).notices[0]
    assert (notice.reason, notice.proven) == ("second_genesis", True), "signed by the very same key"


@pytest.mark.parametrize("which", ["stranger", "earlier", "flipped"])
def test_a_bad_signature_is_an_alarm_and_proves_nothing(scene: Scene, which: str) -> None:
    chain = Chain().grow(2)
    scene.feed(chain)
    line = {
        "stranger": chain.make(key=Chain(seed="x").keys[0]),
        "earlier": chain.make(key=chain.keys[0]),
        "flipped": chain.make().replace(b'"boottime":3', b'"boottime":4'),
    }[which]
    notice = scene.take(line).notices[0]
    assert (notice.kind, notice.reason, notice.proven) == (Kind.FORK, "signature", False)
    assert scene.kept() == chain.lines
    assert scene.take(chain.add()).receipt is not None


def test_another_robots_ledger_under_this_name_is_an_alarm(scene: Scene) -> None:
    mine, other = Chain("R1").grow(2), Chain("R2").grow(3)
    scene.feed(mine)
    outcome = scene.take(other.lines[3], "R1")
    assert (outcome.receipt, kinds(outcome), outcome.notices[0].reason) == (None, [Kind.FOREIGN], "R2")
    assert scene.alarms()[0]["theirs"] == other.lines[3].decode()
    assert scene.kept() == mine.lines


def test_a_cut_ledger_that_is_written_anew_is_a_fork(scene: Scene) -> None:
    chain = Chain().grow(6)
    scene.feed(chain)
    cut = chain.fork()
    del cut.lines[4:], cut.keys[5:]
    outcomes = [scene.take(cut.add(body={"streams": {"cut": True}})) for _ in range(4)]
    receipt = Receipt("R1", 4, sha(chain.lines[4]))
    assert [outcome.receipt for outcome in outcomes] == [receipt, None, None, None], "once a second"
    assert [outcome.notices[0].reason for outcome in outcomes[:3]] == ["other_entry"] * 3
    assert scene.kept() == chain.lines


def test_every_reason_has_words() -> None:
    assert {"other_entry", "second_genesis", "genesis_differs", "prev_hash", "signature", "suite"} == set(
        REASONS
    )
    for kind in Kind:
        assert kind.value.text.zh
        assert kind.value.text.en


# ---- noise


@pytest.mark.parametrize("line", [b"", b"\x00" * 100, b"{}", b"x" * 65_537, b"\xff\xfe"])
def test_what_is_no_entry_is_an_alarm_for_a_robot_that_is_followed(scene: Scene, line: bytes) -> None:
    scene.feed(Chain())
    outcome = scene.take(line)
    assert (outcome.receipt, kinds(outcome)) == (None, [Kind.MALFORMED])
    assert len(scene.alarms()[0]["theirs"]) <= 4096


def test_noise_under_names_that_are_not_followed_makes_no_files(scene: Scene) -> None:
    told = [scene.take(b"noise %d" % n, f"X{n}").notices for n in range(50)]
    assert sum(map(len, told)) == BURST
    assert [path.name for path in scene.folder.iterdir()] == [".lock"]
    assert scene.witness.robots == {}


def test_a_name_that_is_none_and_one_that_was_not_asked_for_are_passed_over(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "w", robots=["R1"])
    for robot in ("R2", "a/b", "", "R1.alarms"):
        assert scene.take(Chain("R2").lines[0], robot) == Outcome()
    assert scene.take(Chain("R1").lines[0]).receipt is not None


def test_alarms_of_one_robot_are_bounded_and_noise_crowds_out_no_proof(scene: Scene) -> None:
    chain = Chain().grow(2)
    scene.feed(chain)
    for number in range(200):
        scene.take(b"noise %d" % number)
    assert len(scene.alarms()) == BURST
    branch = chain.fork()
    scene.feed(chain.grow(1))
    proven = scene.take(branch.add(body={})).notices[0]
    assert (proven.proven, proven.kept, proven.left_out) == (True, True, 190)
    scene.now_s += EVERY_S
    told = [notice for n in range(20) for notice in scene.take(b"later %d" % n).notices]
    assert [notice.left_out for notice in told] == [0]


def test_an_alarm_that_no_disk_takes_is_told_all_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.feed(Chain())

    def full(store: Store, robot_id: str, alarm: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "keep_alarm", full)
    (notice,) = scene.take(b"noise").notices
    assert (notice.kind, notice.kept) == (Kind.MALFORMED, False)
    assert scene.witness.alarms.counts == {"R1": {"malformed": 1}}
    assert scene.witness.alarms.not_kept == 1


def test_the_same_alarm_is_told_once(scene: Scene) -> None:
    chain = Chain().grow(2)
    branch = chain.fork()
    scene.feed(chain.grow(1))
    line = branch.add(body={})
    assert [len(scene.take(line).notices) for _ in range(5)] == [1, 0, 0, 0, 0]
    assert len(scene.alarms()) == 1


def test_robots_are_limited_in_number(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "w", max_robots=2)
    for robot in ("R1", "R2"):
        scene.feed(Chain(robot))
    outcome = scene.take(Chain("R3").lines[0], "R3")
    assert (outcome.receipt, kinds(outcome)) == (None, [Kind.TOO_MANY])
    assert not (scene.folder / "R3.jsonl").exists()
    scene.feed(Chain("R1").grow(1))
    for n in range(9):
        scene.take(Chain(f"S{n}").grow(1).lines[1], f"S{n}")
    assert len(scene.witness._gaps) == 2


def test_a_suite_that_this_machine_has_not_is_said_and_nothing_is_taken(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain().grow(1)
    scene.feed(chain)

    def missing(number: int) -> object:
        raise SuiteError(f"no suite {number} here")

    line = chain.add()
    with monkeypatch.context() as patch:
        patch.setattr(entry_module, "suite_by_number", missing)
        outcome = scene.take(line)
        genesis = scene.take(Chain("R2").lines[0], "R2")
    assert (outcome.receipt, kinds(outcome)) == (None, [Kind.UNJUDGED])
    assert (genesis.receipt, kinds(genesis)) == (None, [Kind.UNJUDGED])
    assert scene.take(line).receipt is not None


# ---- restarts


def test_a_witness_goes_on_where_it_was_killed(scene: Scene) -> None:
    chain = Chain().grow(3)
    scene.feed(chain)
    line = chain.add()
    scene.take(line)  # kept; the kill comes before anyone is answered
    scene.restart()
    assert list(scene.witness.announce()) == [Receipt("R1", 4, sha(line))]
    assert scene.take(line).receipt == Receipt("R1", 4, sha(line)), "the robot repeats it, and is answered"
    scene.feed(chain.grow(1))
    assert scene.kept() == chain.lines


def test_a_kill_in_the_middle_of_a_write_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    chain = Chain().grow(2)
    whole = Scene(tmp_path / "whole")
    whole.feed(chain)
    whole.store.close()
    data = (whole.folder / "R1.jsonl").read_bytes()
    answered = data.index(b"\n", data.index(b"\n") + 1) + 1
    for end in range(answered, len(data) + 1, 13):
        folder = tmp_path / "torn"
        folder.mkdir()
        (folder / "R1.jsonl").write_bytes(data[:end])
        scene = Scene(folder)
        scene.feed(chain)
        assert scene.kept() == chain.lines
        assert scene.alarms() == []
        scene.store.close()
        shutil.rmtree(folder)


def test_a_fork_is_seen_across_a_restart(scene: Scene) -> None:
    chain = Chain().grow(3)
    branch = chain.fork()
    scene.feed(chain.grow(1))
    scene.restart()
    assert scene.take(branch.add(body={})).notices[0].kind is Kind.FORK
    scene.restart()
    assert scene.witness.alarms.counts == {"R1": {"fork": 1}}


def test_one_damaged_record_stops_only_itself(scene: Scene) -> None:
    for robot in ("R1", "R2"):
        scene.feed(Chain(robot).grow(2))
    scene.store.close()
    damaged = scene.folder / "R1.jsonl"
    damaged.write_bytes(damaged.read_bytes().replace(b"checkpoint", b"checkpaint"))
    scene.begin()
    assert [(notice.kind, notice.robot) for notice in scene.begun] == [(Kind.DAMAGED, "R1")]
    assert scene.take(Chain().grow(3).lines[3]) == Outcome()
    assert [receipt.robot for receipt in scene.witness.announce()] == ["R2"]
    scene.feed(Chain("R2").grow(4))
    assert scene.witness.tick(0.0) == []


def test_a_record_that_cannot_be_read_stops_only_itself(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.feed(Chain().grow(1))
    with monkeypatch.context() as patch:

        def load(store: Store, robot_id: str) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(Store, "load", load)
        scene.restart()
    assert [(notice.kind, notice.reason) for notice in scene.begun] == [
        (Kind.DAMAGED, "cannot be read: Input/output error")
    ]


def test_damage_that_shows_later_is_said(scene: Scene) -> None:
    chain = Chain().grow(5)
    scene.feed(chain)
    path = scene.folder / "R1.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"v":1', b'"v":2'))
    assert kinds(scene.take(chain.lines[2])) == [Kind.DAMAGED]
    assert scene.take(chain.add()) == Outcome()


# ---- silence


def test_silence_is_an_alarm_and_its_end_is_said(scene: Scene) -> None:
    chain = Chain().grow(1)
    scene.feed(chain)
    scene.now_s += 900
    assert scene.witness.tick(0.0) == []
    scene.now_s += 1
    (silent,) = scene.witness.tick(0.0)
    assert (silent.kind, silent.n, silent.seconds) == (Kind.SILENT, 1, 901.0)
    assert scene.witness.tick(0.0) == [], "said once"
    scene.now_s += 99
    scene.take(chain.lines[1])
    assert scene.witness.robots["R1"].silent, "what was there before is nothing new"
    outcome = scene.take(chain.add())
    assert kinds(outcome) == [Kind.TAKEN, Kind.BACK]
    assert outcome.notices[1].seconds == 1000.0
    assert [alarm["alarm"] for alarm in scene.alarms()] == ["silent", "back"]


def test_nobody_is_silent_while_the_witness_itself_is_deaf(scene: Scene) -> None:
    scene.feed(Chain())
    scene.now_s += 5000
    assert scene.witness.tick(None) == []
    assert scene.witness.tick(scene.now_s - 900) == []
    assert len(scene.witness.tick(scene.now_s - 901)) == 1


def test_a_robot_that_was_asked_for_and_never_came_is_silent_too(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "w", robots=["R1"], silence_s=60.0)
    scene.now_s += 61
    (silent,) = scene.witness.tick(0.0)
    assert (silent.robot, silent.n) == ("R1", -1)
    assert kinds(scene.take(Chain().lines[0])) == [Kind.FIRST_USE, Kind.TAKEN, Kind.BACK]


def test_the_age_of_the_last_entry_survives_a_restart(scene: Scene) -> None:
    scene.feed(Chain())
    stamp = 1.7e9 + scene.now_s
    os.utime(scene.folder / "R1.jsonl", (stamp, stamp))
    scene.now_s += 500
    scene.restart()
    assert scene.witness.robots["R1"].since_s == pytest.approx(scene.now_s - 500)
    os.utime(scene.folder / "R1.jsonl", (stamp + 9e6, stamp + 9e6))
    scene.restart()
    assert scene.witness.robots["R1"].since_s == scene.now_s, "a file of the future is of now"


# ---- many


def test_a_thousand_robots_take_little_memory(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    chains = [Chain(f"R{number}").grow(1) for number in range(1000)]
    scene.feed(Chain("warm").grow(1))
    tracemalloc.start()
    before = in_use()
    for chain in chains:
        scene.take(chain.lines[0], chain.robot)
    after_one = in_use()
    for chain in chains:
        scene.take(chain.lines[1], chain.robot)
    after_two = in_use()
    tracemalloc.stop()
    assert len(scene.witness.robots) == 1001
    assert after_one - before < 2_000 * 1000
    assert after_two - after_one < 200 * 1000, "a longer ledger takes no more"


def in_use() -> int:
    """Bytes, without garbage, and without the table of names that the interpreter grows by doubling."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*pathlib*")])
    return sum(trace.size for trace in snapshot.traces)
