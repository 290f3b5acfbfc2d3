"""A good plan, as the modules get it."""

import hashlib
from pathlib import Path

import pytest

import agent
from agent.config import load_plan
from agent.config.build import agent_digest
from agent.core.causes import MS, Clear, built_in_rows
from agent.core.envelope import WallTime, in_hours
from agent.core.plan import (
    Condition,
    DeviceSpec,
    Envelope,
    Identity,
    InputSpec,
    Monitor,
    OutputSpec,
    Plan,
    Recorder,
    Remote,
    Times,
    from_plain,
    to_plain,
)
from agent.core.responses import Response
from tests.config.plans import PROTOCOL_PLAN, Folder

HERE = PROTOCOL_PLAN.parent


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# ---- the example of PROTOCOL 8


@pytest.fixture(scope="module")
def protocol() -> Plan:
    return load_plan(PROTOCOL_PLAN, offline=True)


def test_the_protocol_s_plan_is_the_one_of_the_protocol(protocol: Plan) -> None:
    assert protocol.digest == hashlib.sha256(PROTOCOL_PLAN.read_bytes()).hexdigest()
    assert protocol.robot == Identity("FT-2024-0017", "福小安", "embodied", "high")
    assert (protocol.run_dir, protocol.state_dir) == ("/run/warden", "/var/lib/warden")
    assert protocol.link_uids == ()


def test_its_times_are_nanoseconds_and_what_is_left_out_has_its_default(
    protocol: Plan,
) -> None:
    assert protocol.times == Times(
        ttl_ns=100 * MS,
        ss1_ns=800 * MS,
        still_ns=1500 * MS,
        beat_timeout_ns=200 * MS,
        peer_timeout_ns=100 * MS,
        telemetry_stale_ns=1000 * MS,
        start_grace_ns=3000 * MS,
        recorder_lost_ns=10_000 * MS,
    )


def test_its_inputs_and_outputs(protocol: Plan) -> None:
    assert list(protocol.inputs) == ["estop", "bumper", "front_range"]
    bumper = protocol.inputs["bumper"]
    assert bumper == InputSpec(
        bumper.device,
        contact=True,
        discrepancy_ns=50 * MS,
        debounce_ns=20 * MS,
        proof_cycle=True,
    )
    assert holds(bumper.device, "serial_node", port="/dev/ttyUSB0", baud=115200, stale_ms=50, bit=1)
    front = protocol.inputs["front_range"]
    assert not front.contact
    assert holds(front.device, "modbus", port="/dev/ttyUSB1", unit=3, register=12, scale=0.001)
    relay_b = protocol.outputs["relay_b"]
    assert relay_b == OutputSpec(relay_b.device, "remote", 300 * MS)
    assert holds(relay_b.device, "gpio", chip="/dev/gpiochip0", line=17)


def holds(device: DeviceSpec, driver: str, **settings: object) -> bool:
    """Whether a device has these settings; its driver may have more, with defaults."""
    return device.driver == driver and settings.items() <= device.settings.items()


def test_its_conditions_and_rows(protocol: Plan) -> None:
    assert protocol.conditions == (
        Condition("estop_pressed", "estop", "", "open", 0.0, 0),
        Condition("bumper_hit", "bumper", "", "open", 0.0, 0),
        Condition("too_close", "front_range", "", "below", 0.5, 40 * MS),
        Condition("over_speed", "", "speed_mps", "above", 1.2, 100 * MS),
    )
    assert set(protocol.rows) == set(built_in_rows("high")) | {"estop_pressed", "bumper_hit", "too_close"}
    estop = protocol.rows["estop_pressed"]
    assert (estop.response, estop.clear) == (Response.EMERGENCY_STOP, Clear.RESET_AND_RESUME)
    assert (estop.zh, estop.en) == ("急停按钮被按下", "Emergency stop pressed")
    close = protocol.rows["too_close"]
    assert (close.response, close.clear, close.hold_off_ns) == (Response.HOLD, Clear.AUTO, 2000 * MS)
    assert (close.zh, close.en) == ("too_close", "too_close")
    speed = protocol.rows["over_speed"]
    assert (speed.response, speed.clear) == (Response.SAFE_MODE, Clear.RESUME)
    assert (speed.zh, speed.en) == ("超速", "Over speed")


def test_its_envelope(protocol: Plan) -> None:
    assert protocol.envelope == Envelope(
        area=((0.0, 0.0), (40.0, 0.0), (40.0, 25.0), (0.0, 25.0)),
        hours=((510, 1080),),
        days=(0, 1, 2, 3, 4),
        timezone="Asia/Shanghai",
        max_speed_mps=1.0,
        restricted_speed_permille=300,
        tasks=("guide", "patrol", "charge"),
    )


