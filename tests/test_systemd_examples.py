"""Rights that adapters may need: examples that grant what is asked for, no more, and nobody anything yet."""

import re
import shutil
from pathlib import Path

import pytest

from agent.processes import PROCESSES
from drivers.adapters.systemd import ACTIONS, SYSTEMD
from tests.test_systemd import FOLDER, installed, parse, service, verify

EXAMPLES = FOLDER / "examples"
DROP_IN = EXAMPLES / "warden-reflex.service.d" / "50-process-adapter.conf"
RULES = EXAMPLES / "polkit-1" / "rules.d" / "50-robot-warden.rules"
VERBS = {
    "FreezeUnit": "freeze",
    "ThawUnit": "thaw",
    "StopUnit": "stop",
    "KillUnit": "kill",
    "SetUnitProperties": "set-property",
}
"""What systemd calls each method when it asks polkit (src/core/dbus-unit.c)."""


def test_no_example_is_installed_by_what_the_readme_says() -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert "install -m 644 systemd/*.service systemd/*.target /etc/systemd/system/" in readme
    assert not list(FOLDER.glob("*.service.d")), "systemd would read a drop-in beside the units"
    for example in (DROP_IN, RULES):
        assert example.relative_to(FOLDER.parent).as_posix() in readme


def test_the_process_adapter_is_granted_signals_and_nothing_else() -> None:
    unit = parse(DROP_IN)
    assert unit == {"Service": {"CapabilityBoundingSet": ["CAP_KILL"], "AmbientCapabilities": ["CAP_KILL"]}}
    (reflex,) = (process for process in PROCESSES if process.name == "reflex")
    assert service(reflex)["CapabilityBoundingSet"] == "", (
        "set empty there, so that a drop-in adds to nothing"
    )


def test_what_reads_another_user_s_processes_must_be_asked_for_by_hand() -> None:
    lines = DROP_IN.read_text(encoding="utf-8").splitlines()
    assert "#AmbientCapabilities=CAP_SYS_PTRACE" in lines
    assert not any("PTRACE" in line for line in lines if not line.startswith("#"))


def test_systemd_finds_nothing_wrong_with_the_drop_in(tmp_path: Path) -> None:
    root = installed(tmp_path)
    folder = root / "etc" / "systemd" / "system" / DROP_IN.parent.name
    folder.mkdir()
    shutil.copy(DROP_IN, folder)
    assert verify(root) == ""
    wrong = DROP_IN.read_text(encoding="utf-8").replace("AmbientCapabilities", "AmbientCapability")
    (folder / DROP_IN.name).write_text(wrong, encoding="utf-8")
    assert DROP_IN.name in verify(root), "the drop-in is looked at"


def rule() -> str:
    """The rule without its comments."""
    return re.sub(r"//[^\n]*", "", RULES.read_text(encoding="utf-8"))


def test_the_rule_grants_what_the_systemd_adapter_asks_for() -> None:
    calls = [call for action in ACTIONS.values() for call in action.orders("model-server.service")]
    assert {call.destination for call in calls} == {SYSTEMD}
    (listed,) = re.findall(r"var verbs = \[(.*?)\]", rule(), re.DOTALL)
    assert set(re.findall(r'"([a-z-]+)"', listed)) == {VERBS[call.member] for call in calls}


@pytest.mark.parametrize(
    "condition",
    [
        'action.id == "org.freedesktop.systemd1.manage-units"',
        "subject.user == user",
        'action.lookup("unit") == unit',
        'verbs.indexOf(action.lookup("verb")) >= 0',
    ],
)
def test_the_rule_asks_for_all_of_them_at_once(condition: str) -> None:
    (asked,) = re.findall(r"if \((.*?)\) \{\s*return polkit\.Result\.YES", rule(), re.DOTALL)
    assert condition in [part.strip() for part in asked.split("&&")]
    assert "||" not in asked
    assert rule().count("polkit.Result.YES") == 1


def test_the_rule_names_a_user_of_the_table() -> None:
    (user,) = re.findall(r'var user = "([a-z-]+)"', rule())
    assert user in {process.user for process in PROCESSES if process.name in {"reflex", "remote"}}
