"""The one table of processes: who each module is, how it is scheduled and watched, who may ask it what.

`warden run` starts processes from these rows, a test holds the systemd units to them, and each module's
link server refuses whatever message no row permits (STYLE, habits 4 and 8: all else is denied).
Standard library only: `reflex` imports this.
"""

import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

STATUS_ROLE = "status"
"""The role of `warden status`: not a process of the table, claimed by root or the module's own user."""

GROUP = "warden"
"""The group of every module's user: it may pass through the run folder, and nothing more."""


@dataclass(frozen=True, slots=True)
class Process:
    """One module of the agent.

    `fifo_priority`: 1 to 99 for SCHED_FIFO, 0 for the ordinary class. `watchdog_s`: systemd ends the
    process after this long without a whole turn of its loop. `restart_delay_ms`: between its end and its
    next start. `socket`: file name in the run folder, None where nobody connects to it. `peers`: role of a
    client of that socket -> the message types it may send. `groups`: device groups its user needs.
    """

    name: str
    title_zh: str
    title_en: str
    user: str
    fifo_priority: int
    freeze_collector: bool
    watchdog_s: float
    restart_delay_ms: int
    socket: str | None
    peers: Mapping[str, frozenset[str]]
    groups: tuple[str, ...]
    may: str
    must_never: str


def _peers(**types: str) -> Mapping[str, frozenset[str]]:
    """`remote="state beat"` as a read-only table; every role may say hello."""
    return MappingProxyType({role: frozenset(words.split()) | {"hello"} for role, words in types.items()})


PROCESSES: tuple[Process, ...] = (
    Process(
        name="reflex",
        title_zh="应激处置模块",
        title_en="stress response",
        user="warden-reflex",
        # Above remote: the local stop must not wait for a signature being verified (0.1 ms, DESIGN).
        fifo_priority=50,
        freeze_collector=True,
        # The robot stops by its permit after ttl (100 ms) already; this only brings the module back.
        # Longer than any starvation seen on a loaded host, so that a busy host is not taken for a hang.
        watchdog_s=1.0,
        restart_delay_ms=100,
        socket="reflex.sock",
        peers=_peers(remote="state beat command", monitor="metrics", status="status"),
        groups=("dialout", "gpio"),
        may="serial lines, GPIO, the robot link, its own latch file and permit",
        must_never="use the network; wait for anyone",
    ),
    Process(
        name="remote",
        title_zh="实时远程应急控制模块",
        title_en="remote emergency control",
        user="warden-remote",
        fifo_priority=40,
        freeze_collector=True,
        watchdog_s=2.0,
        restart_delay_ms=200,
        socket="remote.sock",
        # reflex is no client here: it listens, remote calls, so reflex never waits for a connection.
        peers=_peers(monitor="metrics", status="status"),
        groups=("dialout", "gpio"),
        may="the network, its own latch file, permit and output",
        must_never="touch sensors; release reflex",
    ),
    Process(
        name="recorder",
        title_zh="记录模块",
        title_en="sealed records",
        user="warden-recorder",
        fifo_priority=0,
        freeze_collector=False,
        # A sync to worn flash can take seconds; a recorder killed in the middle of one helps nobody.
        watchdog_s=20.0,
        restart_delay_ms=500,
        socket="recorder.sock",
        peers=_peers(
            reflex="event sample",
            remote="event witness_ack",
            monitor="event metrics",
            status="status log_due log_delete log_hold log_release",
        ),
        groups=(),
        may="the log folder, the sealing key",
        must_never="delay a sender",
    ),
    Process(
        name="monitor",
        title_zh="监测模块",
        title_en="health and metrics",
        user="warden-monitor",
        fifo_priority=0,
        freeze_collector=False,
        watchdog_s=10.0,
        restart_delay_ms=1000,
        socket="monitor.sock",
        peers=_peers(status="status"),
        groups=(),
        may="/proc, one TCP port",
        must_never="be needed for a stop",
    ),
)

BY_NAME: Mapping[str, Process] = MappingProxyType({process.name: process for process in PROCESSES})


def may_send(process: str, role: str, message_type: str) -> bool:
    """True when a client in `role` may send `message_type` to the socket of `process`."""
    return message_type in BY_NAME[process].peers.get(role, frozenset())


def may_claim(role: str, uid: int) -> bool:
    """True when a peer with this uid (SO_PEERCRED) may say hello as `role`.

    A module's role belongs to that module's user; `status` to nobody else than root and our own user,
    who may claim any role, since either could replace the process itself. Unknown roles: False.
    """
    if role != STATUS_ROLE and role not in BY_NAME:
        return False
    return uid in allowed_uids(() if role == STATUS_ROLE else (role,))


def allowed_uids(process_names: Iterable[str]) -> frozenset[int]:
    """Our own effective uid, root, and the uids of these processes' users as far as this system has them.

    On a developer's machine the users of the table do not exist and every process runs as one user.
    Raises KeyError for a name that is not in the table.
    """
    users = {BY_NAME[name].user for name in process_names}
    return frozenset({os.geteuid(), 0, *(uid for user in users for uid in _uid(user))})


def tmpfiles(robot_id: str, *, run_dir: Path, state_dir: Path) -> str:
    """The lines of /etc/tmpfiles.d that make one robot's folders (tmpfiles.d(5)).

    Root owns them and they are sticky: a module makes its own files there and cannot remove another's. The
    run folder (permits, sockets) can be passed through by anyone, as the robot's own user must.
    """
    folders = ((run_dir / robot_id, "3771"), (state_dir / robot_id, "3770"))
    return "".join(f"d {_quoted(path)} {mode} root {GROUP} - -\n" for path, mode in folders)


def _quoted(path: Path) -> str:
    """As tmpfiles.d reads it: `%` begins a specifier, a space ends the field."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def _uid(user: str) -> tuple[int, ...]:
    try:
        return (pwd.getpwnam(user).pw_uid,)
    except KeyError:
        return ()
