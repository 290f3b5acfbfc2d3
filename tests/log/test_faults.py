"""The fault matrix of `make log-faults` with fewer tries: no loss unsaid, every verdict true."""

import json
import re
from pathlib import Path

import pytest

from hil.log.__main__ import main
from hil.log.judge import code_of
from hil.log.life import CUT, FAIL, KILL, OFF, Fault, Order
from hil.log.matrix import BY_NAME, FAULTS
from hil.log.matrix import Fault as Row
from hil.log.nursery import Nursery, NurseryError
from hil.log.owner import BATCH_STEP, Owner, batch, last_seq
from hil.log.specimen import gone_on, make
from hil.log.trial import FOUND, SMALL_SEGMENT, Ground, Modules, Tally, finish
from tests.log.conftest import LIVES
from tests.log.judged import judged

THIN = {
    "torn-segment": 500,
    "torn-ledger": 400,
    "torn-header": 400,
    "torn-own": 400,
    "cut-open": 800,
    "cut-sealed": 800,
    "cut-ledger": 500,
    "flip": 1800,
    "flip-open": 150,
    "flip-state": 60,
    "marks": 40,
    "state-back": 3,
    "forked": 3,
    "enospc": 60,
    "eio": 60,
    "eio-landed": 150,
    "late-end": 60,
    "short": 40,
    "delete-call": 60,
    "delete-again": 100,
    "delete-power": 1000,
    "delete-enospc": 1000,
    "delete-eio": 1000,
}
"""One try of so many of the full campaign: about a second for each row."""


@pytest.mark.parametrize("row", FAULTS, ids=lambda row: row.name)
def test_a_fault(ground: Ground, row: Row) -> None:
    ground.thin = THIN.get(row.name, 1)
    tally = row.run(ground)
    assert tally.wrong == []
    assert tally.good
    assert sum(tally.after.values()) > 0


def test_every_fault_that_the_issue_names_has_a_row() -> None:
    named = (
        "torn-segment torn-ledger flip substituted swapped state-back cut-ledger forked replayed wrong-key"
    )
    assert {*named.split(), *"unsealed clock enospc eio kill torn-header marks".split()} <= BY_NAME.keys()
    assert {f"delete-{how}" for how in ("call", "again", "kill", "power", "enospc", "eio")} <= BY_NAME.keys()


def test_the_command_tells_people_and_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "faults.json"
    assert main(["faults", "--fault", "unsealed", "--folder", str(tmp_path), "--json", str(told)]) == 0
    (row,) = json.loads(told.read_text())["results"]
    assert (row["tries"], row["found"], row["after"], row["good"]) == (1, {"3": 1}, {"1": 1}, True)
    assert "unsealed file" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [told], "nothing is left behind"


def test_no_word_of_the_ledger_keeps_the_recorder_from_starting(ground: Ground) -> None:
    specimen, tally = make(ground), Tally()
    ledger = (specimen.closed / "ledger.jsonl").read_bytes()
    words = sorted(set(re.findall(rb'"[a-z_.]+":', ledger)))
    assert len(words) > 20
    for word in words:
        case = specimen.copy()
        (case.folder / "ledger.jsonl").write_bytes(ledger.replace(word, word.replace(b'":', b'~":')))
        gone_on(specimen, case, tally, FOUND, word.decode())
    assert tally.wrong == []


@pytest.mark.parametrize(("missing", "after"), [(1, 0), (2, 0), (3, 0), (4, 2)])
def test_a_ledger_cut_behind_its_last_signature_is_put_back_byte_by_byte(
    ground: Ground, missing: int, after: int
) -> None:
    specimen = make(ground)
    whole = (specimen.closed / "ledger.jsonl").read_bytes()
    case = specimen.copy()
    ledger = case.folder / "ledger.jsonl"
    ledger.write_bytes(whole[:-missing])
    assert code_of(case)[0] == 2, "the witness had the whole line"
    found = finish(ground, case, specimen.modules.copy())
    assert (found.code, found.lost) == (after, 0)
    assert ledger.read_bytes().startswith(whole) == (after == 0)


# ---- the tally is not blind


def test_a_loss_that_nobody_reports_is_silent() -> None:
    tally = Tally()
    tally.begin()
    tally.end(judged(code=1, lost=2), frozenset({1}), "x")
    assert (tally.lost, tally.silent, tally.untrue, tally.good) == (2, 2, 0, False)


