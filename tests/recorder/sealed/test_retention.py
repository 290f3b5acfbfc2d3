"""What may be deleted: each rule alone keeps a segment, whatever the order says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.recorder.sealed import catalogue
from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.ledger import Ledger
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.orders import Named
from agent.recorder.sealed.retention import TEXTS, RefusedError, Retention
from tests.recorder.sealed import office
from tests.recorder.sealed.ledgers import START_NS, Clock, QuickDisk, opened, verified
from tests.recorder.sealed.logs import SEALING, FaultyDisk, record
from tests.recorder.sealed.office import OFFICE, WITNESSES, receipt

DAY_S = 86_400
DAY_NS = DAY_S * 10**9
START_S = START_NS // 10**9


def day(number: float) -> int:
    """Wall time, ns, so many days after the segments were written."""
    return START_NS + int(number * DAY_NS)


@dataclass
class Scene:
    """A log of one sealed segment each of `net` and `safety`, written at day 0, and what came after."""

    folder: Path
    ledger: Ledger
    clock: Clock

    def tell(self, at_day: float, kind: str, body: Mapping[str, object]) -> None:
        self.clock.now_ns = day(at_day)
        self.ledger.append(kind, body)

    def witnessed(self, at_day: float, told_day: float | None = None) -> None:
        told = at_day if told_day is None else told_day
        self.tell(at_day, "witness.ack", receipt(START_S + int(told * DAY_S)))

    def retention(self, now_day: float, disk: Disk | None = None, days: int = 190) -> Retention:
        return Retention(
            self.folder,
            self.ledger,
            office=OFFICE,
            witnesses=WITNESSES,
            days=days,
            wall_ns=lambda: day(now_day),
            disk=disk or QuickDisk(),
        )

    def named(self, stream: str = "net", segno: int = 1) -> Named:
        entries = verified(self.ledger.path)
        seals = {
            (entry["body"]["stream"], entry["body"]["segno"]): entry["body"]["seal"]
            for entry in entries
            if entry["kind"] == "seg.seal"
        }
        return Named(stream, segno, seals[stream, segno])

    def reasons(self, now_day: float, stream: str = "net") -> list[str]:
        return [row.code for row in self.retention(now_day).review([self.named(stream)])]


def run_streams(
    folder: Path, ledger: Ledger, clock: Clock, streams: Sequence[str] = ("safety", "net")
) -> None:
    """One life of the streams: a segment each, opened, written and sealed."""
    log = SealedLog(folder, SEALING, ledger, disk=FaultyDisk(), clocks=clock.clocks)
    boot = f"{clock.now_ns:032x}"
    log.append([record(seq, boot=boot, stream=stream) for seq, stream in enumerate(streams, 1)])
    log.close()


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    clock = Clock()
    with opened(folder, clock=clock) as ledger:
        run_streams(folder, ledger, clock)
        yield Scene(folder, ledger, clock)


def test_past_its_time_by_both_clocks_a_segment_may_go(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.witnessed(190.1)
        retention = log.retention(190.1)
        assert retention.in_service
        assert retention.review([log.named()]) == []
        assert retention.deletable() == [log.named()]


HOLD = {"id": "h1", "from_ns": day(-1), "to_ns": day(1), "reason": "inquiry"}
INCIDENT = {
    "id": "i1",
    "channel": "reflex",
    "response": "hold",
    "epoch": 1,
    "from_ns": day(-1),
    "to_ns": day(1),
}


def nothing(_log: Scene) -> None:
    pass


def witnessed(at_day: float) -> Callable[[Scene], None]:
    return lambda log: log.witnessed(at_day)


def told(at_day: float, kind: str, body: Mapping[str, object]) -> Callable[[Scene], None]:
    return lambda log: log.tell(at_day, kind, body)


def forged(body: Mapping[str, object]) -> Callable[[Scene], None]:
    return told(200, "witness.ack", body)


TOLD = START_S + 200 * DAY_S


@pytest.mark.parametrize(
    ("now_day", "steps", "reasons"),
    [
        pytest.param(200, [witnessed(200)], [], id="may go"),
        # the clocks
        pytest.param(189.9, [witnessed(200)], ["too_young"], id="too young by the local clock"),
        pytest.param(200, [nothing], ["no_witness"], id="no witness"),
        pytest.param(200, [witnessed(189.9)], ["not_witnessed"], id="too young by the witness"),
        pytest.param(100 + 365, [witnessed(100)], ["not_witnessed"], id="clock a year forward"),
        pytest.param(200 - 365, [witnessed(200)], ["too_young"], id="clock a year back"),
        pytest.param(100, [witnessed(100)], ["too_young", "not_witnessed"], id="young by both"),
        pytest.param(200, [witnessed(200), witnessed(50)], ["not_witnessed"], id="an older receipt after it"),
        # receipts that are none
        pytest.param(200, [forged(receipt(TOLD, key=office.GUARDIAN))], ["no_witness"], id="forged receipt"),
        pytest.param(200, [forged(receipt(TOLD, kid="x"))], ["no_witness"], id="unknown witness"),
        pytest.param(200, [forged(receipt(TOLD, robot="r2"))], ["no_witness"], id="another robot's receipt"),
        pytest.param(
            200,
            [forged(receipt(START_S) | {"witness_time": TOLD})],
            ["no_witness"],
            id="receipt that says less",
        ),
        pytest.param(200, [forged(receipt(TOLD) | {"token": ""})], ["no_witness"], id="no token"),
        # holds
        pytest.param(200, [told(1, "hold", HOLD), witnessed(200)], ["held"], id="held"),
        pytest.param(
            200, [told(1, "hold", HOLD | {"from_ns": day(1)}), witnessed(200)], [], id="held after it"
        ),
        pytest.param(
            200, [told(1, "hold", HOLD | {"to_ns": day(-0.5)}), witnessed(200)], [], id="held before it"
        ),
        pytest.param(
            200, [told(1, "hold", HOLD | {"to_ns": None}), witnessed(200)], ["held"], id="held without end"
        ),
        pytest.param(
            200,
            [told(1, "hold", HOLD), told(2, "hold", HOLD | {"id": "h2"}), witnessed(200)],
            ["held", "held"],
            id="held twice",
        ),
        pytest.param(
            200,
            [told(1, "hold", HOLD), told(2, "hold", {"id": "h1", "release": "token"}), witnessed(200)],
            [],
            id="released",
        ),
        pytest.param(200, [told(15, "incident", INCIDENT), witnessed(200)], ["incident"], id="incident"),
        pytest.param(206, [told(15, "incident", INCIDENT), witnessed(206)], [], id="incident past its time"),
        pytest.param(
            206, [told(15, "incident", INCIDENT), witnessed(204)], ["incident"], id="incident, by the witness"
        ),
        pytest.param(
            204,
            [told(15, "incident", INCIDENT), witnessed(206)],
            ["incident"],
            id="incident, by the local clock",
        ),
        pytest.param(
            200,
            [told(15, "incident", INCIDENT | {"from_ns": day(14), "to_ns": day(15)}), witnessed(200)],
            [],
            id="incident of another time",
        ),
        # the end of service
        pytest.param(
            200,
            [told(100, "service.end", {"reason": "r"}), witnessed(200)],
            ["too_young", "not_witnessed"],
            id="too young after the end of service",
        ),
        pytest.param(
            291, [told(100, "service.end", {"reason": "r"}), witnessed(291)], [], id="past the end of service"
        ),
        pytest.param(
            291,
            [witnessed(101), told(-265, "service.end", {"reason": "r"}), witnessed(290.5)],
            ["not_witnessed"],
            id="an end of service told by a clock that was a year back",
        ),
    ],
)
def test_each_rule_alone(
    tmp_path: Path, now_day: float, steps: Sequence[Callable[[Scene], None]], reasons: list[str]
) -> None:
    """As the ledger tells it while it grows, and as it is read when it is opened again."""
    with scene(tmp_path) as log:
        early = log.retention(now_day)
        log.ledger.on_entry = early.observe
        for step in steps:
            step(log)
        assert [row.code for row in early.review([log.named()])] == reasons
        assert log.reasons(now_day) == reasons


def test_safety_goes_only_after_service(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.witnessed(400)
        assert log.reasons(400, "safety") == ["in_service"]
        log.tell(401, "service.end", {"reason": "r"})
        log.witnessed(592)
        assert not log.retention(592).in_service
        assert log.reasons(592, "safety") == []


def test_longer_retention_by_settings_and_never_a_shorter_one(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.witnessed(200)
        [refusal, _] = log.retention(200, days=201).review([log.named()])
        assert refusal.code == "too_young"
        with pytest.raises(ValueError, match="at least 190"):
            log.retention(200, days=189)


def test_what_the_ledger_does_not_know_stays(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.witnessed(200)
        running = SealedLog(log.folder, SEALING, log.ledger, disk=FaultyDisk(), clocks=log.clock.clocks)
        running.append([record(1, boot="cd" * 16, stream="net")])
        retention = log.retention(200)
        seal = log.named().seal
        unknown = [
            Named("net", 1, "00" * 32),
            Named("net", 2, ""),
            Named("net", 2, seal),
            Named("net", 3, seal),
            Named("tele", 1, seal),
        ]
        assert [row.code for row in retention.review(unknown)] == ["unknown"] * 5
        running.close()


def test_times_are_all_that_the_ledger_shows_while_a_segment_was_open(tmp_path: Path) -> None:
    """A clock that was wrong for a while can make a segment look younger, never older."""
    for wrong, far in (("back", -400.0), ("forward", 400.0)):
        clock = Clock()
        with opened(tmp_path / wrong, clock=clock) as ledger:
            log = SealedLog(tmp_path / wrong, SEALING, ledger, disk=FaultyDisk(), clocks=clock.clocks)
            log.append([record(1, stream="net")])
            clock.now_ns = day(far)
            ledger.append("checkpoint", {"streams": {}})
            clock.now_ns = day(1)
            log.close()
            here = Scene(tmp_path / wrong, ledger, clock)
            here.witnessed(200)
            here.tell(200, "hold", HOLD | {"from_ns": day(min(far, 0)), "to_ns": day(max(far, 1))})
            expected = ["held"] if wrong == "back" else ["too_young", "not_witnessed", "held"]
            assert here.reasons(200) == expected


def test_a_step_of_the_clock_counts_with_both_its_times(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock=clock) as ledger:
        log = SealedLog(tmp_path, SEALING, ledger, disk=FaultyDisk(), clocks=clock.clocks)
        log.append([record(1, stream="net")])
        ledger.append("clock.step", {"before_ns": day(-3), "after_ns": day(4)})
        log.close()
        here = Scene(tmp_path, ledger, clock)
        assert here.retention(0).span(here.named()) == (day(-3), day(4))


def test_a_segment_is_no_older_than_the_witness_said_before_it(tmp_path: Path) -> None:
    """Written with the clock a year back, so by its own times it is past its time already."""
    clock = Clock()
    with opened(tmp_path, clock=clock) as ledger:
        here = Scene(tmp_path, ledger, clock)
        here.witnessed(0)
        clock.now_ns = day(-365)
        run_streams(tmp_path, ledger, clock)
        here.witnessed(189)
        assert here.reasons(189) == ["too_young", "not_witnessed"]
        here.witnessed(190.1)
        assert here.reasons(190.1) == []


def test_an_incident_holds_what_was_open_when_it_came(tmp_path: Path) -> None:
    """Whatever its window says: the clock may have jumped in between."""
    clock = Clock()
    with opened(tmp_path, clock=clock) as ledger:
        log = SealedLog(tmp_path, SEALING, ledger, disk=FaultyDisk(), clocks=clock.clocks)
        log.append([record(1, stream="net")])
        here = Scene(tmp_path, ledger, clock)
        ledger.append("incident", INCIDENT | {"from_ns": day(-90), "to_ns": day(-89)})
        clock.now_ns = day(0.01)
        log.close()
        here.witnessed(190.005)
        assert here.reasons(190.005) == ["too_young", "not_witnessed"]
        here.tell(190.02, "clock.step", {"before_ns": day(190), "after_ns": day(190)})
        assert here.retention(190.005)._known.holds.over(day(-90), day(-90), day(0))


def test_reasons_are_in_both_languages(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.tell(1, "hold", HOLD)
        log.witnessed(100)
        refusals = log.retention(100).review([log.named(), log.named("safety")])
        told_en = RefusedError(refusals)
        assert len(refusals) == 7
        for row in refusals:
            assert f"{row.named.stream}/{row.named.segno}: {row.en} / {row.zh}" in str(told_en)
            assert row.en.isascii()
            assert not row.zh.isascii()
        assert "hold h1 is on it: inquiry" in str(told_en)
        assert "被保留令 h1 保留：inquiry" in str(told_en)
        assert "2027-07-24T" in str(told_en)
    assert all(zh and en for zh, en in TEXTS.values())


def test_only_so_many_witnesses_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MAX_WITNESSES", 1)
    with scene(tmp_path) as log:
        log.witnessed(100)
        log.tell(200, "witness.ack", receipt(TOLD, kid="x"))
        log.witnessed(199)
        retention = log.retention(200)
        assert retention.witness_ns() == day(199)
        assert list(retention._known.receipts) == ["w"]


def test_a_time_beyond_all_calendars(tmp_path: Path) -> None:
    clock = Clock(9_000_000_000_000_000_000)
    with opened(tmp_path, clock=clock) as ledger:
        run_streams(tmp_path, ledger, clock)
        here = Scene(tmp_path, ledger, clock)
        assert "until 2255-" in here.retention(0).review([here.named()])[0].en
