"""What must stand in the ledger comes to stand there, once, whatever the disk does meanwhile."""

import errno
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.recorder.clocks import WallClock
from agent.recorder.keeper import LOSS_EVERY_NS, MAX_OWED, RETRY_NS, Keeper, Times
from agent.recorder.log import Head, LogError, Record
from agent.recorder.space import NO_TASKS, RESERVE_ONLY, Space

S = 1_000_000_000


class Ledger:
    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self.broken = False

    def append(self, kind: str, body: Mapping[str, object], /) -> None:
        if self.broken:
            raise LogError(Path("ledger.jsonl"), "not written", errno.ENOSPC)
        self.entries.append((kind, dict(body)))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [body for found, body in self.entries if found == kind]


class Segments:
    def __init__(self) -> None:
        self.frames = 1
        self.looks = 0
        self.broken = False

    def heads(self) -> Mapping[str, Head]:
        return {"safety": Head(1, self.frames, 2, "aa")} if self.frames else {}

    def rotate_due(self, now_boottime_ns: int) -> None:
        self.looks += 1
        if self.broken:
            raise LogError(Path("safety"), "not sealed", errno.EIO)


class Rig:
    def __init__(self) -> None:
        self.ledger, self.segments = Ledger(), Segments()
        self.permille = 900
        self.wall_ns = 1_700_000_000 * S
        self.now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.notes: list[tuple[str, Mapping[str, object], str]] = []
        self.levels: list[int] = []
        self.keeper = Keeper(
            Times(300 * S, 30 * S, 10 * S),
            ledger=self.ledger,
            segments=self.segments,
            space=Space(Path("/"), free=lambda _: self.permille),
            clock=WallClock(
                wall_ns=lambda: self.wall_ns, boottime_ns=lambda: self.now_ns, synchronised=lambda: True
            ),
            note=self._note,
            tell_level=self.levels.append,
        )

    def _note(self, kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
        self.notes.append((kind, body, stream))

    def tick(self, seconds: float = 1.0, *, wall_s: float | None = None) -> None:
        self.now_ns += int(seconds * S)
        self.wall_ns += int((seconds if wall_s is None else wall_s) * S)
        self.keeper.tick(self.now_ns)

    def wrote(self, kind: str, body: Mapping[str, object], *, source: str = "remote") -> None:
        self.segments.frames += 1
        record = Record(source, "a" * 32, 1, "safety", kind, self.wall_ns, self.now_ns, body)
        self.keeper.written([record])


def test_a_checkpoint_comes_every_so_often_and_within_a_second_of_a_safety_record() -> None:
    rig = Rig()
    rig.tick()
    assert len(rig.ledger.of("checkpoint")) == 1
    for _ in range(299):
        rig.tick()
    assert len(rig.ledger.of("checkpoint")) == 1
    rig.tick()
    assert len(rig.ledger.of("checkpoint")) == 2
    rig.wrote("command", {})
    rig.tick(0.5)
    rig.wrote("command", {})
    rig.tick(0.6)
    rig.tick(0.5)
    checkpoints = rig.ledger.of("checkpoint")
    assert len(checkpoints) == 3, "one for both"
    assert checkpoints[-1] == {
        "streams": {"safety": {"segno": 1, "frames": rig.segments.frames, "next_seq": 2, "h": "aa"}}
    }


def test_without_a_segment_there_is_nothing_to_check() -> None:
    rig = Rig()
    rig.segments.frames = 0
    rig.tick(1000)
    assert not rig.ledger.entries


def test_what_the_disk_refuses_is_written_later_in_order_and_once() -> None:
    rig = Rig()
    rig.tick()
    rig.ledger.broken = True
    rig.wrote("cause_raised", {"id": "maintenance"})
    rig.wrote("cause_cleared", {"id": "maintenance"})
    rig.tick()
    assert rig.keeper.trouble
    rig.ledger.broken = False
    rig.tick(RETRY_NS / S)
    rig.tick()
    assert rig.ledger.of("maintenance") == [{"open": True}, {"open": False}]
    assert rig.keeper.trouble is None


def test_more_than_it_can_keep_waiting_is_counted() -> None:
    rig = Rig()
    rig.ledger.broken = True
    for _ in range(MAX_OWED + 5):
        rig.keeper.owe("maintenance", {"open": True})
    rig.ledger.broken = False
    rig.now_ns += LOSS_EVERY_NS
    rig.wall_ns += LOSS_EVERY_NS
    rig.tick()
    rig.tick()
    assert len(rig.ledger.of("maintenance")) == MAX_OWED
    assert rig.ledger.of("loss") == [{"stream": "ledger", "count": 5, "reason": "no room"}]


def test_the_end_of_service_is_said_once_and_only_by_remote() -> None:
    rig = Rig()
    rig.wrote("cause_raised", {"id": "retired"}, source="reflex")
    rig.tick()
    assert not rig.ledger.of("service.end")
    for _ in range(2):
        rig.wrote("cause_raised", {"id": "retired"})
    rig.tick()
    assert rig.ledger.of("service.end") == [{"reason": "retired"}]


def test_a_stop_is_an_incident_in_the_ledger() -> None:
    rig = Rig()
    body = {"channel": "reflex", "from": "none", "to": "emergency_stop", "epoch": 9}
    rig.wrote("response", body, source="reflex")
    rig.tick()
    (incident,) = rig.ledger.of("incident")
    assert incident["id"] == "reflex-9"
    assert incident["to_ns"] - incident["from_ns"] == 40 * S
    assert rig.keeper.incidents_total == 1


def test_a_clock_step_stands_in_the_ledger_and_in_the_records() -> None:
    rig = Rig()
    rig.tick(1, wall_s=1)
    rig.tick(1, wall_s=31_536_000)
    (step,) = rig.ledger.of("clock.step")
    assert step["after_ns"] - step["before_ns"] == (31_536_000 - 1) * S
    assert [kind for kind, _, _ in rig.notes] == ["clock_step"]
    rig.tick()
    assert len(rig.ledger.of("clock.step")) == 1


def test_a_filling_disk_is_said_in_the_ledger_and_told_on() -> None:
    rig = Rig()
    rig.tick()
    rig.permille = 49
    rig.tick()
    rig.tick()
    assert rig.ledger.of("disk.level") == [{"level": NO_TASKS, "free_permille": 49}]
    assert rig.levels == [NO_TASKS]
    rig.keeper.look(full=True)
    assert rig.levels == [NO_TASKS, RESERVE_ONLY]


def test_losses_are_summed_into_one_entry_a_minute() -> None:
    rig = Rig()
    rig.tick()
    for _ in range(5):
        rig.keeper.lost("tele", 2)
    rig.wrote("loss", {"stream": "net", "count": 3})
    rig.wrote("loss", {"stream": "net", "count": "3"})
    rig.now_ns += LOSS_EVERY_NS
    rig.wall_ns += LOSS_EVERY_NS
    rig.tick()
    rig.tick()
    assert rig.ledger.of("loss") == [
        {"stream": "tele", "count": 10, "reason": "no room"},
        {"stream": "net", "count": 3, "reason": "no room"},
    ]


def test_segments_that_cannot_be_ended_are_no_end_of_everything() -> None:
    rig = Rig()
    rig.segments.broken = True
    rig.tick()
    assert rig.segments.looks == 1
    assert rig.ledger.of("checkpoint")


def test_what_is_still_owed_is_written_at_the_end() -> None:
    rig = Rig()
    rig.tick()
    rig.keeper.lost("tele")
    rig.keeper.owe("maintenance", {"open": True})
    rig.keeper.close()
    assert rig.ledger.of("maintenance")
    assert rig.ledger.of("loss")
