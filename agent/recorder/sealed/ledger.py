"""`Ledger`: the signed chain of what happened to the log (README of agent/logformat, "Ledger").

An entry is three syncs: the next key beside the current one, the line, the current key erased (`state`). Once
a line was signed and handed to the disk it is *the* entry n: after a failure the same bytes are written again
at the same place, whatever is appended next, so that no key ever signs two entries.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from agent.core.trust import encode_base64url
from agent.logformat.layout import (
    KINDS,
    LEDGER_FILE,
    LEDGER_LABEL,
    LEDGER_SIG,
    MAX_LEDGER_LINE_BYTES,
    VERSION,
    ZERO_HASH,
)
from agent.logformat.suites import Suite, SuiteError, suite_by_number
from agent.recorder.log import LogError, Recovered
from agent.recorder.sealed.disk import Disk, write_all
from agent.recorder.sealed.ends import (
    Due,
    Places,
    judge,
    lost,
    next_aside,
    parse_line,
    read_tail,
    set_aside,
)
from agent.recorder.sealed.folder import exists, save_torn
from agent.recorder.sealed.keys import StateKey, drop_key_file
from agent.recorder.sealed.parts import Clocks, no_fractions
from agent.recorder.sealed.segment import wipe
from agent.recorder.sealed.state import End, Slot, State, reserve_ahead

RESERVE_BYTES: Final = 8 << 20
"""Set aside past the ledger's end, renewed when half is used: weeks of checkpoints on a full disk."""


