"""What systemd would hear, on a real datagram socket."""

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening supervisor and the NOTIFY_SOCKET that names it."""
    name = str(tmp_path / "notify") if request.param == "path" else "@" + secrets.token_hex(8)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.setblocking(False)
        yield sock, name


def heard(sock: socket.socket) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(sock.recv(65536))
        except BlockingIOError:
            return packets


def test_each_word_arrives_as_one_datagram(supervisor: tuple[socket.socket, str]) -> None:
    sock, name = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.ready()
    assert notifier.status("急停 emergency stop\nREADY=0  since 12:00 ")
    assert notifier.stopping()
    assert heard(sock) == [
        b"READY=1",
        "STATUS=急停 emergency stop READY=0 since 12:00".encode(),  # one line: no second assignment
        b"STOPPING=1",
    ]
    notifier.close()
    notifier.close()
    assert not notifier.ready()
    assert heard(sock) == []


def test_a_long_status_is_cut(supervisor: tuple[socket.socket, str]) -> None:
    sock, name = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.status("x" * 100_000)
    assert heard(sock) == [b"STATUS=" + b"x" * 256]
    notifier.close()


def test_the_watchdog_is_pinged_four_times_an_interval_at_most(supervisor: tuple[socket.socket, str]) -> None:
    sock, name = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.watchdog_interval_s == 0.4
    sent = [now_ms for now_ms in range(1000, 1400, 10) if notifier.watchdog(now_ms * 1_000_000)]
    assert sent == [1000, 1100, 1200, 1300]
    assert heard(sock) == [b"WATCHDOG=1"] * 4
    notifier.close()


def test_the_watchdog_reads_the_clock_itself_where_no_time_is_given(
    supervisor: tuple[socket.socket, str],
) -> None:
    sock, name = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3600000000"})
    assert [notifier.watchdog(), notifier.watchdog()] == [True, False]
    assert heard(sock) == [b"WATCHDOG=1"]
    notifier.close()


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "1e6"},
        {"WATCHDOG_USEC": "٣"},
        {"WATCHDOG_USEC": "9" * 5000},
        {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "mine"},
    ],
)
def test_no_interval_no_ping(supervisor: tuple[socket.socket, str], watchdog: dict[str, str]) -> None:
    sock, name = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": name} | watchdog)
    assert notifier.watchdog_interval_s is None
    assert not notifier.watchdog(1_000_000_000)
    assert heard(sock) == []
    notifier.close()


@pytest.mark.parametrize(
    "name", ["", "@", "relative/path", "vsock:2:1", "/no/such/supervisor", "/" + "x" * 300]
)
def test_nobody_to_tell_is_no_error(name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"})
    told = [notifier.ready(), notifier.watchdog(1), notifier.stopping(), notifier.status("x")]
    assert told == [False] * 4
    notifier.close()


def test_the_environment_of_the_process_is_read_by_default(
    supervisor: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sock, name = supervisor
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    notifier = Notifier()
    assert notifier.ready()
    assert heard(sock) == [b"READY=1"]
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not Notifier().ready()
    notifier.close()


def test_a_supervisor_that_does_not_read_never_holds_us_up_and_hears_the_watchdog_again_later(
    supervisor: tuple[socket.socket, str],
) -> None:
    sock, name = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"})
    filled = next(count for count in range(100_000) if not notifier.ready())
    assert filled > 0
    assert not notifier.watchdog(1_000_000_000)  # refused, so it stays due
    assert len(heard(sock)) == filled
    assert notifier.watchdog(1_000_000_001)
    notifier.close()


def test_a_process_without_descriptors_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", no_socket)
    assert not Notifier({"NOTIFY_SOCKET": "/run/systemd/notify"}).ready()
