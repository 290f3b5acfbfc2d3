"""The signing state: the key of the ledger's next entry, in one of two slots, encrypted under the state key.

Around entry n, which key n signs (LOG, "Ledger"):

1. `put`: key n + 1 into the free slot, synced. From here key n exists beside it.
2. The entry is appended and synced.
3. `advance`: key n is overwritten with zeros, synced. Key n + 1 is alone.

A crash leaves one key or two, and each slot says which line it follows, so the ledger's end tells which one
is due (`ends.judge`). The file is written whole when it is made and only overwritten from then on, so that
a full disk never stops it.
"""

import ctypes
import os
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.recorder.sealed.disk import Disk, fill, write_all
from agent.recorder.sealed.folder import exists
from agent.recorder.sealed.keys import StateKey
from agent.recorder.sealed.segment import wipe

STATE_FILE: Final = "state"
SLOT_BYTES: Final = 4096
"""Apart by a page: writing one slot, torn as it may be, does not touch the other."""
PRIVATE_BYTES: Final = 32
REASONS: Final = ("", "state_lost", "state_mismatch", "ledger_damaged", "ledger_lost")
"""Why the ledger before was broken off; "" within a ledger. Their places are numbers in the file."""

_KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE (linux/falloc.h)."""
_LABEL: Final = b"robot-warden log v1 state\0"
_MAGIC: Final = b"WST1"
_NONCE_BYTES: Final = 12
_PLAIN: Final = struct.Struct(f"<QBBQ32s{PRIVATE_BYTES}s")
"""n, suite, reason, n and hash of the line before, private key."""
_RECORD_BYTES: Final = len(_MAGIC) + _NONCE_BYTES + _PLAIN.size + 16
"""114: within one sector."""


@dataclass(frozen=True, slots=True)
class End:
    """The line that an entry follows. For a genesis: the end of the ledger that was broken off, and why.

    A genesis that follows nothing: `n` 0, 32 zero bytes, "".
    """

    n: int = 0
    hash: bytes = bytes(32)
    reason: str = ""


@dataclass(slots=True)
class Slot:
    """The private key that signs entry `n`, of `suite`'s kind."""

    n: int
    suite: int
    before: End
    private: bytearray
    aged: bool = False
    """True when it opened under an earlier state key."""


class State:
    """The file `state`. Methods raise OSError where the disk refuses; the same can then be tried again.

    `found`: the slots that opened, newest first. One that opens under none of the state keys, or belongs to
    another robot, counts for nothing. `erased`: False while a used key could not be overwritten.
    """

    def __init__(self, folder_fd: int, *, robot: str, key: StateKey, disk: Disk) -> None:
        self._disk = disk
        self._key = key
        self._associated = _LABEL + robot.encode()
        self.erased = True
        self._place = 0
        self._current: Slot | None = None
        self._next: Slot | None = None
        self._fd = _open(disk, folder_fd)
        self._found = {place: slot for place in (0, 1) if (slot := self._read(place)) is not None}
        self.found = sorted(self._found.values(), key=lambda slot: slot.n, reverse=True)

    @property
    def current(self) -> Slot:
        """The key that is due."""
        if self._current is None:
            raise RuntimeError("no key was chosen yet")
        return self._current

    def choose(self, slot: Slot) -> None:
        """Goes on with one of `found`; the other is erased."""
        self._place = self._place_of(slot)
        self._current = slot
        if slot.aged:
            self.put(Slot(slot.n, slot.suite, slot.before, bytearray(slot.private)))
            self.advance()
        else:
            self.erase()

    def restart(self, slot: Slot) -> None:
        """Forgets all of `found` for a key of a new ledger; not before that key is on the disk."""
        self._place = self._place_of(self.found[0]) if self.found else 0
        self.put(slot)
        self.advance()

    def put(self, slot: Slot) -> None:
        """Step 1: the key after the current one, durable beside it."""
        self._next = slot
        write_all(self._disk, self._fd, self._sealed(slot), self._free * SLOT_BYTES)
        self._disk.sync(self._fd)
        self.erased = True  # whatever stood there: from here on nothing may take this slot for a used one

    def advance(self) -> None:
        """Step 3: the key of `put` is the current one, and the one before is erased.

        OSError: it is the current one all the same, and the other is still there, encrypted, until `erase` or
        the next `put`, which overwrites it, goes through.
        """
        if self._current is not None:
            wipe(self._current.private)
        self._current, self._next, self._place = self._next, None, self._free
        self.erase()

    def erase(self) -> None:
        """Zeros in the slot that is not due, durable; may be repeated."""
        self.erased = False
        write_all(self._disk, self._fd, bytes(_RECORD_BYTES), self._free * SLOT_BYTES)
        self._disk.sync(self._fd)
        self.erased = True

    def close(self) -> None:
        """Wipes what is in memory; idempotent."""
        for slot in (*self.found, self._current, self._next):
            if slot is not None:
                wipe(slot.private)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    @property
    def _free(self) -> int:
        return 1 - self._place

    def _place_of(self, slot: Slot) -> int:
        return next(place for place, found in self._found.items() if found is slot)

    # ---- one slot

    def _sealed(self, slot: Slot) -> bytes:
        before = slot.before
        reason = REASONS.index(before.reason)
        private = bytes(slot.private)
        plain = _PLAIN.pack(slot.n, slot.suite, reason, before.n, before.hash, private)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self._key.keys[0]).encrypt(nonce, plain, self._associated)
        wipe(plain)
        wipe(private)
        return _MAGIC + nonce + sealed

    def _read(self, place: int) -> Slot | None:
        data = os.pread(self._fd, _RECORD_BYTES, place * SLOT_BYTES)
        if len(data) != _RECORD_BYTES or not data.startswith(_MAGIC):
            return None
        for age, key in enumerate(self._key.keys):
            if (slot := self._open_slot(key, data, aged=age > 0)) is not None:
                return slot
        return None

    def _open_slot(self, key: bytearray, data: bytes, *, aged: bool) -> Slot | None:
        nonce, sealed = data[len(_MAGIC) :][:_NONCE_BYTES], data[len(_MAGIC) + _NONCE_BYTES :]
        try:
            plain = AESGCM(key).decrypt(nonce, sealed, self._associated)
        except InvalidTag:
            return None
        n, suite, reason, before_n, before_hash, private = _PLAIN.unpack(plain)
        slot = Slot(n, suite, End(before_n, before_hash, REASONS[reason]), bytearray(private), aged)
        wipe(plain)
        wipe(private)
        return slot


def _open(disk: Disk, folder_fd: int) -> int:
    """The file, of full length; what was cut short is filled with zeros again."""
    new = not exists(STATE_FILE, folder_fd)
    fd = disk.create(STATE_FILE, folder_fd) if new else disk.open(STATE_FILE, folder_fd)
    try:
        if os.fstat(fd).st_size < 2 * SLOT_BYTES:
            fill(disk, fd, 2 * SLOT_BYTES)
        disk.sync_all(folder_fd)  # after each start: the one that made it may have ended before its own
    except OSError:
        os.close(fd)
        raise
    return fd


def reserve_ahead(fd: int, offset: int, size: int) -> None:
    """Sets blocks aside past the end and leaves the file as long as it is; OSError.

    os.posix_fallocate would make it longer, and a ledger ends where its last line does.
    """
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(fd, _KEEP_SIZE, offset, size) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
