"""The two kinds of keys that the writer is given: the state key, and the recipients' public keys."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.recipients import load_recipient
from agent.recorder.log import LogError
from agent.recorder.sealed.disk import Disk, write_all
from agent.recorder.sealed.segment import wipe
from agent.tokens import KeyFileError

CREDENTIAL: Final = "warden-log-state"
"""Name under which the unit loads it (LoadCredentialEncrypted=); systemd-creds(1) seals it to TPM or host."""
KEY_FILE: Final = "state.key"
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
KEY_BYTES: Final = 32
MAX_CREDENTIAL_BYTES: Final = 1 << 20
"""systemd takes no larger ones."""
_LABEL: Final = b"robot-warden log v1 state key\0"


@dataclass(frozen=True, slots=True)
class StateKey:
    """What the signing state is encrypted under, 32 bytes each.

    `keys`: the first one encrypts; state that was kept under the others is moved to it. `kept_by`:
    "credential", or "file" where there is none: then whoever copies the disk has the signing key too, which
    the ledger's boot entry, status and log say aloud.
    """

    keys: tuple[bytearray, ...]
    kept_by: str

    def wipe(self) -> None:
        """Zeros in memory."""
        for key in self.keys:
            wipe(key)


def load_state_key(
    folder_fd: int,
    folder: Path,
    *,
    credential: str = CREDENTIAL,
    environ: Mapping[str, str] = os.environ,
    disk: Disk | None = None,
) -> StateKey:
    """The key from the credential, else from `state.key` in the log's folder, which is made if need be.

    Raises LogError for a credential that is there and cannot be used: going on without it would break the
    ledger off. Where the state was kept by the file before, its key is the second.
    """
    at = environ.get(CREDENTIALS)
    sealed = _credential(Path(at) / credential) if at else None
    try:
        beside = _read_file(folder_fd)
        if sealed is not None:
            return StateKey((sealed, *([beside] if beside else [])), "credential")
        return StateKey((beside or _make_file(folder_fd, disk or Disk()),), "file")
    except OSError as error:
        raise LogError(folder / KEY_FILE, f"cannot be used: {error.strerror}", error.errno or 0) from error


def drop_key_file(folder_fd: int, disk: Disk) -> None:
    """Removes `state.key`, if it is there, once a credential keeps the state; OSError."""
    with suppress(FileNotFoundError):
        disk.remove(KEY_FILE, folder_fd)
        disk.sync_all(folder_fd)


def _credential(path: Path) -> bytearray | None:
    try:
        with path.open("rb") as file:
            secret = file.read(MAX_CREDENTIAL_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogError(path, f"credential cannot be read: {error.strerror}", error.errno or 0) from error
    if not KEY_BYTES <= len(secret) <= MAX_CREDENTIAL_BYTES:
        raise LogError(path, f"credential has {len(secret)} bytes, must have {KEY_BYTES} to 1 MiB")
    return _hashed(secret)


def _read_file(folder_fd: int) -> bytearray | None:
    """None where there is none, or not a whole one: what it kept cannot be opened any more either way."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(KEY_FILE, flags, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    try:
        secret = os.read(fd, KEY_BYTES + 1)
    finally:
        os.close(fd)
    return _hashed(secret) if len(secret) == KEY_BYTES else None


def _make_file(folder_fd: int, disk: Disk) -> bytearray:
    secret = os.urandom(KEY_BYTES)
    fresh = f"{KEY_FILE}.new"
    with suppress(FileNotFoundError):
        disk.remove(fresh, folder_fd)
    fd = disk.create(fresh, folder_fd)
    try:
        write_all(disk, fd, secret, 0)
        disk.sync_all(fd)
    finally:
        os.close(fd)
    disk.rename(fresh, KEY_FILE, folder_fd)
    disk.sync_all(folder_fd)
    return _hashed(secret)


def _hashed(secret: bytes) -> bytearray:
    hashed = hashlib.sha256(_LABEL)
    hashed.update(secret)
    wipe(secret)
    return bytearray(hashed.digest())


def recipients_of(paths: Iterable[Path], suite: int) -> list[tuple[str, bytes]]:
    """(kid, public key as `Suite.wrap` takes it) of each recipient's JWK, in the order of `paths`.

    KeyFileError for a file that is none, of another suite, or of a kid that comes twice.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        recipient = load_recipient(path)
        if recipient.suite != suite:
            raise KeyFileError(path, f"is a key of suite {recipient.suite}, the log is kept in suite {suite}")
        if recipient.kid in found:
            raise KeyFileError(path, f'the kid "{recipient.kid}" comes twice among the recipients')
        found[recipient.kid] = recipient.public
    return list(found.items())
