"""The units, held to the table of processes and to systemd's own opinion of them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.core.plan import Recorder
from agent.processes import BY_NAME, GROUP, PROCESSES, Process, tmpfiles

FOLDER = Path(__file__).parents[1] / "systemd"
PLAN = "/etc/robot-warden/plan.toml"
TARGET = "robot-warden.target"

Unit = dict[str, dict[str, list[str]]]


def parse(path: Path) -> Unit:
    """Section -> key -> values in order. No unit of ours continues a line."""
    unit: Unit = {}
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            unit.setdefault(section, {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, f"{path.name}: {line}"
            unit[section].setdefault(key, []).append(value)
    return unit


def service(process: Process) -> dict[str, str]:
    """The [Service] section; a key that comes twice is a mistake."""
    section = parse(FOLDER / f"warden-{process.name}.service")["Service"]
    assert all(len(values) == 1 for values in section.values())
    return {key: values[0] for key, values in section.items()}


def milliseconds(span: str) -> int:
    return int(span.removesuffix("ms")) if span.endswith("ms") else int(span.removesuffix("s")) * 1000


def table(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def name(process: Process) -> str:
    return process.name


each = pytest.mark.parametrize("process", PROCESSES, ids=name)


def test_every_row_has_a_unit_and_every_unit_a_row_and_the_target_wants_them_all() -> None:
    units = {f"warden-{process.name}.service" for process in PROCESSES}
    assert {path.name for path in FOLDER.glob("*.*") if path.is_file()} == units | {TARGET}
    target = parse(FOLDER / TARGET)
    assert set(target["Unit"]["Wants"][0].split()) == units
    assert target["Install"]["WantedBy"] == ["multi-user.target"]


@each
def test_a_unit_runs_its_module_as_its_user(process: Process) -> None:
    unit = service(process)
    assert unit["ExecStart"] == f"/usr/bin/warden run {process.name} --config {PLAN}"
    assert unit["User"] == process.user
    assert unit["Group"] == GROUP
    assert tuple(unit.get("SupplementaryGroups", "").split()) == process.groups


@each
def test_the_watchdog_and_the_restart_are_the_tables(process: Process) -> None:
    unit = service(process)
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    assert milliseconds(unit["WatchdogSec"]) == process.watchdog_s * 1000
    assert unit["WatchdogSignal"] == "SIGKILL"  # SIGSTOP would hold up any other one
    assert unit["Restart"] == "always"
    assert milliseconds(unit["RestartSec"]) == process.restart_delay_ms
    assert parse(FOLDER / f"warden-{process.name}.service")["Unit"]["StartLimitIntervalSec"] == ["0"]


@each
def test_who_may_be_real_time_may_be_so_exactly_and_may_lock_its_memory(process: Process) -> None:
    unit = service(process)
    granted = unit.get("LimitRTPRIO"), unit.get("RestrictRealtime")
    assert granted == ((str(process.fifo_priority), None) if process.fifo_priority else (None, "yes"))
    assert process.fifo_priority == 0 or unit["LimitMEMLOCK"] == "infinity"


@each
def test_no_module_needs_another_and_all_stop_with_the_target(process: Process) -> None:
    unit = parse(FOLDER / f"warden-{process.name}.service")
    assert unit["Unit"]["PartOf"] == [TARGET]
    assert unit["Install"]["WantedBy"] == [TARGET]
    assert not {"Requires", "BindsTo", "Requisite", "Wants", "Before"} & set(unit["Unit"])
    assert not any("warden" in value for value in unit["Unit"].get("After", []))


@each
def test_no_module_is_given_a_right_that_it_does_not_need(process: Process) -> None:
    unit = service(process)
    for key in (
        *("NoNewPrivileges", "ProtectHome", "PrivateTmp", "ProtectKernelTunables", "ProtectKernelModules"),
        *("ProtectKernelLogs", "ProtectControlGroups", "RestrictNamespaces", "RestrictSUIDSGID"),
        "LockPersonality",
    ):
        assert unit[key] == "yes", key
    assert unit["ProtectSystem"] == "strict"
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ""
    assert (
        unit["ReadWritePaths"].split()
        == ["/run/warden", "/var/lib/warden"][: 1 if process.name == "monitor" else 2]
    )
    # Shared folders under these keys would be given to whichever user starts last.
    assert not {"RuntimeDirectory", "StateDirectory", "LogsDirectory", "CacheDirectory"} & set(unit)


def test_only_those_who_face_the_network_have_one() -> None:
    networked = {"remote", "monitor"}
    for process in PROCESSES:
        unit = service(process)
        families = set(unit["RestrictAddressFamilies"].split())
        internet = {"AF_INET", "AF_INET6"} if process.name in networked else set()
        assert families == {"AF_UNIX"} | internet
        assert unit.get("PrivateNetwork") == (None if process.name in networked else "yes")


@each
def test_titles_are_the_tables(process: Process) -> None:
    (description,) = parse(FOLDER / f"warden-{process.name}.service")["Unit"]["Description"]
    assert description == f"robot-warden {process.name}: {process.title_en} ({process.title_zh})"


def test_the_users_and_groups_are_those_of_the_table() -> None:
    rows = table(FOLDER / "sysusers.d" / "robot-warden.conf")
    assert {(row[1], row[2]) for row in rows if row[0] == "u"} == {
        (row.user, f"-:{GROUP}") for row in PROCESSES
    }
    groups = {group for process in PROCESSES for group in process.groups} | {GROUP}
    assert {row[1] for row in rows if row[0] == "g"} == groups


def test_the_folders_belong_to_root_but_for_the_log() -> None:
    rows = table(FOLDER / "tmpfiles.d" / "robot-warden.conf")
    assert [row[:5] for row in rows] == [
        ["d", "/etc/robot-warden", "0750", "root", GROUP],
        ["d", "/run/warden", "0755", "root", "root"],
        ["d", "/var/lib/warden", "0755", "root", "root"],
        ["d", "/var/lib/warden/log", "0700", "warden-recorder", GROUP],
    ]


def test_a_robots_own_folders_are_roots_sticky_and_as_the_example_says() -> None:
    lines = tmpfiles("ROBOT-ID", run_dir=Path("/run/warden"), state_dir=Path("/var/lib/warden"))
    example = (FOLDER / "tmpfiles.d" / "robot-warden.conf").read_text(encoding="utf-8").splitlines()
    written = [line.removeprefix("# ").split() for line in example if line.startswith("# d ")]
    assert [line.replace('"', "").split() for line in lines.splitlines()] == written
    for _, _, mode, user, group, *_ in written:
        assert (int(mode, 8) & 0o7770, user, group) == (0o3770, "root", GROUP)


def test_a_folder_with_a_strange_name_stays_one_field_and_no_specifier() -> None:
    line = tmpfiles("R", run_dir=Path('/a b/%i"\\'), state_dir=Path("/s")).splitlines()[0]
    assert line == 'd "/a b/%%i\\"\\\\/R" 3771 root warden - -'


STUBS = ("sysinit.target", "basic.target", "shutdown.target", "network.target", "multi-user.target")


def installed(tmp_path: Path) -> Path:
    """A root with our units, a `warden`, and the system's targets as empty ones: no host has a say."""
    units = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(FOLDER, units)
    for stub in STUBS:
        (units / stub).write_text(f"[Unit]\nDescription={stub}\n")
    program = tmp_path / "usr" / "bin" / "warden"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return installed(tmp_path)