Reserve = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Birth:
    """Whose ledger it is, and what its genesis says where it begins.

    `recipients`: kids; `opening`: `any`, `all`; `agent`: `version`, `digest`.
    """

    robot: str
    suite: int
    recipients: tuple[str, ...]
    opening: str
    agent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One durable entry. `line`: without its newline; `hash`: of the line, what the next `prev_hash` is."""

    n: int
    kind: str
    body: Mapping[str, Any]
    wall_ns: int
    line: bytes
    hash: str


class Ledger:
    """The one writer of a folder's ledger; whoever makes it holds the folder's lock (`folder.open_locked`).

    `recovered`: torn bytes that opening set aside, None for none. `broken_off`: why a new ledger was begun,
    "" when it was not. `kept_by`: see `StateKey`. `reserved`: whether it can go on when the disk is full.
    `on_entry` is called with each entry as soon as it is durable, in order; it must not raise.
    """

    def __init__(
        self,
        folder: Path,
        folder_fd: int,
        *,
        birth: Birth,
        key: StateKey,
        clocks: Clocks,
        disk: Disk | None = None,
        reserve: Reserve = reserve_ahead,
        on_entry: Callable[[Entry], None] | None = None,
    ) -> None:
        """Opens, repairs or begins it; `folder_fd` is borrowed, `key` wiped by `close` or when this raises.

        `disk` and `reserve` are for tests. LogError: the disk refuses, or the suite is not to be had here;
        what is found in the folder is no reason.
        """
        self.path = folder / LEDGER_FILE
        self.recovered: Recovered | None = None
        self.broken_off = ""
        self.kept_by = key.kept_by
        self.reserved = False
        self.on_entry = on_entry
        self._robot = birth.robot
        self._birth = birth
        self._key = key
        self._clocks = clocks
        self._disk = disk or Disk()
        self._reserve_call = reserve
        self._folder_fd = folder_fd
        self._fd = -1
        self._size = self._reserved_to = 0
        self._head: Entry | None = None
        self._pending: tuple[Entry, bytes] | None = None
        self._places = Places()
        self._state: State | None = None
        try:
            with self._named_errors():
                self._open()
                self.genesis_line = self._first_line()
        except LogError:
            self.close()
            raise

    @property
    def head(self) -> Entry:
        """The last durable entry."""
        if self._head is None:
            raise RuntimeError("a ledger has a genesis once it is open")
        return self._head

    @property
    def suite(self) -> int:
        """In force for the next entry."""
        return self._signing.current.suite

    @property
    def _signing(self) -> State:
        if self._state is None:
            raise LogError(self.path, "closed")
        return self._state

    def close(self) -> None:
        """Wipes the keys in memory; idempotent. What was refused before and not retried stays unwritten."""
        if self._state is not None:
            with suppress(OSError):
                if not self._state.erased:
                    self._state.erase()
            self._state.close()
        self._state = None
        self._key.wipe()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    # ---- appending

    def append(self, kind: str, body: Mapping[str, object], /) -> Entry:
        """One more entry, durable when this returns.

        LogError: it is not known to be durable. Append the same again, and there will be one of it; or
        append another, and if the refused one had got as far as the disk it comes first (`on_entry` tells).
        errno 0: it can never be written (not a body, or a line over 65,000 bytes). Bodies hold no fractions.
        """
        if kind not in KINDS or kind == "genesis":
            raise LogError(self.path, f"there is no entry {kind!r} to append")
        with self._named_errors():
            return self._append(kind, body)

    def _append(self, kind: str, body: Mapping[str, object]) -> Entry:
        content = _json([kind, body])
        if self._pending is not None:
            refused = self._pending[1]
            entry = self._commit()
            if refused == content:
                return entry
        self._sign(kind, json.loads(content, parse_float=no_fractions)[1], content)
        return self._commit()

    def _sign(self, kind: str, body: dict[str, Any], content: bytes) -> None:
        """Makes the line and, durably, the key after it; from here on it is the pending one."""
        state, wall_ns = self._signing, self._clocks.wall_ns()
        slot, suite = state.current, suite_by_number(state.current.suite)
        after = suite_by_number(body["suite"]) if kind == "config" else suite
        private, public = after.new_signing_key()
        fields = {
            "v": VERSION,
            "robot": self._robot,
            "n": slot.n,
            "prev_hash": slot.before.hash.hex() if slot.n else ZERO_HASH,
            "boot_id": self._clocks.boot_id,
            "wall": wall_ns,
            "boottime": self._clocks.boottime_ns(),
            "kind": kind,
            "body": body,
            "next_pk": encode_base64url(public),
        }
        line = _signed(fields, suite, slot.private)
        if len(line) > MAX_LEDGER_LINE_BYTES:
            raise ValueError(f"{len(line)} bytes, at most {MAX_LEDGER_LINE_BYTES}")
        digest = after.hash(line)
        state.put(Slot(slot.n + 1, after.number, End(slot.n, digest), _taken(private)))
        self._pending = Entry(slot.n, kind, body, wall_ns, line, digest.hex()), content

    def _commit(self) -> Entry:
        """Writes the pending line where it belongs, over whatever came of it before, then erases its key.

        Not merely a sync again: after a failed one the kernel may call pages clean that never reached the
        disk (fsync(2), EIO).
        """
        if self._pending is None:
            raise RuntimeError("nothing was signed")
        entry, _ = self._pending
        data = entry.line + b"\n"
        write_all(self._disk, self._fd, data, self._size)
        self._disk.sync(self._fd)
        self._places.note(entry.n, self._size)
        self._size += len(data)
        self._head, self._pending = entry, None
        with suppress(OSError):  # the entry is durable; its key is overwritten by the next one's, or `close`
            self._signing.advance()
        self._reserve()
        if self.on_entry is not None:
            self.on_entry(entry)
        return entry

    def _reserve(self) -> None:
        """Keeps room ahead; a disk that is full, or a file system that cannot, is asked again next time."""
        if self._reserved_to - self._size < RESERVE_BYTES // 2:
            with suppress(OSError):
                self._reserve_call(self._fd, self._size, RESERVE_BYTES)
                self._reserved_to = self._size + RESERVE_BYTES
        self.reserved = self._reserved_to - self._size > MAX_LEDGER_LINE_BYTES

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LogError(self.path, f"not written: {error.strerror}", error.errno or 0) from error
        except SuiteError as error:
            raise LogError(self.path, error.reason) from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LogError(self.path, f"entry refused: {error}") from error

    # ---- opening

    def _open(self) -> None:
        disk, folder_fd = self._disk, self._folder_fd
        self._state = State(folder_fd, robot=self._robot, key=self._key, disk=disk)
        found = self._state.found
        born = next((slot.before for slot in found if slot.n == 0), None)
        if not exists(LEDGER_FILE, folder_fd):
            self._begin(born or lost(found, "ledger_lost") or _unknown(self.path.parent))
            return
        self._fd = disk.open(LEDGER_FILE, folder_fd)
        tail = read_tail(self._fd)
        verdict = judge(tail, found)
        if isinstance(verdict, Due):
            self._go_on(verdict, tail.size)
        elif born is not None and tail.last is None:  # torn in the middle of its genesis
            self._set_aside(0, tail.size)
            self._begin(born)
        else:
            self._break_off(verdict, born)

    def _go_on(self, due: Due, size: int) -> None:
        if due.missing:
            write_all(self._disk, self._fd, due.missing, size)
        elif due.end < size:
            self._set_aside(due.end, size)
        # Also without a change: the line may have been whole only in the memory of a kernel that goes on.
        self._disk.sync_all(self._fd)
        self._signing.choose(due.slot)
        self._size = due.end
        self._head = _entry(due.line, due.slot.before.hash.hex())
        if self.kept_by == "credential":
            drop_key_file(self._folder_fd, self._disk)
        self._reserve()

    def _set_aside(self, start: int, end: int) -> None:
        """Torn bytes go beside, durably, before they are cut off."""
        span = start, end
        try:
            kept = save_torn(self._disk, self._fd, LEDGER_FILE, span, self._folder_fd)
        except OSError:
            # Frees what was reserved past the end: on a full disk, the only room there is.
            self._disk.cut(self._fd, end)
            kept = save_torn(self._disk, self._fd, LEDGER_FILE, span, self._folder_fd)
        self._disk.cut(self._fd, start)
        self._disk.sync_all(self._fd)
        self.recovered = Recovered(LEDGER_FILE, end - start, kept)

    def _break_off(self, end: End, born: End | None) -> None:
        """Begins anew beside a ledger that no key fits; the new state first, which remembers why."""
        if born is not None and (born.n, born.hash) == (end.n, end.hash):
            end = born  # a crash in the middle of this very step
        os.close(self._fd)
        self._fd = -1
        self._begin(end, aside=True)

    def _begin(self, before: End, *, aside: bool = False) -> None:
        suite = suite_by_number(self._birth.suite)
        private, public = suite.new_signing_key()
        self._signing.restart(Slot(0, suite.number, before, _taken(private)))
        if aside:
            self._disk.rename(LEDGER_FILE, next_aside(self.path.parent), self._folder_fd)
        if self._fd < 0:
            made = not exists(LEDGER_FILE, self._folder_fd)
            opener = self._disk.create if made else self._disk.open
            self._fd = opener(LEDGER_FILE, self._folder_fd)
            self._disk.sync_all(self._folder_fd)
        self.broken_off = before.reason
        self._append("genesis", self._genesis(before, public))

    def _genesis(self, before: End, public: bytes) -> dict[str, object]:
        previous = {"n": before.n, "hash": before.hash.hex(), "reason": before.reason}
        return {
            "suite": self._birth.suite,
            "pk": encode_base64url(public),
            "recipients": list(self._birth.recipients),
            "opening": self._birth.opening,
            "agent": dict(self._birth.agent),
            "previous": previous if before.reason else None,
        }

    # ---- reading

    def _first_line(self) -> bytes:
        with self.path.open("rb") as file:
            return file.readline(MAX_LEDGER_LINE_BYTES + 1).rstrip(b"\n")

    def entries_after(self, n: int, limit: int) -> Iterator[tuple[int, bytes]]:
        """(number, line without its newline) of at most `limit` durable entries after number `n`, in order.

        A line that cannot be read as an entry is given as it is, numbered by its place. LogError.
        """
        with self._named_errors(), self.path.open("rb") as file:
            yield from islice(self._places.lines_after(n, file, lambda: (self._size, self.head.n)), limit)


def _signed(fields: Mapping[str, object], suite: Suite, private: bytearray) -> bytes:
    signed = _json(fields)[:-1]
    signature = encode_base64url(suite.sign(private, LEDGER_LABEL + signed))
    return b'%b%b%b"}' % (signed, LEDGER_SIG, signature.encode())


def _taken(private: bytes) -> bytearray:
    """A key in memory that can be wiped, and nowhere else."""
    taken = bytearray(private)
    wipe(private)
    return taken


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _unknown(folder: Path) -> End:
    """What a ledger follows where neither it nor the state is there."""
    return End(reason="ledger_lost") if set_aside(folder) else End()


def _entry(data: bytes, digest: str) -> Entry:
    line = parse_line(data)
    if line is None:
        raise RuntimeError("judge() takes no other line")
    return Entry(line.n, line.fields["kind"], line.fields["body"], line.fields["wall"], data, digest)
