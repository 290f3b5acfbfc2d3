"""Who is timed against whom: the sealed log in both suites, plain append + fdatasync, SQLite."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agent.logformat.suites import SuiteError, suite_by_number
from agent.recorder.log import Record
from agent.recorder.sealed.packing import record_json
from hil.log.owner import new_owner
from hil.log.writer import Writer

PLAIN, SQLITE, SUITE1, SUITE2 = "append + fdatasync", "SQLite WAL FULL", "suite 1", "suite 2"
PLAIN_JSON = "JSON + append + fdatasync"
"""A plain log as it would really be kept: its lines are made in the commit, as ours are."""

Commit = Callable[[Sequence[Record], Sequence[bytes]], None]
"""Makes a batch durable: ours takes the records, the references the same records' JSON, made beforehand."""


@contextmanager
def contenders(folder: Path) -> Iterator[dict[str, Commit]]:
    """By name, all on the file system of `folder`; suite 2 only where this machine has it."""
    with ExitStack() as stack:
        made: dict[str, Commit] = {
            PLAIN: stack.enter_context(_plain(folder / "plain.jsonl")),
            PLAIN_JSON: stack.enter_context(_plain(folder / "json.jsonl", make=True)),
            SQLITE: stack.enter_context(_sqlite(folder / "log.sqlite")),
            SUITE1: stack.enter_context(_sealed(folder / "suite1", 1)),
        }
        if has_suite2():
            made[SUITE2] = stack.enter_context(_sealed(folder / "suite2", 2))
        yield made


def has_suite2() -> bool:
    """Whether the system's libcrypto has SM2."""
    try:
        suite_by_number(2)
    except SuiteError:
        return False
    return True


def texts(records: Sequence[Record]) -> list[bytes]:
    """The same JSON bytes that a frame holds of them, a line each."""
    return [record_json(record) + b"\n" for record in records]


@contextmanager
def _plain(path: Path, *, make: bool = False) -> Iterator[Commit]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def commit(records: Sequence[Record], lines: Sequence[bytes]) -> None:
        os.write(fd, b"".join(texts(records) if make else lines))
        os.fdatasync(fd)

    try:
        yield commit
    finally:
        os.close(fd)


@contextmanager
def _sqlite(path: Path) -> Iterator[Commit]:
    database = sqlite3.connect(path, isolation_level=None)
    for words in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE log (line BLOB)"):
        database.execute(words)

    def commit(_: Sequence[Record], lines: Sequence[bytes]) -> None:
        database.execute("BEGIN")
        database.executemany("INSERT INTO log VALUES (?)", [(line,) for line in lines])
        database.execute("COMMIT")

    try:
        yield commit
    finally:
        database.close()


@contextmanager
def _sealed(folder: Path, suite: int) -> Iterator[Commit]:
    with Writer(folder, new_owner(suite=suite)) as writer:
        writer.boot()

        def commit(records: Sequence[Record], _: Sequence[bytes]) -> None:
            writer.log.append(records)

        yield commit