def verify(root: Path) -> str:
    """What `systemd-analyze verify` has to say; a silent 0 is clean."""
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "systemd-analyze is missing: install systemd (make test does)"
    units = [TARGET, *(f"warden-{process.name}.service" for process in PROCESSES)]
    said = subprocess.run(
        [analyze, "verify", "--man=no", f"--root={root}", *units],
        cwd=root,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return said.stdout + said.stderr + (f"exit {said.returncode}" if said.returncode else "")


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    assert verify(root) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("WatchdogSec=", "WatchdogSecs="),
        ("LimitRTPRIO=50", "LimitRTPRIO=high"),
        ("@system-service", "@no-such-group"),
        ("/usr/bin/warden", "/usr/bin/no-such-program"),
    ],
)
def test_systemd_would_say_so(root: Path, right: str, wrong: str) -> None:
    """The check above can fail: each of these mistakes is heard of."""
    unit = root / "etc" / "systemd" / "system" / "warden-reflex.service"
    text = unit.read_text(encoding="utf-8")
    assert right in text
    unit.write_text(text.replace(right, wrong), encoding="utf-8")
    assert "warden-reflex.service" in verify(root)


def test_who_says_whether_the_clock_is_synchronised_may_ask() -> None:
    for name in ("monitor", "recorder"):
        unit = service(BY_NAME[name])
        assert "adjtimex" in unit["SystemCallFilter"].split()
        assert "ProtectClock" not in unit, "it forbids the question too"
        assert unit["CapabilityBoundingSet"] == ""


def test_the_recorders_keys_are_kept_out_of_swap_and_dumps_and_its_state_by_a_credential() -> None:
    unit = service(BY_NAME["recorder"])
    assert unit["LimitMEMLOCK"] == "infinity"
    assert unit["LimitCORE"] == "0"
    # Relative, so that a robot without the credential starts all the same (systemd.exec(5)).
    assert unit["LoadCredentialEncrypted"] == Recorder("", (), 190).state_credential
