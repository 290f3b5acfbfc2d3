"""Holds, and doubts about the ledger, which hold everything."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.logformat.suites import Suite, SuiteError
from agent.recorder.log import LogError
from agent.recorder.sealed import catalogue, holds
from agent.recorder.sealed import deletion as deletion_module
from agent.recorder.sealed.holds import HoldError
from agent.recorder.sealed.orders import Named, OrderError
from agent.recorder.sealed.retention import RefusedError
from tests.recorder.sealed import office
from tests.recorder.sealed.ledgers import LEDGER, Clock, opened, verified
from tests.recorder.sealed.office import claims, deletion, token
from tests.recorder.sealed.test_retention import HOLD, INCIDENT, Scene, day, scene


def test_a_hold_is_placed_and_released_by_order(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.witnessed(200)
        retention = log.retention(200)
        retention.hold("h1", day(0), day(1), "inquiry")
        assert [row.code for row in retention.review([log.named()])] == ["held"]
        with pytest.raises(HoldError, match="used before"):
            retention.hold("h1", day(0), day(1), "again")
        assert retention.release(token(claims("release"))) == "h1"
        assert retention.review([log.named()]) == []
        with pytest.raises(HoldError, match="was released before"):
            retention.release(token(claims("release")))
        with pytest.raises(HoldError, match="used before"):  # or the old order would release it
            retention.hold("h1", day(0), day(1), "again")
        with pytest.raises(HoldError, match="there is none"):
            retention.release(token(claims("release", hold="h2")))
        assert [entry["kind"] for entry in verified(tmp_path / LEDGER)][-2:] == ["hold", "hold"]


@pytest.mark.parametrize(("start", "end"), [(2, 1), (-1, 1), (0, 2**63)])
def test_a_hold_has_a_span(tmp_path: Path, start: int, end: int) -> None:
    with scene(tmp_path) as log, pytest.raises(HoldError, match="must end after it begins"):
        log.retention(0).hold("h", start, end, "r")


def test_a_hold_is_released_by_nobody_else(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.tell(1, "hold", HOLD)
        for order in (
            token(claims("release", iss="guard"), kid="guard", key=office.GUARDIAN),
            token(claims("release", aud="r2")),
            deletion(log.named()),
        ):
            with pytest.raises(OrderError):
                log.retention(200).release(order)
        assert len(log.retention(200).holds.placed) == 1


def test_holds_and_segments_of_a_ledger_that_was_broken_off_still_count(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.tell(1, "hold", HOLD)
        named = log.named()
    (tmp_path / "state").unlink()
    with opened(tmp_path) as ledger:
        assert ledger.broken_off
        here = Scene(tmp_path, ledger, Clock())
        here.witnessed(200)
        assert [row.code for row in here.retention(200).review([named])] == ["held"]


def test_whatever_happened_to_an_entry_that_held_it_holds(tmp_path: Path) -> None:
    """Every bit of a hold turned over, the line cut out, or another in its place: everything is held."""
    with scene(tmp_path) as log:
        log.tell(1, "hold", HOLD)
        log.witnessed(200)
        path, named = log.ledger.path, log.named()
        data = path.read_bytes()
        lines = data.splitlines(keepends=True)
        at = next(n for n, line in enumerate(lines) if b'"kind":"hold"' in line)
        start = len(b"".join(lines[:at]))

        def held(changed: bytes) -> bool:
            path.write_bytes(changed)
            reasons = [row.code for row in log.retention(200).review([named])]
            return "held" in reasons

        for bit in range(8 * start, 8 * (start + len(lines[at]))):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            assert held(bytes(flipped))
        assert held(b"".join([*lines[:at], *lines[at + 1 :]]))
        assert held(b"".join([*lines[:at], lines[at].replace(b'"hold"', b'"maintenance"'), *lines[at + 1 :]]))
        assert held(b"".join([*lines[:at], b"\n", *lines[at + 1 :]]))


def test_a_hold_that_was_cut_off_with_the_end_of_a_ledger_holds(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        named = log.named()
        log.tell(1, "hold", HOLD)
    (tmp_path / LEDGER).write_bytes(b"".join((tmp_path / LEDGER).read_bytes().splitlines(keepends=True)[:-1]))
    with opened(tmp_path) as ledger:
        assert ledger.broken_off == "ledger_damaged"
        here = Scene(tmp_path, ledger, Clock())
        here.witnessed(200)
        [refusal] = here.retention(200).review([named])
        assert "hold damaged-0" in refusal.en


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("delete", {"order": "o", "segments": 7}),
        ("witness.ack", {"kid": "w", "witness_time": "late"}),
        ("seg.seal", {"stream": "net", "segno": "x", "seal": ""}),
    ],
)
def test_an_entry_of_another_form_is_a_doubt(tmp_path: Path, kind: str, body: Mapping[str, object]) -> None:
    """Ours have the format's form; whatever this was meant to say may have kept something."""
    with scene(tmp_path) as log:
        log.tell(1, kind, body)
        log.witnessed(200)
        assert log.reasons(200) == ["held"]


