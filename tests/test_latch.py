"""What a channel must not forget: whole or not at all, and saved by a thread that nobody waits for."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import latch
from agent.core.causes import Clear
from agent.core.machine import Cause, State
from agent.core.responses import Response
from agent.latch import Latched, LatchError, encode, load, save
from tests.core.factories import BEFORE, NOW_NS, cause, stopped

WALL_NS = 1_782_792_000_000_000_000
STATE = stopped(
    cause("estop_pressed", clear=Clear.RESET_AND_RESUME, active=True, since_ns=NOW_NS - 5_000, detail="按下"),
    cause("suspended", response=Response.SUSPEND, clear=Clear.REEVALUATION),
    epoch=4_000_000_000,
)


def encoded(state: State = STATE, **changes: object) -> bytes:
    standing = changes.get("standing", {"maintenance": "刹车"})
    assert isinstance(standing, dict)
    return encode(state, now_ns=NOW_NS, wall_ns=WALL_NS, standing=standing, trust_version=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reflex.latch"


def damaged(path: Path) -> str:
    with pytest.raises(LatchError) as caught:
        load(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    return caught.value.reason


# ---- the file


def test_what_was_saved_is_found(path: Path) -> None:
    save(path, encoded())
    assert load(path) == Latched(
        epoch=4_000_000_000,
        causes=(
            Cause(
                "estop_pressed",
                Response.EMERGENCY_STOP,
                Clear.RESET_AND_RESUME,
                active=True,
                since_ns=0,
                detail="按下",
            ),
            Cause("suspended", Response.SUSPEND, Clear.REEVALUATION, active=False, since_ns=0),
        ),
        since_wall_ns={"estop_pressed": WALL_NS - 5_000, "suspended": WALL_NS},
        standing={"maintenance": "刹车"},
        trust_version=3,
        wall_ns=WALL_NS,
    )


def test_where_nothing_was_saved_nothing_is_found(path: Path) -> None:
    assert load(path) is None


def test_what_was_never_saved_remembers_nothing() -> None:
    assert Latched() == Latched(0, (), {}, {}, 0, 0)


@given(
    st.lists(
        st.builds(
            Cause,
            key=st.text(min_size=1),
            response=st.sampled_from(Response),
            clear=st.sampled_from(Clear),
            active=st.booleans(),
            since_ns=st.integers(0, NOW_NS),
            detail=st.text(),
        ),
        unique_by=lambda c: c.key,
    ),
    st.integers(0, 2**32 - 1),
    st.dictionaries(st.text(), st.text()),
)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_every_state_comes_back(causes: list[Cause], epoch: int, standing: dict[str, str]) -> None:
    state = State(epoch, BEFORE, causes=tuple(causes))
    found = latch._decode(json.loads(encoded(state, standing=standing)))
    assert found.epoch == epoch
    assert found.causes == tuple(replace(c, since_ns=0) for c in causes)
    assert found.since_wall_ns == {c.key: WALL_NS - (NOW_NS - c.since_ns) for c in causes}
    assert found.standing == standing


def test_only_its_owner_may_read_it(path: Path) -> None:
    save(path, encoded())
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_flipped_bit_anywhere_is_seen(path: Path) -> None:
    """Or changes nothing: JSON has two spellings of some characters."""
    data = encoded()
    save(path, data)
    whole = load(path)
    chosen = random.Random(2)
    refused = 0
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << chosen.randrange(8)
        path.write_bytes(broken)
        try:
            assert load(path) == whole
        except LatchError:
            refused += 1
    assert refused > 0.9 * len(data)


def test_a_file_cut_short_anywhere_is_seen(path: Path) -> None:
    data = encoded()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert damaged(path).startswith("damaged")


def signed(body: object, version: object = 1) -> bytes:
    """A file whose digest is right: the digest finds damage, not a hand that can write."""
    return json.dumps({"v": version, "sha256": latch._digest(body), "body": body}).encode()


WHOLE = json.loads(encoded())["body"]
ROW = WHOLE["causes"][0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"17",
        b'"latch"',
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"v": 1, "body": ' + b"9" * 5000 + b"}",
        signed(WHOLE, 2),
        signed(WHOLE, "1"),
        signed(None),
        signed([]),
        signed("text"),
        signed({**WHOLE, "epoch": None}),
        signed({**WHOLE, "epoch": "many"}),
        signed({**WHOLE, "epoch": float("inf")}),
        signed({**WHOLE, "epoch": float("nan")}),
        signed({**WHOLE, "standing": []}),
        signed({**WHOLE, "causes": {"key": 1}}),
        signed({**WHOLE, "causes": [None]}),
        signed({**WHOLE, "causes": [{**ROW, "response": 8}]}),
        signed({**WHOLE, "causes": [{**ROW, "clear": "resume"}]}),
        signed({**WHOLE, "causes": [{k: v for k, v in ROW.items() if k != "active"}]}),
        signed({k: v for k, v in WHOLE.items() if k != "trust_version"}),
    ],
    ids=lambda data: data[:30].decode(errors="replace"),
)
def test_whatever_is_not_of_its_form_is_damaged(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert damaged(path).startswith("damaged (")


@given(st.binary(max_size=200))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_no_bytes_at_all_are_anything_but_damaged(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.latch"
    path.write_bytes(data)
    assert damaged(path).startswith("damaged (")


def test_a_file_nobody_wrote_in_good_faith_is_not_read_whole(path: Path) -> None:
    path.write_bytes(b" " * (latch.MAX_BYTES + 1))
    assert damaged(path) == f"larger than {latch.MAX_BYTES} bytes"
    path.write_bytes(encoded() + b" " * (latch.MAX_BYTES - len(encoded())))
    assert load(path) is not None


def test_a_file_that_cannot_be_read_is_damaged_and_not_missing(path: Path) -> None:
    path.mkdir()
    assert damaged(path) == "cannot be read: Is a directory"


# ---- replacing it


def test_the_new_takes_the_place_of_the_old(path: Path) -> None:
    save(path, encoded())
    save(path, encoded(replace(STATE, epoch=9)))
    found = load(path)
    assert found is not None
    assert found.epoch == 9
    assert [file.name for file in path.parent.iterdir()] == ["reflex.latch"]


class Cut(Exception):  # noqa: N818 - the power, not an error of ours
    """The power goes at this very call."""


@pytest.mark.parametrize(("owner", "at"), [(os, "write"), (os, "fsync"), (Path, "replace")])
def test_a_cut_before_the_new_is_whole_leaves_the_old(
    path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, at: str
) -> None:
    save(path, encoded())

    def cut(*_: object) -> int:
        raise Cut

    monkeypatch.setattr(owner, at, cut)
    with pytest.raises(Cut):
        save(path, encoded(replace(STATE, epoch=9)))
    monkeypatch.undo()
    found = load(path)
    assert found is not None
    assert found.epoch == STATE.epoch
    save(path, encoded(replace(STATE, epoch=10)))
    found = load(path)
    assert found is not None
    assert found.epoch == 10


def test_bytes_then_name_then_folder_are_on_the_disk_in_that_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def note_sync(fd: int) -> None:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        said.append(f"sync {name}, named {sorted(file.name for file in path.parent.iterdir())}")
        fsync(fd)

    def note_rename(old: Path, new: Path) -> Path:
        said.append(f"rename {old.name} {new.name}")
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    save(path, encoded())
    assert said == [
        "sync reflex.new, named ['reflex.new']",
        "rename reflex.new reflex.latch",
        f"sync {path.parent.name}, named ['reflex.latch']",
    ]


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    save(path, encoded())
    monkeypatch.undo()
    assert path.read_bytes() == encoded()


def test_the_new_is_never_written_through_a_link_that_somebody_left(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path.with_suffix(".new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        save(path, encoded())
    assert victim.read_text() == "untouched"
