"""What `verify` says of a forged log, in short."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.audit import OrderKeys, Report, verify
from agent.audit.findings import CLEAN, EXPLAINED, INCOMPLETE, TAMPERED
from tests.audit.forge import DEPARTMENT, WITNESS, Forge, public

KEYS = OrderKeys({DEPARTMENT: public(DEPARTMENT)})
WITNESSES = {WITNESS: public(WITNESS)}

__all__ = ["CLEAN", "EXPLAINED", "INCOMPLETE", "TAMPERED", "judge", "recorder", "report"]


def report(forge: Forge, *, keys: bool = True, witness: Path | None = None, genesis: bytes = b"") -> Report:
    return verify(
        forge.folder,
        genesis=genesis or forge.first,
        witness=witness,
        order_keys=KEYS if keys else None,
        witness_keys=WITNESSES if keys else None,
    )


def judge(forge: Forge, *, keys: bool = True, witness: Path | None = None) -> tuple[int, set[str]]:
    """Exit code and kinds of findings."""
    told = report(forge, keys=keys, witness=witness)
    return told.exit_code, set(told.counts)


@contextmanager
def recorder(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, as a recorder does."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)
