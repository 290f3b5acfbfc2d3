"""A writer that stores without pause, or is killed while it does, and readers that look meanwhile."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from agent.permit import PermitReader, PermitWriter, parse
from tests.sdk.c_reader import ROOT, build
from tests.sdk.hammer import granted
from tests.waiting import block_until


@contextmanager
def hammering(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A writer process that stores without pause."""
    command = [sys.executable, "-m", "tests.sdk.hammer", os.fspath(path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
        process.communicate(timeout=20)


def writes_beyond(reader: PermitReader, epoch: int) -> bool:
    return reader.read().epoch > epoch


def test_no_reader_ever_sees_what_was_not_granted(tmp_path: Path) -> None:
    path = tmp_path / "reflex.permit"
    program = build("permit_hammer", tmp_path, sanitize=False)
    with hammering(path):
        done = subprocess.run(
            [program, path, "20000000"], capture_output=True, text=True, check=True, timeout=50
        )
        reader = PermitReader(path)
        permits = [reader.read() for _ in range(20_000)]
        reader.close()
    counts = json.loads(done.stdout)
    assert counts["wrong"] == 0, counts
    assert counts["moving"] > 0
    assert counts["stopped"] > 0
    assert counts["epochs"] > 10, "the writer was at work meanwhile"
    assert [permit for permit in permits if not granted(permit)] == []
    assert len({permit.sequence for permit in permits}) > 10


def test_a_writer_killed_anywhere_leaves_a_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "reflex.permit"
    reader = PermitReader(path)
    epoch = 0
    for _ in range(5):
        with hammering(path) as process:
            block_until(partial(writes_beyond, reader, epoch))
            process.kill()
            process.wait()
        left = parse(path.read_bytes())
        assert left is not None
        assert granted(left)
        assert left.epoch >= epoch
        writer = PermitWriter(path)
        assert writer.found == left
        epoch = left.epoch
        writer.close()
    reader.close()
