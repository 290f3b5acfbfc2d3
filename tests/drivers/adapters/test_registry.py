"""The table of adapters: what a plan may say of each, and what gets built from it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.adapters import registry
from drivers.adapters.registry import ADAPTERS, MAX_ARGS
from drivers.base import DriverError, SettingsError
from tests.descriptors import open_descriptors
from tests.drivers.adapters.rig import Desk

GOOD: dict[str, dict[str, object]] = {
    "link": {},
    "process": {"find": "pid_file", "path": "/run/robot.pid", "exe": "/opt/robot/bin/robot", "user": "root"},
    "systemd": {"unit": "robot.service"},
    "http": {"url": "https://192.0.2.7:8443/v1/stop"},
    "command": {"program": "/usr/local/sbin/cut-power"},
}
"""The least a plan must say of each."""
ARGS: dict[str, dict[str, object]] = {
    "link": {"model": "voice", "fade_ms": 20, "parts": ["arm"]},
    "process": {"action": "freeze"},
    "systemd": {"action": "cut_network"},
    "http": {},
    "command": {},
}
KINDS = sorted(ADAPTERS)


def checked(kind: str, **changes: object) -> dict[str, object]:
    return registry.check_adapter(kind, {**GOOD[kind], **changes})


def refusal(kind: str, **changes: object) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        checked(kind, **changes)
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_kinds() -> None:
    assert KINDS == ["command", "http", "link", "process", "systemd"]
    assert sorted(GOOD) == sorted(ARGS) == KINDS
    assert all(kind == row.kind for kind, row in ADAPTERS.items())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_checked_is_plain_data_and_checks_again(kind: str) -> None:
    settings = checked(kind)
    assert settings.items() >= GOOD[kind].items()
    assert settings["grace_ms"] == 1000
    assert json.loads(json.dumps(settings)) == settings
    assert registry.check_adapter(kind, settings) == settings


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_checked_for_its_type(kind: str) -> None:
    for key in checked(kind):
        for wrong in ({"a": 1}, [[1]], b"x"):
            error = refusal(kind, **{key: wrong})
            assert error.key == key
            assert error.bound.startswith("must be ")


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_is_refused(kind: str) -> None:
    error = refusal(kind, colour="red")
    assert error.key == "colour"
    assert error.bound == f"unknown key; known are {', '.join(checked(kind))}"


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in KINDS for key in GOOD[kind]])
def test_a_missing_key_is_named(kind: str, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        registry.check_adapter(kind, {name: value for name, value in GOOD[kind].items() if name != key})
    assert caught.value.key == key


@pytest.mark.parametrize("grace_ms", [-1, 10_001, "5", 5.5, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_grace_is_bounded(kind: str, grace_ms: object) -> None:
    error = refusal(kind, grace_ms=grace_ms)
    assert error.bound == f"must be a whole number from 0 to 10000, is {grace_ms!r}"


def test_an_unknown_kind_is_refused() -> None:
    for check in (registry.check_adapter, registry.check_args):
        with pytest.raises(SettingsError, match="unknown; known are command, http, link, process, systemd"):
            check("telepathy", {})


# -------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        *(
            (kind, key, path)
            for kind, key in (
                ("process", "path"),
                ("process", "exe"),
                ("systemd", "bus"),
                ("command", "program"),
            )
            for path in (
                "",
                "/",
                "x",
                "./x",
                "/a/../b",
                "/a/./b",
                "/a//b",
                "/a/",
                "/a\n",
                "/a\0",
                "/" + "x" * 255,
            )
        ),
        ("process", "find", "name"),
        ("process", "user", ""),
        ("process", "user", "-1"),
        ("process", "user", -1),
        ("process", "user", "a\tb"),
        ("process", "user", "x" * 65),
        ("process", "user", None),
        ("process", "exe", None),
        ("process", "newer_ok", "yes"),
        ("systemd", "unit", "robot"),
        ("systemd", "unit", "robot.socket"),
        ("systemd", "unit", "../robot.service"),
        ("systemd", "unit", "robot service.service"),
        ("systemd", "unit", ".service"),
        ("systemd", "unit", "x" * 250 + ".service"),
        *(
            ("systemd", "unit", name)
            for name in (
                "warden-reflex.service",
                "robot-warden.slice",
                "init.scope",
                "-.slice",
                "system.slice",
                "user.slice",
                "dbus.service",
                "dbus-broker.service",
                "systemd-journald.service",
            )
        ),
        *(
            ("http", "url", url)
            for url in (
                "ftp://192.0.2.7/",
                "http://",
                "https:///x",
                "https://user@192.0.2.7/",
                "https://192.0.2.7/#x",
                "https://192.0.2.7/a b",
                "https://192.0.2.7/a\r\nX: y",
                "https://192.0.2.7\\@evil/",
                "https://192.0.2.7:0/",
                "https://192.0.2.7:99999/",
                "https://192.0.2.7:x/",
                "https://[::1/",
                "https://" + "x" * 2000,
            )
        ),
        ("http", "method", "TRACE"),
        ("http", "body", "{"),
        ("http", "body", "[" * 4000),
        ("http", "body", '"' + "x" * 4095 + '"'),
        ("http", "status", 199),
        ("http", "status", 600),
        ("http", "field", ""),
        ("http", "answer_limit", 262_145),
        ("http", "secret_header", "X-A: b"),
        ("http", "server_name", "a/b"),
        ("command", "args", "-f"),
        ("command", "args", [5]),
        ("command", "args", ["a\0b"]),
        ("command", "args", ["x" * 1025]),
        ("command", "args", ["x"] * 33),
    ],
)
def test_what_no_plan_may_say(kind: str, key: str, value: object) -> None:
    assert refusal(kind, **{key: value}).key == key


def test_a_value_goes_with_its_field() -> None:
    assert checked("http", field="a.b", value=0)["value"] == 0
    for value in (True, "x", 1.5):
        assert checked("http", field="a", value=value)["value"] == value
    assert refusal("http", field="a").key == "value"
    assert refusal("http", value=1).key == "value"
    for value in (float("nan"), float("inf")):
        assert refusal("http", field="a", value=value).key == "value"


def test_a_secret_never_crosses_a_network_in_the_clear() -> None:
    secret = {"secret_file": "/etc/robot-warden/token"}
    for url in ("https://192.0.2.7/", "http://127.0.0.1:8080/", "http://[::1]/"):
        checked("http", url=url, **secret)
    for url in ("http://192.0.2.7/", "http://localhost/", "http://127.0.0.1.evil.example/"):
        error = refusal("http", url=url, **secret)
        assert (error.key, "loopback" in error.bound) == ("secret_file", True)
    error = refusal("http", tls_verify=False, **secret)
    assert (error.key, "true with a secret_file" in error.bound) == ("tls_verify", True)
    assert checked("http", tls_verify=False)["tls_verify"] is False


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"find": "cgroup", "path": "/sys/fs/cgroup/robot.slice"}, None),
        ({"find": "cgroup", "path": "/run/robot"}, "path"),
        ({"find": "cgroup", "path": "/sys/fs/cgroup/x", "exe": "/bin/x"}, "exe"),
        ({"find": "cgroup", "path": "/sys/fs/cgroup/x", "user": 5}, "user"),
        ({"find": "exe", "path": "/bin/x", "user": 1000}, None),
        ({"find": "exe", "path": "/bin/x", "user": "robot"}, None),
        ({"find": "exe", "path": "/bin/x"}, "user"),
        ({"find": "exe", "path": "/bin/x", "exe": "/bin/x", "user": 5}, "exe"),
        ({"find": "pid_file", "path": "/run/x.pid", "user": 5}, "exe"),
        ({"find": "pid_file", "path": "/run/x.pid", "exe": "/bin/x"}, "user"),
    ],
)
def test_each_way_to_find_a_process_needs_its_own(settings: dict[str, object], key: str | None) -> None:
    if key is None:
        registry.check_adapter("process", settings)
        return
    with pytest.raises(SettingsError) as caught:
        registry.check_adapter("process", settings)
    assert caught.value.key == key


# ------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_of_a_step(kind: str) -> None:
    assert registry.check_args(kind, ARGS[kind]) == ARGS[kind]


@pytest.mark.parametrize(
    ("kind", "args", "key"),
    [
        ("process", {}, "action"),
        ("process", {"action": "cut_network"}, "action"),
        ("process", {"action": "freeze", "force": True}, "force"),
        ("systemd", {"action": "restart"}, "action"),
        ("http", {"x": 1}, "x"),
        ("command", {"args": ["-f"]}, "args"),
        ("link", {"x": "y" * MAX_ARGS}, "args"),
        ("link", {"x": float("nan")}, "args"),
    ],
)
def test_arguments_that_are_refused(kind: str, args: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        registry.check_args(kind, args)
    assert (caught.value.kind, caught.value.key) == (kind, key)


def test_the_actions_of_a_plan_are_those_that_are_built() -> None:
    from drivers.adapters import process, systemd

    for kind, actions in (("process", process.ACTIONS), ("systemd", systemd.ACTIONS)):
        for action in actions:
            registry.check_args(kind, {"action": action})
        with pytest.raises(SettingsError, match=f"one of {', '.join(actions)}, is"):
            registry.check_args(kind, {"action": "x"})


# ---------------------------------------------------------------------------------------- described, built


def test_describe_is_data_and_whole() -> None:
    rows = {row["kind"]: row for row in registry.describe()}
    assert json.loads(json.dumps(rows)) == rows
    assert sorted(rows) == KINDS
    for kind, row in rows.items():
        assert [field["key"] for field in row["settings"]] == sorted(
            checked(kind), key=[field["key"] for field in row["settings"]].index
        )
        assert all(each["takes"] and each["description"] for each in (*row["settings"], *row["args"]))
        assert {each["key"] for each in row["settings"] if each["required"]} <= GOOD[kind].keys()
        assert row["summary"]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_is_built_at_rest(kind: str) -> None:
    """Nothing is read, opened or asked before the first step."""
    changes = {"user": os.getuid()} if kind == "process" else {}
    before = open_descriptors()
    adapter = registry.build_adapter("voice", kind, checked(kind, **changes), Desk().around)
    assert adapter.name == f"{kind} voice"
    assert open_descriptors() == before
    adapter.close()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_kind_that_nobody_knows_stops_the_build() -> None:
    with pytest.raises(DriverError, match="driver 'telepathy' is no adapter, yet 'voice' asks for it"):
        registry.build_adapter("voice", "telepathy", {}, Desk().around)


def test_adapters_are_built_without_pydantic_and_without_each_other_s_libraries(tmp_path: Path) -> None:
    """`reflex` builds from checked settings, and carries only what its plan names."""
    script = (
        "import asyncio, sys, time\n"
        "from drivers.adapters.base import Surroundings\n"
        "from drivers.adapters.registry import build_adapter\n"
        "around = Surroundings(asyncio.new_event_loop(), time.monotonic_ns, print)\n"
        "build_adapter('robot', 'link', {'grace_ms': 0}, around)\n"
        "build_adapter('cut', 'command', {'grace_ms': 0, 'program': '/bin/true', 'args': []}, around)\n"
        "print(sorted({'pydantic', 'h11', 'jeepney'} & sys.modules.keys()))\n"
        "around.loop.close()\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
