from collections.abc import Mapping
from typing import Any

import pytest

from agent.recorder.incidents import CHUNK, CHUNK_BYTES, MAX_RING, Incident, Incidents, Sample
from agent.recorder.log import Record

S = 1_000_000_000
WALL = 1_700_000_000 * S


class Rig:
    def __init__(self, before_s: int = 5, after_s: int = 2) -> None:
        self.begun: list[Incident] = []
        self.kept: list[Mapping[str, Any]] = []
        self.now_ns = 100 * S
        self.incidents = Incidents(
            before_ns=before_s * S, after_ns=after_s * S, begun=self.begun.append, keep=self.kept.append
        )

    def samples(self, count: int, every_ns: int = S // 10, size: int = 100) -> None:
        for _ in range(count):
            self.now_ns += every_ns
            self.incidents.sample(Sample(WALL + self.now_ns, self.now_ns, {"at": self.now_ns}, size))

    def told(self, before: str, after: str, *, channel: str = "reflex", epoch: object = 7) -> None:
        body = {"channel": channel, "from": before, "to": after, "epoch": epoch}
        record = Record(channel, "a" * 32, 1, "safety", "response", WALL + self.now_ns, self.now_ns, body)
        self.incidents.observe(record, self.now_ns)

    def times(self) -> list[int]:
        return [at for body in self.kept for at in body["boottime_ns"]]


def test_a_stop_puts_what_came_before_it_and_after_it_into_the_log() -> None:
    rig = Rig()
    rig.samples(100)
    assert not rig.kept
    stopped_ns = rig.now_ns
    rig.told("none", "emergency_stop")
    rig.samples(100)
    rig.incidents.tick(rig.now_ns)
    assert [one.id for one in rig.begun] == ["reflex-7"]
    assert rig.begun[0].from_ns == WALL + stopped_ns - 5 * S
    assert rig.begun[0].to_ns == WALL + stopped_ns + 2 * S
    times = rig.times()
    assert times[0] == stopped_ns - 5 * S
    assert times[-1] == stopped_ns + 2 * S
    assert times == list(range(times[0], times[-1] + 1, S // 10)), "each sample once, in order"
    assert {body["incident"] for body in rig.kept} == {"reflex-7"}
    assert all(body["data"][0] == {"at": body["boottime_ns"][0]} for body in rig.kept)


def test_the_other_channel_that_follows_is_the_same_incident() -> None:
    rig = Rig()
    rig.told("none", "emergency_stop")
    rig.told("none", "emergency_stop", channel="remote")
    rig.told("hold", "emergency_stop")
    assert len(rig.begun) == 1


def test_the_next_stop_is_one_of_its_own() -> None:
    rig = Rig()
    rig.told("none", "hold", epoch=7)
    rig.samples(50)
    rig.told("none", "safe_mode", epoch=8)
    assert [one.id for one in rig.begun] == ["reflex-7", "reflex-8"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("none", "warn"),
        ("warn", "restrict"),
        ("emergency_stop", "none"),
        ("emergency_stop", "hold"),
        ("x", "y"),
    ],
)
def test_what_is_no_stop_begins_nothing(before: str, after: str) -> None:
    rig = Rig()
    rig.samples(10)
    rig.told(before, after)
    assert not rig.begun
    assert not rig.kept


def test_a_record_that_is_not_of_its_form_begins_nothing() -> None:
    rig = Rig()
    rig.told("none", "hold", epoch="7")
    rig.told("none", "hold", epoch=True)
    assert not rig.begun


def test_memory_and_records_are_bounded_whatever_comes() -> None:
    rig = Rig(before_s=300)
    rig.samples(3 * MAX_RING, every_ns=1, size=8_000)
    rig.told("none", "hold")
    rig.samples(500, every_ns=1, size=8_000)
    assert sum(len(body["data"]) for body in rig.kept) >= MAX_RING
    assert all(len(body["data"]) <= CHUNK for body in rig.kept)
    assert all(len(body["data"]) * 8_000 <= CHUNK_BYTES for body in rig.kept)