@pytest.mark.parametrize(("code", "kinds"), [(2, ()), (3, ()), (1, ("damaged",)), (1, ("loss",))])
def test_a_loss_that_is_reported(code: int, kinds: tuple[str, ...]) -> None:
    tally = Tally()
    tally.begin()
    tally.end(judged(code=code, lost=2, kinds=kinds), frozenset({code}), "x")
    assert (tally.lost, tally.silent, tally.good) == (2, 0, True)


def test_an_exit_code_that_is_not_the_true_one() -> None:
    tally = Tally()
    tally.begin()
    tally.see(0, frozenset({3}), "x")
    tally.end(judged(code=1), frozenset({1}), "x")
    assert (tally.untrue, tally.good) == (1, False)
    assert tally.wrong == ["x, as found: exit 0, true is 3"]


def test_no_try_is_no_proof() -> None:
    assert not Tally().good


def test_what_raises_is_wrong_and_ends_no_campaign() -> None:
    tally = Tally()
    with tally.surviving("x"):
        _ = dict[str, int]()["next_seq"]
    assert tally.wrong == ["x: KeyError: 'next_seq'"]
    assert not tally.good


def test_batches_can_be_made_again_and_never_share_a_number() -> None:
    assert batch(1, 5) == batch(1, 5) != batch(2, 5)
    assert last_seq(1, 5) <= 6 * BATCH_STEP < batch(1, 6)[0].seq


# ---- the library below Python


def lines(nursery: Nursery, folder: Path, owner: Owner, fault: Fault) -> list[list[str]]:
    return list(nursery.live(Order.of(folder, owner, 1, 4, SMALL_SEGMENT, fault)))


def test_a_life_without_a_fault(ground: Ground) -> None:
    told = lines(ground.nursery, ground.folder / "log", ground.owner, Fault(OFF))
    assert [words for words in told if words[0] == "ack"] == [["ack", str(n)] for n in range(4)]
    assert told[-1][0] == "end"
    assert int(told[-1][1]) > 80
    assert told[-1][2] == "0"


@pytest.mark.parametrize("how", [KILL, CUT])
def test_a_life_ends_in_the_call_that_was_named(ground: Ground, how: int) -> None:
    told = lines(ground.nursery, ground.folder / "log", ground.owner, Fault(how, at=70))
    assert told[-1][0] != "end"


def test_a_call_that_fails_is_counted_and_survived(ground: Ground) -> None:
    told = lines(ground.nursery, ground.folder / "log", ground.owner, Fault(FAIL, at=70, times=2, code=28))
    assert told[-1][0] == "end"
    assert told[-1][2] == "2"


def test_a_power_cut_takes_what_was_not_synced(ground: Ground) -> None:
    """Killed in the first sync of a batch's frame, the frame is there; after a power cut it may not be."""
    sizes = {}
    for how, dice in ((KILL, 1), *((CUT, dice) for dice in range(1, 20))):
        folder = ground.fresh(f"log-{how}-{dice}")
        lines(ground.nursery, folder, ground.owner, Fault(how, at=54, dice=dice))
        path = folder / "net" / "0000000001.seg"
        sizes[how, dice] = path.stat().st_size if path.exists() else 0
    whole = sizes[KILL, 1]
    assert min(sizes.values()) < whole == max(sizes.values())


def test_short_writes_are_gone_on_with(ground: Ground) -> None:
    modules = Modules(1)
    ground.live(ground.folder / "log", modules, 4, Fault(short=7))
    assert modules.next == 4
    assert modules.calls > 1_000


def test_a_life_that_ends_before_its_fault_is_no_try(ground: Ground) -> None:
    for fault, met in (
        (Fault(KILL, at=70), True),
        (Fault(KILL, at=10**6), False),
        (Fault(after_s=50.0), False),
    ):
        assert ground.met(ground.fresh(), Modules(1), 4, fault) == met
    assert ground.met(ground.fresh(), Modules(1), 4, Fault(FAIL, at=70, code=28))


def test_as_many_kills_as_were_asked_for(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[bool] = []
    real = Ground.met

    def counted(self: Ground, folder: Path, modules: Modules, end: int, fault: Fault) -> bool:
        met.append(real(self, folder, modules, end, fault))
        return met[-1]

    monkeypatch.setattr(Ground, "met", counted)
    assert BY_NAME["kill"].run(ground).tries == LIVES == sum(met)


def test_a_life_that_breaks_is_told(ground: Ground) -> None:
    with pytest.raises(NurseryError, match="ended with 3"):
        lines(ground.nursery, ground.folder / "a\0b", ground.owner, Fault(OFF))
