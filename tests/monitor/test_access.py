"""Basic authentication and TLS files: what is right gets in, what is wrong is refused by name."""

import base64
import ssl
from pathlib import Path

import pytest

from agent.monitor.access import GUESS_EVERY_NS, BasicAuth, Tls, hash_password
from agent.monitor.errors import MonitorError
from tests.monitor.certificates import make_certificate


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1

    def __call__(self) -> int:
        return self.now_ns


def header(user: str, password: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def password_file(folder: Path, line: str, mode: int = 0o600) -> Path:
    path = folder / "password"
    path.write_text(line)
    path.chmod(mode)
    return path


@pytest.fixture(scope="module")
def line() -> str:
    return hash_password("prometheus", "pass:wörd")


def test_the_right_password_is_let_in_in_any_spelling_of_the_scheme(tmp_path: Path, line: str) -> None:
    auth = BasicAuth(password_file(tmp_path, line), Clock())
    assert auth.allows(header("prometheus", "pass:wörd"))
    assert BasicAuth(tmp_path / "password", Clock()).allows(header("prometheus", "pass:wörd", "BASIC"))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Bearer abc",
        header("prometheus", "pass:word"),
        header("prometheus", ""),
        header("other", "pass:wörd"),
        header("", ""),
    ],
)
def test_anything_else_is_not(tmp_path: Path, line: str, wrong: str | None) -> None:
    assert not BasicAuth(password_file(tmp_path, line), Clock()).allows(wrong)


def test_guesses_are_computed_four_times_a_second_and_the_known_scraper_passes_between_them(
    tmp_path: Path, line: str
) -> None:
    clock = Clock()
    auth = BasicAuth(password_file(tmp_path, line), clock)
    right = header("prometheus", "pass:wörd")
    assert auth.allows(right)
    assert not auth.allows(header("prometheus", "guess 1"))
    assert auth.allows(right)
    stranger = BasicAuth(tmp_path / "password", clock)
    assert not stranger.allows(header("prometheus", "guess 2"))
    assert not stranger.allows(right)  # not computed: too soon after a guess
    clock.now_ns += GUESS_EVERY_NS
    assert stranger.allows(right)


def test_two_files_for_one_password_have_nothing_in_common(line: str) -> None:
    again = hash_password("prometheus", "pass:wörd")
    assert again.rsplit(":", 2)[0] == line.rsplit(":", 2)[0] == "prometheus:scrypt:16384:8:1"
    assert not set(again.rsplit(":", 2)[1:]) & set(line.rsplit(":", 2)[1:])


@pytest.mark.parametrize("user", ["", "a:b", "a\nb"])
def test_a_user_name_that_would_break_the_file_is_refused(user: str) -> None:
    with pytest.raises(ValueError, match="user name"):
        hash_password(user, "x")


SALT, HASH = base64.b64encode(b"s" * 16).decode(), base64.b64encode(b"h" * 32).decode()


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "prometheus:secret",
        f":scrypt:16384:8:1:{SALT}:{HASH}",
        f"u:md5:16384:8:1:{SALT}:{HASH}",
        f"u:scrypt:x:8:1:{SALT}:{HASH}",
        f"u:scrypt:16384:8:1:*:{HASH}",
        f"u:scrypt:16384:8:1:{SALT}:aGk=",
        f"u:scrypt:16383:8:1:{SALT}:{HASH}",  # not a power of two
        f"u:scrypt:{2**30}:8:1:{SALT}:{HASH}",  # a terabyte
        f"u:scrypt:{2**70}:8:1:{SALT}:{HASH}",
        f"u:scrypt:-2:8:1:{SALT}:{HASH}",
        f"u:scrypt:0:8:1:{SALT}:{HASH}",
        f"u:scrypt:16384:0:1:{SALT}:{HASH}",
        f"u:scrypt:16384:8:0:{SALT}:{HASH}",
        f"u:scrypt:16384:8:999:{SALT}:{HASH}",
        f"u:scrypt:16384:8:1:A:{HASH}",
        f"u:scrypt:16384:8:1:{SALT}:{HASH}:more",
        "x" * 100_000,
    ],
)
def test_a_broken_password_file_is_named_and_not_quoted(tmp_path: Path, broken: str) -> None:
    path = password_file(tmp_path, broken)
    with pytest.raises(MonitorError, match="is not one line user:scrypt") as caught:
        BasicAuth(path, Clock())
    assert caught.value.subject == str(path)
    assert HASH not in str(caught.value)


def test_a_password_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(MonitorError, match="is not one line"):
        BasicAuth(path, Clock())


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644])
def test_a_password_file_that_others_may_use_is_refused(tmp_path: Path, line: str, mode: int) -> None:
    with pytest.raises(MonitorError, match="others may use it"):
        BasicAuth(password_file(tmp_path, line, mode), Clock())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="No such file") as caught:
        BasicAuth(tmp_path / "no", Clock())
    assert caught.value.subject.endswith("no")
    tmp_path.chmod(0o700)
    with pytest.raises(MonitorError, match="Is a directory"):
        BasicAuth(tmp_path, Clock())


def test_a_certificate_and_its_key_make_a_context(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    context = Tls(cert, key).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_tls_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other_key = make_certificate(tmp_path / "other")
    with pytest.raises(MonitorError, match="not a certificate that fits"):
        Tls(cert, other_key).context()
    with pytest.raises(MonitorError, match="No such file"):
        Tls(cert, tmp_path / "no.key").context()
    with pytest.raises(MonitorError, match="not a certificate that fits"):
        Tls(tmp_path / "no.crt", other_key).context()


def test_a_key_that_others_read_is_refused(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    key.chmod(0o644)
    with pytest.raises(MonitorError, match="others may use it"):
        Tls(cert, key).context()


def test_an_encrypted_key_is_an_error_and_not_a_question(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, password=b"secret")
    with pytest.raises(MonitorError, match="not a certificate that fits"):
        Tls(cert, key).context()
