"""An export: all of the evidence and nothing secret, whole while a recorder writes, its damage seen."""

import json
from pathlib import Path

import pytest

from agent.audit import AuditError, RecipientKey, bundle, decrypt, export, verify
from tests.audit.forge import WALL, Forge, record, simple
from tests.audit.judge import CLEAN, EXPLAINED, KEYS, TAMPERED, recorder


def whole(folder: Path) -> Forge:
    """One of everything: a deletion, torn bytes, what is the writer's own."""
    forge = simple(folder)
    forge.delete(forge.done["tele", 1])
    one = forge.open("safety")
    one.add([record(9)])
    forge.recover(one, torn=b"WF")
    forge.seal(one, "recovered")
    for name in ("state", "state.key", "marks", "safety/spare", "ledger.jsonl.torn-1"):
        (folder / name).write_bytes(b"\0\0")
    return forge


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_holds_the_evidence_and_nothing_of_the_writers(tmp_path: Path) -> None:
    forge = whole(tmp_path / "log")
    told = export(forge.folder, tmp_path / "bundle", now_ns=WALL)
    assert names(tmp_path / "bundle") == {
        *("ledger.jsonl", "ledger.jsonl.torn-1", "manifest.json", "tele/0000000001.gone"),
        *(f"safety/000000000{n}.seg" for n in (1, 2, 3)),
        "safety/0000000003.seg.torn-1",
    }
    assert (told.files, told.head_n, told.left_out, told.live) == (7, len(forge.lines) - 1, [], False)
    assert (tmp_path / "bundle" / "ledger.jsonl").stat().st_mode & 0o777 == 0o400
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_bytes())
    assert (manifest["made_ns"], manifest["robot"]) == (WALL, forge.robot)


def test_verify_and_decrypt_work_on_the_bundle(tmp_path: Path) -> None:
    forge = whole(tmp_path / "log")
    export(forge.folder, tmp_path / "bundle")
    about = verify(tmp_path / "bundle", genesis=forge.first, order_keys=KEYS)
    assert about.bundle
    assert about.exit_code == EXPLAINED
    assert about.counts == verify(forge.folder, genesis=forge.first, order_keys=KEYS).counts
    key = RecipientKey(1, forge.recipients[0].private)
    assert decrypt(tmp_path / "bundle", [key], out=None).exit_code == 0


def test_a_clean_log_gives_a_clean_bundle(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    export(forge.folder, tmp_path / "bundle")
    assert verify(tmp_path / "bundle", genesis=forge.first).exit_code == CLEAN


@pytest.mark.parametrize("name", ["ledger.jsonl.torn-1", "manifest.json", "safety/0000000003.seg.torn-1"])
def test_what_nothing_else_covers_the_manifest_does(tmp_path: Path, name: str) -> None:
    forge = whole(tmp_path / "log")
    export(forge.folder, tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    path.chmod(0o600)
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 1 + len(data) // 40):
        path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
        assert verify(tmp_path / "bundle", genesis=forge.first, order_keys=KEYS).exit_code == TAMPERED


def test_files_more_or_less_than_the_manifest_says(tmp_path: Path) -> None:
    forge = whole(tmp_path / "log")
    target = tmp_path / "bundle"
    export(forge.folder, target)
    (target / "ledger.jsonl.torn-2").write_bytes(b"x")
    (target / "ledger.jsonl.torn-1").unlink()
    about = verify(target, genesis=forge.first, order_keys=KEYS)
    assert (about.exit_code, about.counts["manifest"]) == (TAMPERED, 2)


def test_an_export_beside_a_running_recorder(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    one = forge.open("safety")
    one.add([record(9)])
    forge.checkpoint()
    one.add([record(10)])
    size = len(one.data)
    one.data += one.sealed_frame(b"x" * 50, 0, 1)[:-9] + bytes(900)
    forge.save(one)
    with recorder(forge.folder):
        told = export(forge.folder, tmp_path / "bundle")
    assert told.live
    assert (tmp_path / "bundle" / "safety" / "0000000003.seg").stat().st_size == size
    about = verify(tmp_path / "bundle", genesis=forge.first)
    assert (about.exit_code, set(about.counts)) == (EXPLAINED, {"open"})


def test_what_the_recorder_did_after_the_ledger_was_copied_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge = simple(tmp_path / "log")
    one = forge.open("safety")
    one.add([record(9)])
    forge.save(one)
    forge.checkpoint()
    tell = bundle._Export._tell

    def meanwhile(self: bundle._Export) -> None:
        tell(self)
        if forge.now:
            one.add([record(10)])
            forge.seal(one)
            forge.fill("safety")
            forge.fill("net")

    monkeypatch.setattr(bundle._Export, "_tell", meanwhile)
    with recorder(forge.folder):
        told = export(forge.folder, tmp_path / "bundle")
    assert told.head_n == 13
    about = verify(tmp_path / "bundle", genesis=forge.first)
    assert (about.exit_code, set(about.counts), about.records) == (EXPLAINED, {"open"}, 10)


@pytest.mark.parametrize("unlinked", [True, False])
def test_a_deletion_in_the_middle_makes_it_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlinked: bool
) -> None:
    forge = simple(tmp_path / "log")
    tell = bundle._Export._tell
    tries = []

    def meanwhile(self: bundle._Export) -> None:
        tell(self)
        tries.append(0)
        if len(tries) == 1:
            one = forge.done["tele", 1]
            forge.delete(one)
            if not unlinked:
                forge.save(one)

    monkeypatch.setattr(bundle._Export, "_tell", meanwhile)
    with recorder(forge.folder):
        export(forge.folder, tmp_path / "bundle")
    assert len(tries) == 2
    about = verify(tmp_path / "bundle", genesis=forge.first, order_keys=KEYS)
    assert about.exit_code == (CLEAN if unlinked else EXPLAINED)


def test_a_log_that_never_holds_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge = simple(tmp_path / "log")
    monkeypatch.setattr(bundle._Export, "_wanted", lambda *_: iter(["safety/0000000099.seg"]))
    with recorder(forge.folder), pytest.raises(AuditError, match="went away"):
        export(forge.folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_evidence_that_the_ledger_does_not_know_is_exported_too(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    forge.open("net", told=False).add([record(1)])
    forge.save(forge.now["net"])
    (forge.folder / "notes.txt").write_bytes(b"x")
    told = export(forge.folder, tmp_path / "bundle")
    assert told.left_out == ["notes.txt"]
    assert "notes.txt" in "\n".join(told.lines())
    assert verify(tmp_path / "bundle", genesis=forge.first).counts["segment_unknown"] == 1


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    for target in (tmp_path, tmp_path / "a" / "b"):
        with pytest.raises(AuditError, match="cannot be made"):
            export(forge.folder, target)
    with pytest.raises(AuditError, match="cannot be read"):
        export(tmp_path / "none", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_progress(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    told: list[int] = []
    about = export(forge.folder, tmp_path / "b", progress=lambda done, _: told.append(done))
    assert told[-1] == about.bytes
    assert about.to_json()["bytes"] == about.bytes
