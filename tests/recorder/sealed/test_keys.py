"""The state key, from a credential or a file, and the recipients."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.recipients import load_recipient, write_recipient_pair
from agent.recorder.log import LogError
from agent.recorder.sealed.folder import open_folder
from agent.recorder.sealed.keys import CREDENTIAL, KEY_FILE, StateKey, load_state_key, recipients_of
from agent.tokens import KeyFileError
from tests.recorder.sealed.ledgers import LEDGER, QuickDisk, opened, verified


@pytest.fixture
def folder_fd(tmp_path: Path) -> Iterator[int]:
    fd = open_folder(tmp_path / "log")
    yield fd
    os.close(fd)


@pytest.fixture
def credential(tmp_path: Path) -> Path:
    path = tmp_path / "credentials" / CREDENTIAL
    path.parent.mkdir()
    path.write_bytes(os.urandom(40))
    return path


def load(
    folder_fd: int, tmp_path: Path, credential: Path | None = None, disk: QuickDisk | None = None
) -> StateKey:
    environ = {"CREDENTIALS_DIRECTORY": str(credential.parent)} if credential else {}
    return load_state_key(folder_fd, tmp_path / "log", environ=environ, disk=disk)


def test_without_a_credential_a_file_is_made_once(tmp_path: Path, folder_fd: int) -> None:
    first, second = load(folder_fd, tmp_path), load(folder_fd, tmp_path)
    assert first == second
    assert (first.kept_by, len(first.keys), len(first.keys[0])) == ("file", 1, 32)
    path = tmp_path / "log" / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert bytes(first.keys[0]) != path.read_bytes()
    first.wipe()
    assert not any(first.keys[0])


def test_a_credential_goes_before_the_file(tmp_path: Path, folder_fd: int, credential: Path) -> None:
    [beside] = load(folder_fd, tmp_path).keys
    key = load(folder_fd, tmp_path, credential)
    assert (key.kept_by, key.keys[1:]) == ("credential", (beside,))
    assert key.keys[0] != beside


def test_with_a_credential_no_file_is_made(tmp_path: Path, folder_fd: int, credential: Path) -> None:
    assert len(load(folder_fd, tmp_path, credential).keys) == 1
    assert not (tmp_path / "log" / KEY_FILE).exists()


def test_a_folder_of_other_credentials_is_none(tmp_path: Path, folder_fd: int, credential: Path) -> None:
    credential.rename(credential.with_name("other"))
    assert load(folder_fd, tmp_path, credential).kept_by == "file"


@pytest.mark.parametrize("size", [0, 31, (1 << 20) + 1])
def test_a_credential_of_a_wrong_size_is_no_reason_to_break_off(
    tmp_path: Path, folder_fd: int, credential: Path, size: int
) -> None:
    credential.write_bytes(bytes(size))
    with pytest.raises(LogError, match="credential has"):
        load(folder_fd, tmp_path, credential)


def test_nor_is_one_that_cannot_be_read(tmp_path: Path, folder_fd: int, credential: Path) -> None:
    credential.unlink()
    credential.mkdir()
    with pytest.raises(LogError, match="cannot be read") as caught:
        load(folder_fd, tmp_path, credential)
    assert caught.value.errno == errno.EISDIR


def test_nor_a_key_file_that_is_none(tmp_path: Path, folder_fd: int) -> None:
    """Another one in its place would lose what the first one keeps."""
    (tmp_path / "log" / KEY_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LogError, match="cannot be used") as caught:
        load(folder_fd, tmp_path)
    assert caught.value.errno == errno.ELOOP


def test_a_key_file_is_whole_or_not_there(tmp_path: Path, folder_fd: int) -> None:
    for step in range(1, 20):
        (tmp_path / "log" / KEY_FILE).unlink(missing_ok=True)

        def refuse(now: int, _name: str, step: int = step) -> None:
            if now == step:
                raise OSError(errno.EIO, "refused")

        disk = QuickDisk(refuse)
        disk.part = 7
        try:
            load(folder_fd, tmp_path, disk=disk)
        except LogError:
            path = tmp_path / "log" / KEY_FILE
            assert not path.exists() or path.stat().st_size == 32
            assert load(folder_fd, tmp_path).kept_by == "file"
        else:
            assert disk.step < step
            return


# ---- with the ledger


def test_a_state_moves_from_the_file_to_the_credential(tmp_path: Path, credential: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
    with opened(tmp_path / "log") as ledger:
        assert ledger.kept_by == "file"
        ledger.append("maintenance", {"open": True})
    assert (tmp_path / "log" / KEY_FILE).exists()
    for _ in range(2):
        with opened(tmp_path / "log", environ=environ) as ledger:
            assert (ledger.kept_by, ledger.broken_off) == ("credential", "")
            assert not (tmp_path / "log" / KEY_FILE).exists()
            ledger.append("maintenance", {"open": True})
    assert len(verified(tmp_path / "log" / LEDGER)) == 4


def test_a_move_that_fails_at_any_step_is_made_the_next_time(tmp_path: Path, credential: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
    for step in range(1, 20):
        folder = tmp_path / str(step)
        with opened(folder) as ledger:
            ledger.append("maintenance", {"open": True})

        def refuse(now: int, _name: str, step: int = step) -> None:
            if now == step:
                raise OSError(errno.EIO, "refused")

        disk = QuickDisk(refuse)
        try:
            with opened(folder, environ=environ, disk=disk):
                pass
        except LogError:
            with opened(folder, environ=environ) as ledger:
                assert (ledger.head.n, ledger.broken_off) == (1, "")
        else:
            assert disk.step < step
            return


def test_another_credential_does_not_open_the_state(tmp_path: Path, credential: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
    with opened(tmp_path / "log", environ=environ):
        pass
    credential.write_bytes(os.urandom(40))
    with opened(tmp_path / "log", environ=environ) as ledger:
        assert ledger.broken_off == "state_lost"


# ---- recipients


def test_recipients_in_their_order(tmp_path: Path) -> None:
    paths = [write_recipient_pair(tmp_path, kid, 1)[1] for kid in ("department", "authority")]
    found = recipients_of(paths, 1)
    assert found == [
        (kid, load_recipient(path).public)
        for kid, path in zip(("department", "authority"), paths, strict=True)
    ]
    assert recipients_of([], 1) == []


def test_recipients_of_the_other_suite(tmp_path: Path) -> None:
    path = write_recipient_pair(tmp_path, "department", 2)[1]
    assert len(recipients_of([path], 2)[0][1]) == 65
    with pytest.raises(KeyFileError, match="suite 2, the log is kept in suite 1"):
        recipients_of([path], 1)


def test_a_recipient_twice(tmp_path: Path) -> None:
    path = write_recipient_pair(tmp_path, "department", 1)[1]
    with pytest.raises(KeyFileError, match="comes twice"):
        recipients_of([path, path], 1)


def test_a_recipient_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.jwk").write_text("{}")
    with pytest.raises(KeyFileError):
        recipients_of([tmp_path / "x.jwk"], 1)
