"""What a channel must not forget: its epoch and its causes, on the disk before a stop is acknowledged.

One small JSON file per channel, replaced whole (write, sync, rename, sync the folder), with a digest of
itself. Saving happens on a thread of its own: a disk that hangs delays acknowledgements and every resume,
never a stop or the renewal of power during a hold.
"""

import hashlib
import json
import os
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.causes import Clear
from agent.core.machine import Cause, State
from agent.core.responses import Response
from agent.errors import WardenError

VERSION = 1
MAX_BYTES = 1 << 20
_STACK_BYTES = 256 * 1024
"""The saving thread's stack: the default of 8 MiB would be locked into memory whole."""


class LatchError(WardenError):
    """The latch file cannot be used. `path`: the file; `reason`: why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Latched:
    """One channel's memory. `since_wall_ns` of a cause and `wall_ns` are CLOCK_REALTIME nanoseconds.

    `standing`: keys kept true by a command until another ends them (`maintenance`), with their detail.
    `trust_version`: the newest trust file ever accepted; an older one is refused (PROTOCOL 3).
    """

    epoch: int = 0
    causes: tuple[Cause, ...] = ()
    since_wall_ns: Mapping[str, int] = field(default_factory=dict)
    standing: Mapping[str, str] = field(default_factory=dict)
    trust_version: int = 0
    wall_ns: int = 0


def load(path: Path) -> Latched | None:
    """What was saved, None where nothing ever was. Raises LatchError for a file that is damaged."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LatchError(path, f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise LatchError(path, f"larger than {MAX_BYTES} bytes")
    try:
        return _decode(json.loads(raw))
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError, OverflowError) as error:
        raise LatchError(path, f"damaged ({type(error).__name__})") from error


def _decode(data: Mapping[str, object]) -> Latched:
    body = data["body"]
    if data["v"] != VERSION or data["sha256"] != _digest(body):
        raise ValueError("version or digest")
    if not isinstance(body, dict):
        raise TypeError("body")
    causes = tuple(
        Cause(
            key=str(row["key"]),
            response=Response(row["response"]),
            clear=Clear(row["clear"]),
            active=bool(row["active"]),
            since_ns=0,
            detail=str(row["detail"]),
        )
        for row in body["causes"]
    )
    since = {str(row["key"]): int(row["since_wall_ns"]) for row in body["causes"]}
    standing = {str(key): str(detail) for key, detail in body["standing"].items()}
    return Latched(
        int(body["epoch"]), causes, since, standing, int(body["trust_version"]), int(body["wall_ns"])
    )


def encode(
    state: State, *, now_ns: int, wall_ns: int, standing: Mapping[str, str], trust_version: int
) -> bytes:
    """The file's bytes for one state of the machine."""
    causes = [
        {
            "key": cause.key,
            "response": int(cause.response),
            "clear": int(cause.clear),
            "active": cause.active,
            "since_wall_ns": wall_ns - (now_ns - cause.since_ns),
            "detail": cause.detail,
        }
        for cause in state.causes
    ]
    body = {
        "epoch": state.epoch,
        "causes": causes,
        "standing": dict(standing),
        "trust_version": trust_version,
        "wall_ns": wall_ns,
    }
    return json.dumps({"v": VERSION, "sha256": _digest(body), "body": body}).encode()


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def save(path: Path, data: bytes) -> None:
    """Replaces the file and returns when it is on the disk; OSError otherwise."""
    temporary = path.with_suffix(".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Saver:
    """Saves the newest of what it is given; an older one that was not begun yet is passed over.

    `on_saved(ticket)` and `on_failed(reason)` are called on the loop. Tickets grow by one per `save`;
    `on_saved(n)` means that the data of ticket n, or newer, is on the disk.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        path: Path,
        *,
        on_saved: Callable[[int], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._path = path
        self._on_saved = on_saved
        self._on_failed = on_failed
        self._wanted: tuple[int, bytes] | None = None
        self._ticket = 0
        self._closing = False
        self._wake = threading.Condition()
        # Not a daemon: an ordered end waits for the last save (`close`).
        self._thread = threading.Thread(target=self._run, name="latch")

    def save(self, data: bytes) -> int:
        """Returns at once with this data's ticket."""
        if self._thread.ident is None:
            self._start()
        with self._wake:
            self._ticket += 1
            self._wanted = (self._ticket, data)
            self._wake.notify()
            return self._ticket

    def close(self) -> None:
        """Waits for what is under way and for the last save; idempotent."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _start(self) -> None:
        """With the first save: a module that fails before it has nothing to save, and must be able to end."""
        before = threading.stack_size(_STACK_BYTES)
        try:
            self._thread.start()
        finally:
            threading.stack_size(before)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            ticket, data = item
            try:
                save(self._path, data)
            except OSError as error:
                self._tell(self._on_failed, f"{self._path}: {error.strerror}")
                self._put_back(ticket, data)
            else:
                self._tell(self._on_saved, ticket)

    def _next(self) -> tuple[int, bytes] | None:
        with self._wake:
            while self._wanted is None and not self._closing:
                self._wake.wait()
            item, self._wanted = self._wanted, None
            return item

    def _put_back(self, ticket: int, data: bytes) -> None:
        """A disk that refuses is tried again, ten times a second, unless something newer came."""
        with self._wake:
            if not self._closing:
                self._wake.wait(timeout=0.1)
                self._wanted = self._wanted or (ticket, data)

    def _tell(self, handler: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(handler, argument)
        except RuntimeError:  # the loop has ended: nobody waits for the answer any more
            return
