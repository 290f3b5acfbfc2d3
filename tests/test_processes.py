"""The table of processes: complete, consistent, and denying what no row permits."""

import os
import pwd

import pytest

from agent import processes
from agent.processes import BY_NAME, PROCESSES, STATUS_ROLE, allowed_uids, may_claim, may_send

ROLES = [*BY_NAME, STATUS_ROLE]
USERS = {process.user: 7000 + number for number, process in enumerate(PROCESSES)}
OWN, STRANGER = 1234, 4321


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has every user of the table, and ourselves as none of them."""

    def getpwnam(name: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", USERS[name], 7000, "", "/", "/sbin/nologin"))

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    monkeypatch.setattr(os, "geteuid", lambda: OWN)


def test_the_four_modules_each_have_one_row_and_a_user_of_their_own() -> None:
    assert [process.name for process in PROCESSES] == ["reflex", "remote", "recorder", "monitor"]
    assert len({process.user for process in PROCESSES}) == len(PROCESSES)
    sockets = [process.socket for process in PROCESSES if process.socket is not None]
    assert len(set(sockets)) == len(sockets)


def test_every_row_is_filled_in() -> None:
    for process in PROCESSES:
        assert process.title_zh
        assert process.title_en
        assert process.may
        assert process.must_never
        assert process.user == f"warden-{process.name}"
        assert 0 <= process.fifo_priority <= 99
        assert process.watchdog_s > 0
        assert process.restart_delay_ms > 0


def test_the_local_stop_comes_before_the_remote_one_and_both_before_the_rest() -> None:
    priorities = [BY_NAME[name].fifo_priority for name in ("reflex", "remote", "recorder", "monitor")]
    assert priorities == [50, 40, 0, 0]
    assert [process.freeze_collector for process in PROCESSES] == [True, True, False, False]


def test_peers_are_known_roles_that_say_hello_and_nobody_calls_a_process_without_a_socket() -> None:
    for process in PROCESSES:
        assert set(process.peers) <= set(ROLES) - {process.name}
        assert all("hello" in types for types in process.peers.values())
        assert bool(process.peers) == (process.socket is not None)


PERMITTED = {
    ("reflex", "remote"): {"hello", "state", "beat", "command"},
    ("reflex", "monitor"): {"hello", "metrics"},
    ("reflex", "status"): {"hello", "status"},
    ("remote", "monitor"): {"hello", "metrics"},
    ("remote", "status"): {"hello", "status"},
    ("recorder", "reflex"): {"hello", "event", "sample"},
    ("recorder", "remote"): {"hello", "event", "witness_ack"},
    ("recorder", "monitor"): {"hello", "event", "metrics"},
    ("recorder", "status"): {"hello", "status", "log_due", "log_delete", "log_hold", "log_release"},
    ("monitor", "status"): {"hello", "status"},
}


def test_what_may_be_sent_is_this_and_nothing_else() -> None:
    types = {"hello", "state", "beat", "command", "metrics", "status", "event", "resume", "witness_ack", ""}
    types |= {"sample", "log_due", "log_delete", "log_hold", "log_release"}
    for process in BY_NAME:
        for role in [*ROLES, "", "robot"]:
            permitted = {kind for kind in types if may_send(process, role, kind)}
            assert permitted == PERMITTED.get((process, role), set()), (process, role)


def test_the_table_cannot_be_changed_by_those_who_read_it() -> None:
    peers = BY_NAME["reflex"].peers
    with pytest.raises(TypeError):
        peers["robot"] = frozenset({"command"})  # type: ignore[index]


@pytest.mark.usefixtures("installed")
def test_a_role_is_claimed_by_its_own_user_by_root_and_by_ourselves_only() -> None:
    for role in BY_NAME:
        allowed = {uid for uid in [*USERS.values(), OWN, 0, STRANGER] if may_claim(role, uid)}
        assert allowed == {USERS[f"warden-{role}"], OWN, 0}


@pytest.mark.usefixtures("installed")
def test_status_is_claimed_by_root_and_ourselves_only() -> None:
    assert {uid for uid in [*USERS.values(), OWN, 0, STRANGER] if may_claim(STATUS_ROLE, uid)} == {OWN, 0}


@pytest.mark.usefixtures("installed")
def test_an_unknown_role_is_claimed_by_nobody() -> None:
    assert not any(may_claim(role, uid) for role in ("", "robot", "warden-reflex") for uid in (0, OWN))


@pytest.mark.usefixtures("installed")
def test_allowed_uids_are_those_of_the_named_processes() -> None:
    assert allowed_uids(["remote", "monitor"]) == {OWN, 0, USERS["warden-remote"], USERS["warden-monitor"]}
    assert allowed_uids([]) == {OWN, 0}


def test_users_that_the_system_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def getpwnam(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    assert allowed_uids(BY_NAME) == {os.geteuid(), 0}


def test_a_process_without_a_row_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        allowed_uids(["robot"])
    with pytest.raises(KeyError):
        may_send("robot", "remote", "hello")
    assert processes.GROUP == "warden"