def test_its_paths_are_of_its_folder(protocol: Plan) -> None:
    assert protocol.remote == Remote(
        host="broker.futian.example",
        port=8883,
        tls=True,
        protocol="5",
        ca=str(HERE / "ca.crt"),
        cert=str(HERE / "robot.crt"),
        key=str(HERE / "robot.key"),
        signing_key=str(HERE / "robot.ed25519.pem"),
        root_keys=(str(HERE / "department-root.jwk"),),
        trust=str(HERE / "trust.jwt"),
        groups=("hall",),
        link_lost_ns=5000 * MS,
    )
    recipients = (str(HERE / "department.x25519.jwk"), str(HERE / "authority.x25519.jwk"))
    assert protocol.recorder == Recorder(
        dir="/var/lib/warden/log",
        recipients=recipients,
        retention_days=190,
        suite=1,
        opening="any",
        witnesses=(),
        compress=("safety", "net", "tele"),
        segment_bytes=8 * 1024 * 1024,
        segment_hours=24,
        checkpoint_ns=300_000 * MS,
        incident_before_ns=30_000 * MS,
        incident_after_ns=10_000 * MS,
        state_credential="warden-ledger",
    )
    assert protocol.monitor == Monitor("127.0.0.1:9477", "", "", "")


def test_it_travels_to_the_modules_as_it_is(protocol: Plan) -> None:
    assert from_plain(type(protocol), to_plain(protocol)) == protocol


def test_it_names_the_agent_that_checked_it(protocol: Plan) -> None:
    assert protocol.agent_version == agent.__version__
    assert protocol.agent_digest == agent_digest()
    assert len(agent_digest()) == 64


# ---- a plan on its robot


def test_a_plan_whose_every_file_and_port_is_there(folder: Folder) -> None:
    plan = folder.load()
    assert plan.run_dir == str(folder.folder / "run")
    assert plan.recorder.dir == str(folder.folder / "state" / "log")
    assert plan.outputs["relay_a"].device.settings["port"] == str(folder.folder / "tty0")


def test_the_digest_is_of_the_file_s_bytes(folder: Folder) -> None:
    before = folder.load().digest
    after = folder.with_more("# a comment\n").load().digest
    assert before != after == hashlib.sha256(folder.path.read_bytes()).hexdigest()


@pytest.mark.parametrize("risk", ["high", "medium", "low"])
def test_the_risk_class_sets_what_is_left_out(folder: Folder, risk: str) -> None:
    plan = folder.replaced('name = "福小安"', f'name = "福小安"\nrisk = "{risk}"').load()
    built_in = built_in_rows(risk)
    assert {key: row for key, row in plan.rows.items() if key in built_in} == built_in


def test_high_is_the_risk_class_of_a_plan_that_names_none(folder: Folder) -> None:
    assert folder.load().robot.risk == "high"


def test_users_are_names_or_numbers(folder: Folder) -> None:
    plan = folder.replaced(
        'state_dir = "state"', 'state_dir = "state"\nlink_uids = ["root", 1000, "7"]'
    ).load()
    assert plan.link_uids == (0, 1000, 7)


def test_a_built_in_may_be_made_stricter_or_reworded(folder: Folder) -> None:
    plan = folder.with_more(
        """
[[condition]]
id = "link_lost"
response = "emergency_stop"
clear = "auto"
hold_off_ms = 5000
text.en = "No network"

[[condition]]
id = "clock_jump"
response = "hold"
"""
    ).load()
    lost = plan.rows["link_lost"]
    assert (lost.response, lost.clear, lost.hold_off_ns) == (Response.EMERGENCY_STOP, Clear.AUTO, 5000 * MS)
    assert (lost.zh, lost.en) == ("No network", "No network")
    jump = plan.rows["clock_jump"]
    assert (jump.response, jump.clear, jump.zh) == (Response.HOLD, Clear.AUTO, "系统时钟跳变")
    assert [c.cause for c in plan.conditions] == ["estop_pressed"]


def test_a_built_in_may_be_down_to_its_floor(folder: Folder) -> None:
    folder.replaced('name = "福小安"', 'name = "福小安"\nrisk = "low"')
    plan = folder.with_more('[[condition]]\nid = "telemetry_stale"\nresponse = "warn"\n').load()
    assert plan.rows["telemetry_stale"].response == Response.WARN


def test_a_built_in_may_be_tested_for_too(folder: Folder) -> None:
    plan = folder.with_more(
        '[[condition]]\nid = "over_speed"\ntelemetry = "wheel_mps"\nabove = 2\n'
        '[[condition]]\nid = "over_speed"\ntelemetry = "gps_mps"\nabove = 2.5\nfor_ms = 7\n'
    ).load()
    assert plan.conditions[1:] == (
        Condition("over_speed", "", "wheel_mps", "above", 2.0, 0),
        Condition("over_speed", "", "gps_mps", "above", 2.5, 7 * MS),
    )
    assert plan.rows["over_speed"] == built_in_rows("high")["over_speed"]


def test_a_bound_may_be_zero(folder: Folder) -> None:
    plan = folder.with_more(
        '[[condition]]\nid = "frost"\ntelemetry = "temp_c"\nbelow = 0\nresponse = "warn"\n'
        '[[condition]]\nid = "thaw"\ntelemetry = "temp_c"\nabove = 0\nresponse = "warn"\n'
    ).load()
    assert [(c.test, c.bound) for c in plan.conditions[1:]] == [("below", 0.0), ("above", 0.0)]


