"""The ledger cut, forked, replayed, broken off; orders and witnesses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.audit import OrderKeys, verify
from agent.core.trust import Person, Role, Trust
from tests.audit.forge import DEPARTMENT, ROBOT, Forge, b64, key, public, record, simple, text
from tests.audit.judge import CLEAN, EXPLAINED, INCOMPLETE, KEYS, TAMPERED, judge, report


def rewrite(forge: Forge, lines: list[bytes]) -> None:
    forge.ledger.write_bytes(b"".join(line + b"\n" for line in lines))


# ---- cut, forked, replayed


def test_cut_at_every_byte_is_never_clean_but_at_a_line_that_ends_a_whole_log(tmp_path: Path) -> None:
    """A tail cut off at the end of an entry, with all segments before it sealed, is what a witness is for."""
    forge = Forge(tmp_path)
    forge.genesis(boot=False)
    forge.fill("net", frames=1)
    data = forge.ledger.read_bytes()
    verdicts = set()
    for size in range(len(data)):
        forge.ledger.write_bytes(data[:size])
        verdicts.add(report(forge).exit_code)
    assert verdicts == {TAMPERED, INCOMPLETE}


def test_a_cut_tail_shows_by_the_witness(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    record_of = tmp_path / f"{ROBOT}.jsonl"
    record_of.write_bytes(forge.ledger.read_bytes())
    forge.ledger.write_bytes(b"".join(line + b"\n" for line in forge.lines[:-1]))
    assert judge(forge)[0] == CLEAN
    assert judge(forge, witness=record_of) == (TAMPERED, {"witness_cut"})
    assert judge(forge, witness=tmp_path) == (TAMPERED, {"witness_cut"})


def test_a_fork_from_an_entry_on(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    fork = forge.line("maintenance", {"open": True})
    rewrite(forge, [*forge.lines[:-1], fork, forge.lines[-1]])
    assert judge(forge)[0] == TAMPERED


def test_a_rewritten_entry_breaks_signature_and_chain(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    bent = forge.lines[3].replace(b'"frames":1', b'"frames":2')
    assert bent != forge.lines[3]
    rewrite(forge, [*forge.lines[:3], bent, *forge.lines[4:]])
    code, kinds = judge(forge)
    assert code == TAMPERED
    assert {"ledger_signature", "ledger_chain"} <= kinds


@pytest.mark.parametrize("at", range(12))
def test_an_entry_left_out(tmp_path: Path, at: int) -> None:
    forge = simple(tmp_path)
    rewrite(forge, [*forge.lines[:at], *forge.lines[at + 1 :]])
    assert judge(forge)[0] == (TAMPERED if at < 11 else CLEAN)


def test_the_ledger_of_another_robot(tmp_path: Path) -> None:
    forge, other = simple(tmp_path / "a"), simple(tmp_path / "b", robot="rw-2")
    forge.ledger.write_bytes(other.ledger.read_bytes())
    code, kinds = judge(forge)
    assert code == TAMPERED
    assert {"genesis_differs", "header_differs"} <= kinds


def test_the_whole_log_of_another_robot(tmp_path: Path) -> None:
    forge, other = simple(tmp_path / "a"), simple(tmp_path / "b", robot="rw-2")
    told = verify(other.folder, genesis=forge.first)
    assert (told.exit_code, set(told.counts)) == (TAMPERED, {"genesis_differs"})


def test_entries_of_another_robot_spliced_in(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.robot = "rw-2"
    forge.entry("maintenance", {"open": True})
    assert judge(forge) == (TAMPERED, {"ledger_robot"})


def test_a_second_genesis_in_the_middle(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.entry("genesis", json.loads(forge.first)["body"])
    assert "ledger_order" in judge(forge)[1]


def test_a_ledger_that_was_broken_off(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("safety")
    one.add([record(9)])
    forge.save(one)
    forge.break_off()
    forge.recover(one)
    forge.seal(one, "recovered")
    forge.fill("safety")
    assert judge(forge) == (TAMPERED, {"ledger_broken_off", "recovered"})
    assert report(forge, genesis=forge.lines[0]).exit_code == TAMPERED


def test_a_new_genesis_that_names_another_end(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.break_off()
    old = forge.folder / "ledger-1.jsonl"
    old.write_bytes(old.read_bytes()[: -len(b"x")].rpartition(b"\n")[0] + b"\n")
    assert judge(forge) == (TAMPERED, {"ledger_broken_off", "genesis_previous"})
    old.unlink()
    assert "genesis_previous" in judge(forge)[1]


# ---- one entry


def bad_line(change: Callable[[dict[str, Any]], object]) -> Callable[[Forge], bytes]:
    """An entry of wrong form, rightly signed."""

    def make(forge: Forge) -> bytes:
        body: dict[str, Any] = {"open": True}
        change(body)
        return forge.line("maintenance", body)

    return make


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (bad_line(lambda body: body.update(more=1)), "ledger_form"),
        (bad_line(lambda body: body.update(open=1)), "ledger_form"),
        (bad_line(lambda body: body.pop("open")), "ledger_form"),
        (lambda forge: forge.line("maintenance", {"open": True}, n=99), "ledger_number"),
        (lambda forge: forge.line("maintenance", {"open": True}, n=12.0), "ledger_form"),
        (lambda forge: forge.line("maintenance", {"open": True}, v=True), "ledger_form"),
        (lambda forge: forge.line("maintenance", {"open": True}, wall=-1), "ledger_form"),
        (lambda forge: forge.line("maintenance", {"open": True}, next_pk="AAAA"), "ledger_key"),
        (lambda forge: forge.line("maintenance", {"open": True}, prev_hash="ab" * 32), "ledger_chain"),
        (
            lambda forge: forge.line("maintenance", {"open": True}).replace(b'{"open"', b'{ "open"'),
            "ledger_form",
        ),
        (
            lambda forge: forge.line("maintenance", {"open": True}).replace(b'"v":1', b'"v":1,"v":1'),
            "ledger_form",
        ),
        (lambda forge: forge.line("rumour", {}), "ledger_form"),
        (lambda forge: forge.line("config", config(7)), "suite"),
        (lambda _: b"[" * 3000, "ledger_form"),
        (lambda _: b"x" * 200_000, "ledger_form"),
        (lambda _: b"", "ledger_form"),
    ],
)
def test_an_entry_of_wrong_form(tmp_path: Path, make: Callable[[Forge], bytes], kind: str) -> None:
    forge = simple(tmp_path)
    rewrite(forge, [*forge.lines, make(forge)])
    code, kinds = judge(forge)
    assert code in (TAMPERED, INCOMPLETE)
    assert kind in kinds


def config(suite: int) -> dict[str, Any]:
    return {"recipients": ["dep"], "opening": "any", "plan": "cd" * 32, "suite": suite}


def mark(segno: int, frames: int, next_seq: int) -> dict[str, Any]:
    return {"streams": {"safety": {"segno": segno, "frames": frames, "next_seq": next_seq, "h": "ab" * 32}}}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("seg.open", {"stream": "safety", "segno": 9, "first_seq": 7, "header": "ab" * 32}),
        ("seg.open", {"stream": "safety", "segno": 3, "first_seq": 9, "header": "ab" * 32}),
        ("checkpoint", mark(9, 1, 1)),
        ("checkpoint", mark(1, 2, 5)),
        ("checkpoint", mark(2, 0, 5)),
        ("checkpoint", mark(2, 1, 7)),
        ("delete", {"order": "x", "segments": [{"stream": "safety", "segno": 9, "seal": "ab" * 32}]}),
    ],
)
def test_an_entry_that_contradicts_those_before_it(tmp_path: Path, kind: str, body: dict[str, Any]) -> None:
    forge = simple(tmp_path)
    forge.entry(kind, body)
    code, kinds = judge(forge)
    assert code == TAMPERED
    assert "ledger_order" in kinds


def test_a_segment_sealed_or_recovered_twice(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.done["safety", 2]
    forge.entry("seg.seal", forge.sealed(one, "size"))
    forge.recover(one)
    assert judge(forge)[0] == TAMPERED


def test_checkpoints_past_the_frames_that_are_there(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("net")
    one.add([record(1)])
    forge.checkpoint()
    assert judge(forge) == (TAMPERED, {"cut", "seal_missing"})


# ---- deletions


def deleted(folder: Path) -> tuple[Forge, Path]:
    forge = Forge(folder)
    forge.genesis()
    forge.fill("tele")
    forge.fill("tele")
    return forge, forge.path("tele", 1, "gone")


def test_a_deletion_under_a_valid_order(tmp_path: Path) -> None:
    forge, _ = deleted(tmp_path)
    forge.delete(forge.done["tele", 1])
    told = report(forge)
    assert (told.exit_code, told.counts) == (CLEAN, {})
    assert (told.deleted, told.records_deleted, told.segments) == (1, 4, 1)
    assert judge(forge, keys=False) == (EXPLAINED, {"order_unchecked"})


@pytest.mark.parametrize(
    "claims",
    [
        {"signer": "someone"},
        {"kid": "someone"},
        {"aud": "rw-2"},
        {"order": "release"},
        {"segments": []},
        {"segments": "all"},
        {"iss": "another"},
    ],
)
def test_a_deletion_under_a_bad_order(tmp_path: Path, claims: dict[str, Any]) -> None:
    forge, _ = deleted(tmp_path)
    one = forge.done["tele", 1]
    forge.delete(one, order=forge.order(one, **claims))
    assert judge(forge) == (TAMPERED, {"order_bad"})


@pytest.mark.parametrize("order", ["", "a.b.c", "not a token", "é"])
def test_a_deletion_without_an_order_at_all(tmp_path: Path, order: str) -> None:
    forge, _ = deleted(tmp_path)
    one = forge.done["tele", 1]
    forge.entry("delete", {"order": order, "segments": [forge.named(one)]})
    for keys in (True, False):
        assert judge(forge, keys=keys) == (TAMPERED, {"order_bad", "delete_unfinished"})


def test_a_deletion_that_is_not_finished(tmp_path: Path) -> None:
    forge, gone = deleted(tmp_path)
    one = forge.done["tele", 1]
    forge.delete(one)
    forge.save(one)
    assert judge(forge) == (EXPLAINED, {"delete_unfinished"})
    forge.path("tele", 1).unlink()
    gone.unlink()
    assert judge(forge) == (INCOMPLETE, {"gone_missing"})


def test_a_file_removed_with_a_tombstone_but_no_entry(tmp_path: Path) -> None:
    forge, gone = deleted(tmp_path)
    gone.write_bytes(text(forge.gone(forge.done["tele", 1])))
    forge.path("tele", 1).unlink()
    assert judge(forge) == (TAMPERED, {"gone_unordered"})


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": 3},
        {"h": "ab" * 32},
        {"wraps_hash": "ab" * 32},
        {"fields": "{}"},
        {"seal": "AA"},
        {"prefix": "AA"},
    ],
)
def test_a_tombstone_of_something_else(tmp_path: Path, change: dict[str, Any]) -> None:
    forge, gone = deleted(tmp_path)
    one = forge.done["tele", 1]
    forge.delete(one)
    gone.write_bytes(text({**forge.gone(one), **change}))
    assert judge(forge) == (TAMPERED, {"gone_bad"})
    gone.write_bytes(text(forge.gone(forge.done["tele", 2])))
    assert judge(forge) == (TAMPERED, {"gone_bad"})


def test_safety_is_not_deleted_in_service(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.delete(forge.done["safety", 1])
    assert judge(forge) == (TAMPERED, {"order_bad"})


def test_safety_may_be_deleted_after_the_service(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.entry("service.end", {"reason": "retired"})
    forge.delete(forge.done["safety", 1])
    assert judge(forge) == (CLEAN, set())


def person(role: Role, *, revoked: bool = False) -> OrderKeys:
    from datetime import date

    one = Person("p-1", "P", role, public("p-1"), frozenset({"*"}), date(2099, 1, 1), revoked)
    return OrderKeys({}, Trust(1, 0, {"p-1": one}, {}, {}))


@pytest.mark.parametrize(
    ("keys", "verdict"),
    [
        (person(Role.DEPARTMENT), CLEAN),
        (person(Role.DEPARTMENT, revoked=True), EXPLAINED),
        (person(Role.GUARDIAN), TAMPERED),
        (OrderKeys(), TAMPERED),
        (KEYS, TAMPERED),
    ],
)
def test_who_may_order(tmp_path: Path, keys: OrderKeys, verdict: int) -> None:
    forge, _ = deleted(tmp_path)
    one = forge.done["tele", 1]
    forge.delete(one, order=forge.order(one, signer="p-1", kid="p-1"))
    assert verify(tmp_path, genesis=forge.first, order_keys=keys).exit_code == verdict


@pytest.mark.parametrize(("hold", "kinds"), [("h-1", set()), ("h-2", {"order_bad"})])
def test_a_hold_is_released_by_an_order(tmp_path: Path, hold: str, kinds: set[str]) -> None:
    forge = simple(tmp_path)
    order = forge.order(order="release", hold="h-1")
    forge.entry("hold", {"id": hold, "release": order})
    assert judge(forge)[1] == kinds


# ---- witness


def test_the_unwitnessed_tail(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    file = tmp_path / "w.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in forge.lines[:4]))
    seen = report(forge, witness=file).witnessed
    assert (seen.ledger, seen.n, seen.by) == ("ledger.jsonl", 3, "record")
    # Entry 3 is the checkpoint after the first frame of safety, two of the eight records.
    assert (seen.tail_entries, seen.tail_records) == (8, 6)


def test_acknowledgements_in_the_ledger(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.ack(4)
    forge.ack(11)
    told = report(forge)
    assert (told.exit_code, told.witnessed.n, told.witnessed.by) == (CLEAN, 11, "token")
    assert (told.witnessed.tail_entries, told.witnessed.tail_records) == (2, 0)
    assert report(forge, keys=False).witnessed.by == "claim"


@pytest.mark.parametrize(
    "change", [{"signer": "someone"}, {"aud": "rw-2"}, {"hash": "ab" * 32}, {"n": 3}, {"iss": "x"}]
)
def test_a_bad_acknowledgement(tmp_path: Path, change: dict[str, Any]) -> None:
    forge = simple(tmp_path)
    forge.ack(4, **change)
    assert judge(forge) == (TAMPERED, {"witness_ack"})


def test_an_acknowledgement_of_what_was_not_written(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    body = {"kid": "wit-1", "n": 5, "hash": "ab" * 32, "witness_time": 1, "token": "x"}
    forge.entry("witness.ack", body)
    forge.entry("witness.ack", {**body, "n": 99})
    assert report(forge, keys=False).counts == {"witness_ack": 2}


def test_acknowledgements_of_long_ago_are_looked_up(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    for _ in range(1400):
        forge.entry("maintenance", {"open": True})
    for n in (3, 1030, 1411):
        forge.ack(n)
    told = report(forge)
    assert (told.exit_code, told.witnessed.n) == (CLEAN, 1411)


def test_a_witness_with_another_entry(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    file = tmp_path / "w.jsonl"
    file.write_bytes(
        forge.ledger.read_bytes().replace(b'"maintenance"', b'"x"').replace(b'"wall":18', b'"wall":19')
    )
    assert judge(forge, witness=file) == (TAMPERED, {"witness_differs"})


def test_a_witness_of_part_of_the_ledger(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    file = tmp_path / "w.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in forge.lines[5:8]))
    assert report(forge, witness=file).witnessed.n == 7
    file.write_bytes(forge.lines[0] + b"\n" + forge.lines[1][:50])
    assert judge(forge, witness=file) == (EXPLAINED, {"witness_torn"})
    assert judge(forge, witness=tmp_path / "log") == (INCOMPLETE, {"witness_missing"})


def test_a_witness_of_a_ledger_that_was_broken_off(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    file = tmp_path / "w.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in forge.lines))
    forge.break_off()
    seen = report(forge, witness=file).witnessed
    assert (seen.ledger, seen.n, seen.tail_entries) == ("ledger-1.jsonl", 11, 2)


def test_torn_lines_set_aside(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    torn = tmp_path / "ledger.jsonl.torn-1"
    torn.write_bytes(forge.lines[2][:20])
    assert judge(forge) == (EXPLAINED, {"torn_line"})
    torn.write_bytes(forge.lines[2] + b"\n")
    assert judge(forge) == (TAMPERED, {"torn_line_whole"})


def test_the_forge_signs_orders_as_the_protocol_has_them() -> None:
    assert b64(public(DEPARTMENT)) == b64(key(DEPARTMENT).public_key().public_bytes_raw())
