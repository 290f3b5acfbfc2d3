"""A plan that reads over Modbus and from the robot: what `reflex` gets of it, and what it loads for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.plan import Plan, to_plain
from tests.config.plans import Folder

MORE = """
[inputs.range]
driver = "modbus"
host = "192.0.2.7"
unit = 1
register = 12
quantity = "range_m"
plausible_max = 30.0
stuck_after_s = 10

[inputs.gate]
driver = "modbus"
host = "192.0.2.7"
unit = 1
table = "discrete"
register = 4
channels = 2

[inputs.battery]
driver = "robot_link"
key = "battery_pct"
quantity = "battery_pct"

[inputs.arm_home]
driver = "robot_link"
key = "arm_home"
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Folder(tmp_path).with_more(MORE).load(offline=True)


def test_a_contact_is_one_and_a_quantity_is_one(plan: Plan) -> None:
    found = {name: plan.inputs[name].contact for name in ("range", "gate", "battery", "arm_home")}
    assert found == {"range": False, "gate": True, "battery": False, "arm_home": True}
    assert plan.inputs["range"].limits.highest == 30.0
    assert plan.inputs["range"].device.settings["port"] == ""


@pytest.mark.parametrize(
    ("names", "loaded"),
    [(["battery", "arm_home"], False), (["range", "gate"], True), (["battery", "gate"], True)],
)
def test_pymodbus_is_loaded_only_for_modbus(plan: Plan, names: list[str], loaded: bool) -> None:
    """And pydantic for none of it."""
    specs = {name: to_plain(plan.inputs[name].device) for name in names}
    script = (
        "import json, sys\n"
        "from agent.core.plan import DeviceSpec\n"
        "from drivers.registry import build_devices\n"
        "from tests.drivers.telemetry.rig import LinkedHost\n"
        "specs = {name: DeviceSpec(**spec) for name, spec in json.loads(sys.argv[1]).items()}\n"
        "build_devices(specs, {}, LinkedHost())\n"
        "print('pymodbus' in sys.modules, 'pydantic' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, json.dumps(specs)], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{loaded} False\n"