def test_a_segment_whose_opening_is_not_known_may_be_as_old_as_anything(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        seal = {"stream": "net", "segno": 7, "seal": "ab" * 32}
        log.tell(1, "hold", HOLD | {"from_ns": 0, "to_ns": 1})
        log.tell(2, "seg.seal", seal)
        log.witnessed(200)
        named = Named("net", 7, "ab" * 32)
        assert [row.code for row in log.retention(200).review([named])] == ["held"]
        assert log.retention(200).span(named)[0] == 0


def test_without_the_suite_nothing_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(number: int) -> Suite:
        raise SuiteError(f"no suite {number} here")

    with scene(tmp_path) as log:
        log.witnessed(200)
        named = log.named()
        monkeypatch.setattr(catalogue, "suite_by_number", none)
        assert log.reasons(200) == ["held"]
        monkeypatch.undo()
        monkeypatch.setattr(deletion_module, "read_header", lambda _fd: none(2))
        with pytest.raises(RefusedError, match="missing or damaged"):
            log.retention(200).delete(deletion(named))


def test_a_doubt_is_released_by_the_department_once(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        named = log.named()
        log.tell(1, "maintenance", {"open": True})
        log.tell(1, "maintenance", {"open": False})
        log.witnessed(200)
        path = log.ledger.path
        path.write_bytes(path.read_bytes().replace(b'{"open":true}', b'{"open":trve}'))
        retention = log.retention(200)
        [refusal] = retention.review([named])
        [hold] = retention.holds.placed
        assert (refusal.code, hold.id) == ("held", "damaged-6")
        assert "ledger entry 6 is damaged / 账本第 6 条已损坏" in refusal.en
        retention.release(token(claims("release", hold=hold.id)))
        for again in (retention, log.retention(200)):
            assert again.review([named]) == []
            with pytest.raises(HoldError, match="was released before"):
                again.release(token(claims("release", hold=hold.id)))


def test_a_suite_that_changed_is_no_doubt(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        config = {"recipients": [], "opening": "any", "plan": "p"}
        for suite in (2, 1):
            log.tell(1, "config", config | {"suite": suite})
            log.tell(1, "maintenance", {"open": True})
        log.witnessed(200)
        assert log.reasons(200) == []


def test_incidents_are_forgotten_when_they_are_over(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        log.tell(15, "incident", INCIDENT)
        log.witnessed(206)
        for now_day, left in ((204, 1), (206, 0)):
            retention = log.retention(now_day)
            with pytest.raises(RefusedError):
                retention.delete(deletion(Named("tele", 1, "00" * 32)))
            assert len(retention.holds._incidents) == left


def test_there_is_an_end_to_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "MAX_HOLDS", 1)
    with scene(tmp_path) as log:
        retention = log.retention(0)
        retention.hold("h1", 0, 1, "r")
        with pytest.raises(HoldError, match="there are 1 already"):
            retention.hold("h2", 0, 1, "r")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with scene(tmp_path) as log:
        (tmp_path / "ledger-1.jsonl").mkdir()
        with pytest.raises(LogError, match="not read"):
            log.retention(200)
