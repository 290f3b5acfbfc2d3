"""The C header beside the Python writer and readers: one file, one meaning."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.permit import SIZE, PermitReader, PermitWriter, parse
from sdk.python.robot_warden import Permits, Verdict
from tests.permits import RUN, SEQUENCE_AT, STOP, Grant, but, record
from tests.sdk.c_reader import ROOT, STRICT, CReader, build, parse_verdict

DEAD = Verdict(may_move=False, may_power=False, speed_permille=0, epoch=0, response=5)
near_u64 = st.integers(0, 2**64 - 1) | st.integers(0, 50)


@contextmanager
def both(permit_cli: Path, *paths: Path) -> Iterator[tuple[Permits, CReader]]:
    permits = Permits(paths)
    with CReader(permit_cli, paths) as c_reader:
        yield permits, c_reader
    permits.close()


def verdict_on(permit_cli: Path, *paths: Path, now_ns: int = 1) -> Verdict:
    """What both readers say, which is the same."""
    with both(permit_cli, *paths) as (permits, c_reader):
        verdict = permits.read(now_ns)
        assert c_reader.read(now_ns) == verdict
    return verdict


class Readers(RuleBasedStateMachine):
    """A writer that writes, withdraws, restarts and is replaced; every reader sees the same at every time."""

    permit_cli: Path
    folder: Path
    number = 0

    def __init__(self) -> None:
        super().__init__()
        Readers.number += 1
        self.path = self.folder / f"{Readers.number}.permit"
        self.agent = PermitReader(self.path)
        self.sdk = Permits([self.path])
        self.c_reader = CReader(self.permit_cli, [self.path])
        self.writer: PermitWriter | None = None
        self.epoch = 0

    @precondition(lambda self: self.writer is None)
    @rule()
    def start(self) -> None:
        self.writer = PermitWriter(self.path)
        self.epoch = self.writer.found.epoch if self.writer.found else 0

    @precondition(lambda self: self.writer is not None)
    @rule(
        motion=near_u64,
        power=near_u64,
        more=st.integers(0, 3),
        speed=st.integers(0, 1000),
        response=st.integers(0, 7),
    )
    def write(self, motion: int, power: int, more: int, speed: int, response: int) -> None:
        assert self.writer is not None
        self.epoch += more
        self.writer.write(
            motion_until_ns=motion,
            power_until_ns=power,
            epoch=self.epoch,
            speed_permille=speed,
            response=response,
        )

    @precondition(lambda self: self.writer is not None)
    @rule(power=near_u64)
    def withdraw(self, power: int) -> None:
        assert self.writer is not None
        self.writer.withdraw(power_until_ns=power)

    @precondition(lambda self: self.writer is not None)
    @rule()
    def stop(self) -> None:
        assert self.writer is not None
        self.writer.close()
        self.writer = None

    @precondition(lambda self: self.writer is None and self.path.exists())
    @rule()
    def make_anew(self) -> None:
        self.path.unlink()
        self.path.write_bytes(record(3, **RUN))

    @precondition(lambda self: self.path.exists() and self.path.stat().st_size >= SIZE)
    @rule(bit=st.integers(0, SIZE * 8 - 1))
    def damage(self, bit: int) -> None:
        with self.path.open("r+b", buffering=0) as file:
            content = bytearray(file.read(SIZE))
            content[bit // 8] ^= 1 << bit % 8
            file.seek(0)
            file.write(content)

    @invariant()
    def all_agree(self) -> None:
        permit = self.agent.read()
        edges = {1, permit.motion_until_ns, permit.power_until_ns}
        for now_ns in edges | {edge - 1 for edge in edges}:
            if now_ns > 0:
                verdict = self.c_reader.read(now_ns)
                assert verdict == self.sdk.read(now_ns)
                assert verdict == Verdict(
                    may_move=now_ns < permit.motion_until_ns,
                    may_power=now_ns < permit.power_until_ns,
                    speed_permille=permit.speed_permille,
                    epoch=permit.epoch,
                    response=permit.response,
                )

    def teardown(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.agent.close()
        self.sdk.close()
        self.c_reader.close()


def test_every_reader_sees_the_same(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Each example is a process: without sanitizers it starts in a millisecond.
    Readers.permit_cli = build("permit_cli", tmp_path_factory.mktemp("plain"), sanitize=False)
    Readers.folder = tmp_path
    run_state_machine_as_test(
        Readers, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )


@given(st.binary(min_size=SIZE, max_size=SIZE) | st.builds(lambda n: record(n, **RUN), st.integers(0, 9)))
@settings(max_examples=300, deadline=None)
def test_any_64_bytes_mean_the_same(shared: tuple[Path, Permits, CReader], content: bytes) -> None:
    path, permits, c_reader = shared
    path.write_bytes(content)
    permit = parse(content)
    expected = permit.epoch if permit else 0
    assert permits.read(1) == c_reader.read(1)
    assert permits.read(1).epoch == expected


@pytest.fixture(scope="module")
def shared(
    permit_cli: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Permits, CReader]]:
    path = tmp_path_factory.mktemp("shared") / "a.permit"
    path.write_bytes(record(1, **RUN))
    with both(permit_cli, path) as (permits, c_reader):
        yield path, permits, c_reader


def test_every_single_flipped_bit_stops(shared: tuple[Path, Permits, CReader]) -> None:
    path, permits, c_reader = shared
    good = record(5, **RUN)
    with path.open("r+b", buffering=0) as file:
        for bit in range(SIZE * 8):
            damaged = bytearray(good)
            damaged[bit // 8] ^= 1 << bit % 8
            file.seek(0)
            file.write(damaged)
            expected = DEAD if bit // 8 not in SEQUENCE_AT else Verdict(True, True, 1000, 7, 0)
            assert permits.read(1) == c_reader.read(1) == expected, f"bit {bit}"


@pytest.mark.parametrize(
    "content",
    [b"", b"WPERMIT1", b"\0" * SIZE, b"\xff" * SIZE, record(1, **RUN)[:-1], b"w" + record(1, **RUN)[1:]],
    ids=["empty", "magic alone", "zeros", "ones", "one byte short", "wrong magic"],
)
def test_what_is_no_record_stops(permit_cli: Path, tmp_path: Path, content: bytes) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(record(1, **RUN))
    bad.write_bytes(content)
    assert verdict_on(permit_cli, bad) == DEAD
    assert verdict_on(permit_cli, good, bad) == DEAD._replace(epoch=7)


def test_all_permits_together(permit_cli: Path, tmp_path: Path) -> None:
    reflex, remote = tmp_path / "reflex.permit", tmp_path / "remote.permit"
    reflex.write_bytes(record(1, **RUN))
    remote.write_bytes(
        record(
            1,
            **but(
                RUN, motion_until_ns=900, power_until_ns=2500, epoch=2**32 - 1, speed_permille=300, response=2
            ),
        )
    )
    verdict = Verdict(may_move=True, may_power=True, speed_permille=300, epoch=2**32 + 6, response=2)
    assert verdict_on(permit_cli, reflex, remote, now_ns=899) == verdict
    assert verdict_on(permit_cli, reflex, remote, now_ns=900) == verdict._replace(may_move=False)
    assert verdict_on(permit_cli, reflex, remote, now_ns=1999).may_power
    assert not verdict_on(permit_cli, reflex, remote, now_ns=2000).may_power


def test_a_missing_permit_stops_until_it_comes(permit_cli: Path, tmp_path: Path) -> None:
    reflex, remote = tmp_path / "reflex.permit", tmp_path / "remote.permit"
    reflex.write_bytes(record(1, **RUN))
    with both(permit_cli, reflex, remote) as (permits, c_reader):
        assert permits.read(1) == c_reader.read(1) == DEAD._replace(epoch=7)
        remote.write_bytes(record(1, **RUN))
        assert permits.read(1) == c_reader.read(1) == Verdict(True, True, 1000, 14, 0)


def test_a_permit_made_anew_is_followed_once_the_old_one_has_run_out(
    permit_cli: Path, tmp_path: Path
) -> None:
    path = tmp_path / "reflex.permit"
    path.write_bytes(record(1, **RUN))
    with both(permit_cli, path) as (permits, c_reader):
        assert permits.read(1).epoch == c_reader.read(1).epoch == 7
        path.unlink()
        path.write_bytes(record(1, **but(RUN, epoch=8, motion_until_ns=5000)))
        assert permits.read(999).epoch == c_reader.read(999).epoch == 7
        assert permits.read(1000) == c_reader.read(1000)
        assert permits.read(1000).epoch == 8
        assert permits.read(1000).may_move


def test_a_restart_of_the_writer_keeps_the_mapping_good(permit_cli: Path, tmp_path: Path) -> None:
    path = tmp_path / "reflex.permit"
    first = PermitWriter(path)
    first.write(**RUN)
    with both(permit_cli, path) as (permits, c_reader):
        assert permits.read(1).may_move
        assert c_reader.read(1).may_move
        first.close()
        assert permits.read(1) == c_reader.read(1) == DEAD._replace(epoch=7)
        second = PermitWriter(path)
        second.write(**but(RUN, epoch=9))
        assert permits.read(1) == c_reader.read(1) == Verdict(True, True, 1000, 9, 0)
        second.close()


def test_one_shot_and_usage(permit_cli: Path, tmp_path: Path) -> None:
    path = tmp_path / "reflex.permit"
    path.write_bytes(record(1, **but(RUN, motion_until_ns=2**63, power_until_ns=2**63)))
    done = subprocess.run([permit_cli, path], capture_output=True, text=True, check=True)
    assert parse_verdict(done.stdout)[1] == Verdict(True, True, 1000, 7, 0)
    for words in ([], ["--ask"], [path] * 5, ["--what", path]):
        assert subprocess.run([permit_cli, *words], capture_output=True, check=False).returncode == 2


def test_a_path_too_long_for_the_header_is_never_permitted(permit_cli: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200) / ("y" * 200)
    folder.mkdir(parents=True)
    path = folder / "reflex.permit"
    path.write_bytes(record(1, **but(RUN, motion_until_ns=2**63)))
    assert subprocess.run([permit_cli, path], capture_output=True, check=False).returncode == 2


def test_following_tells_each_change(permit_cli: Path, tmp_path: Path) -> None:
    path = tmp_path / "reflex.permit"
    ever: Grant = but(RUN, motion_until_ns=2**63, power_until_ns=2**63)
    writer = PermitWriter(path)
    acts: list[Callable[[], None]] = [
        lambda: writer.write(**ever),
        lambda: writer.withdraw(power_until_ns=2**63),
        lambda: writer.write(**STOP),
    ]
    seen: list[tuple[int, Verdict]] = []
    with subprocess.Popen(
        [permit_cli, "--follow", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        seen.append(parse_verdict(process.stdout.readline()))
        for act in acts:
            act()
            seen.append(parse_verdict(process.stdout.readline()))
        process.communicate(timeout=20)
    writer.close()
    assert [(v.may_move, v.may_power) for _, v in seen] == [
        (False, False),
        (True, True),
        (False, True),
        (False, False),
    ]
    times = [mono_ns for mono_ns, _ in seen]
    assert times == sorted(times)
    assert process.returncode == 0


# ---------------------------------------------------------------------------------------------- the header


PROGRAM = """
int main(void)
{
    rw_permits permits;
    rw_verdict verdict;

    (void)rw_init_folder(&permits, "/");
    rw_read(&permits, &verdict);
    rw_close(&permits);
    return verdict.may_move;
}
"""


@pytest.mark.parametrize("language", ["c99", "c11", "gnu17"])
def test_the_header_compiles_alone(language: str) -> None:
    command = [
        "gcc",
        f"-std={language}",
        *STRICT[1:],
        "-Wshadow",
        "-Wconversion",
        "-fsyntax-only",
        "-x",
        "c",
        "-",
    ]
    source = f'#include "{ROOT}/sdk/c/robot_warden.h"\n{PROGRAM}'
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_header_says_so_when_it_is_included_too_late() -> None:
    source = f'#include <fcntl.h>\n#include <time.h>\n#include "{ROOT}/sdk/c/robot_warden.h"\n'
    command = ["gcc", "-std=c99", "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "before any other header" in done.stderr
