"""Files that others may have written or read are refused."""

import os
from pathlib import Path

import pytest

from drivers.adapters import trusted
from drivers.adapters.trusted import MAX_SECRET, TrustError, check_owned, check_program, read_secret


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir(0o755)
    return executable(folder / "cut")


def executable(path: Path, content: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_a_program_of_our_own_is_taken(program: Path) -> None:
    check_program(str(program))
    check_program("/bin/sh")


def test_a_program_that_others_may_write_is_refused(program: Path) -> None:
    for mode in (0o775, 0o757):
        program.chmod(mode)
        with pytest.raises(TrustError, match="cut can be written by others") as caught:
            check_program(str(program))
        assert (caught.value.path, caught.value.reason) == (str(program), "can be written by others")


def test_a_folder_that_others_may_write_is_refused_unless_sticky(program: Path) -> None:
    program.parent.chmod(0o777)
    with pytest.raises(TrustError, match="bin can be written by others"):
        check_program(str(program))
    program.parent.chmod(0o1777)
    check_program(str(program))


def test_every_link_on_the_way_counts(program: Path, tmp_path: Path) -> None:
    """The link is ours, what it leads through is not."""
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "folder").symlink_to(program.parent)
    link = tmp_path / "cut"
    link.symlink_to("loose/../loose/folder/cut")
    check_program(str(link))
    loose.chmod(0o777)
    with pytest.raises(TrustError, match="loose can be written by others"):
        check_program(str(link))


def test_links_that_go_in_circles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(TrustError, match="leads through too many links"):
        check_program(str(tmp_path / "a"))


def test_what_belongs_to_another_user_is_refused(program: Path, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=f"belongs to user {os.getuid()}"):
        check_owned(str(program), program.stat(), {os.getuid() + 1})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "cannot be run: No such file or directory"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: executable(path, mode=0o644), "is not executable"),
        (lambda path: os.mkfifo(path, 0o755), "is not a file"),
    ],
)
def test_what_is_no_program(tmp_path: Path, make: object, words: str) -> None:
    assert callable(make)
    make(tmp_path / "cut")
    with pytest.raises(TrustError) as caught:
        check_program(str(tmp_path / "cut"))
    assert caught.value.reason == words


# --------------------------------------------------------------------------------------------------- secrets


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("words", ["s3cret", "!~", "x" * (MAX_SECRET - 2)])
def test_a_secret_is_one_line(secret: Path, words: str, end: str) -> None:
    secret.write_text(words + end, newline="")
    assert read_secret(str(secret)) == words


def test_the_longest_secret(secret: Path) -> None:
    secret.write_text("x" * MAX_SECRET)
    assert read_secret(str(secret)) == "x" * MAX_SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_secret_that_others_may_open_is_refused(secret: Path, mode: int) -> None:
    secret.write_text("s3cret")
    secret.chmod(mode)
    with pytest.raises(TrustError, match="may be opened by others: chmod 600 it"):
        read_secret(str(secret))


@pytest.mark.parametrize(
    "content", ["", "\n", "two words", "two\nlines", "r\u00e4tsel", "x" * (MAX_SECRET + 1)]
)
def test_what_could_break_a_header_is_refused_and_not_repeated(secret: Path, content: str) -> None:
    secret.write_text(content, "utf-8")
    with pytest.raises(TrustError, match="must hold one line") as caught:
        read_secret(str(secret))
    assert not content.strip() or content not in str(caught.value)


def test_a_secret_of_another_user_is_refused(secret: Path) -> None:
    found = list(secret.stat())
    found[4] = os.geteuid() + 4711
    with pytest.raises(TrustError, match=f"belongs to user {os.geteuid() + 4711}"):
        trusted._check_private(str(secret), os.stat_result(found))


def test_a_secret_that_is_no_file(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "No such file"), (tmp_path, "is not a file")):
        with pytest.raises(TrustError, match=words):
            read_secret(str(path))
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(TrustError, match="is not a file"):
        read_secret(str(tmp_path / "fifo"))