@pytest.mark.parametrize(
    ("text", "zh", "en"),
    [
        ('text.zh = "急停"\ntext.en = "E-stop"', "急停", "E-stop"),
        ('text.zh = "急停"', "急停", "急停"),
        ('text.en = "E-stop"', "E-stop", "E-stop"),
        ("text = {}", "estop_pressed", "estop_pressed"),
    ],
)
def test_a_language_left_out_shows_the_other(folder: Folder, text: str, zh: str, en: str) -> None:
    plan = folder.replaced('is = "open"', f'is = "open"\n{text}').load()
    assert (plan.rows["estop_pressed"].zh, plan.rows["estop_pressed"].en) == (zh, en)


def test_a_cause_of_the_plan_s_own_waits_for_a_resume_unless_it_says_otherwise(folder: Folder) -> None:
    assert folder.load().rows["estop_pressed"].clear == Clear.RESUME


def test_the_other_module_s_time_is_the_permit_s_unless_it_has_its_own(folder: Folder) -> None:
    assert folder.load().times.peer_timeout_ns == 100 * MS
    plan = folder.replaced("ttl_ms = 100", "ttl_ms = 100\npeer_timeout_ms = 60").load()
    assert plan.times.peer_timeout_ns == 60 * MS


def test_hours_to_the_end_of_the_day_and_over_midnight(folder: Folder) -> None:
    folder.replaced("max_speed_mps = 1.0", 'hours = ["22:00-06:00", "12:00-24:00"]')
    envelope = folder.load().envelope
    assert envelope.hours == ((1320, 360), (720, 1440))
    assert in_hours(envelope, WallTime(0, 1439))
    assert not in_hours(envelope, WallTime(0, 7 * 60))


@pytest.mark.parametrize(
    ("broker", "host", "port", "tls"),
    [
        ("mqtts://broker.example", "broker.example", 8883, True),
        ("mqtts://broker.example:1", "broker.example", 1, True),
        ("mqtts://10.0.0.1:65535", "10.0.0.1", 65535, True),
        ("mqtts://[fd00::1]:8884", "fd00::1", 8884, True),
        ("mqtt://localhost", "localhost", 1883, False),
        ("mqtt://127.0.0.1:7000", "127.0.0.1", 7000, False),
        ("mqtt://[::1]:1884", "::1", 1884, False),
    ],
)
def test_the_broker_s_address(folder: Folder, broker: str, host: str, port: int, tls: bool) -> None:
    remote = folder.replaced("mqtts://broker:8883", broker).load().remote
    assert remote is not None
    assert (remote.host, remote.port, remote.tls) == (host, port, tls)


def test_a_broker_on_loopback_needs_no_certificates(folder: Folder) -> None:
    folder.replaced("mqtts://broker:8883", "mqtt://localhost")
    folder.replaced('ca = "ca.crt"\ncert = "robot.crt"\nkey = "robot.key"\n', "")
    remote = folder.load().remote
    assert remote is not None
    assert (remote.ca, remote.cert, remote.key) == ("", "", "")


@pytest.mark.parametrize(("quantity", "contact"), [("", True), ('quantity = "range_m"', False)])
def test_an_input_without_a_quantity_is_a_contact_whatever_its_driver(
    folder: Folder, quantity: str, contact: bool
) -> None:
    test = 'is = "open"' if contact else "below = 0.5"
    plan = folder.with_more(
        f"""
[inputs.try]
driver = "sim"
{quantity}
[[condition]]
id = "tried"
input = "try"
{test}
response = "hold"
"""
    ).load(offline=True)
    assert plan.inputs["try"].contact == contact


def test_inputs_may_look_at_one_line_and_gpio_lines_of_one_chip_may_be_shared_out(folder: Folder) -> None:
    gpio = 'driver = "gpio"\nchip = "gpiochip0"\nline'
    plan = folder.with_more(
        f"""
[inputs.again]
driver = "serial_node"
port = "tty0"
bit = 0

[inputs.door]
{gpio} = 1

[outputs.horn]
channel = "reflex"
{gpio} = 2

[outputs.lamp]
channel = "remote"
{gpio} = 3
"""
    ).load(offline=True)
    assert set(plan.outputs) == {"relay_a", "relay_b", "horn", "lamp"}


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("reflex", {"tty0", "root.jwk", "trust.jwt"}),
        (
            "remote",
            {"tty1", "root.jwk", "trust.jwt", "robot.pem", "ca.crt", "robot.crt", "robot.key"},
        ),
        ("recorder", {"department.jwk"}),
    ],
)
def test_a_module_looks_only_at_what_it_opens(folder: Folder, module: str, needed: set[str]) -> None:
    for file in folder.folder.iterdir():
        if file.name not in needed:
            file.unlink()
    assert folder.load(module=module).robot.id == "FT-1"
    for name in needed:
        (folder.folder / name).unlink()
    problems = folder.refused(offline=False, module=module).problems
    assert {Path(problem.bound.split()[0]).name for problem in problems} == needed
