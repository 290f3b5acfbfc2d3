"""A plan that is refused: before anything starts, in one line that names file, key and bound."""

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import Problem
from agent.core.causes import EVENTS, FIXED_CLEAR
from drivers import registry
from tests.config.plans import SECRET, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


CHANGES: list[tuple[str, str, str, str]] = [
    # (passage, what takes its place, key, part of the bound)
    # ---- unknown keys, on every level
    ("schema = 1", "schema = 1\ncolour = 1", "colour", "unknown key"),
    ("schema = 1", "schema = 1\n[horn]\nloud = true", "horn", "unknown key"),
    ('id = "FT-1"', 'id = "FT-1"\ncolour = "red"', "robot.colour", "unknown key"),
    ("ttl_ms = 100", "ttl_s = 1", "times.ttl_s", "unknown key"),
    ("bit = 0", "bit = 0\ncolour = 1", "inputs.estop.colour", "unknown key"),
    ("bit = 0", "bit = 0\ndebounce_s = 1", "inputs.estop.debounce_s", "unknown key"),
    ('channel = "reflex"', 'channel = "reflex"\nbit = 0', "outputs.relay_a.bit", "unknown key"),
    ('is = "open"', 'is = "open"\nfor_s = 1', "condition.0.for_s", "unknown key"),
    ('is = "open"', 'is = "open"\ntext.fr = "arrêt"', "condition.0.text.fr", "unknown key"),
    ("max_speed_mps = 1.0", "max_speed_kmh = 3.6", "envelope.max_speed_kmh", "unknown key"),
    ('ca = "ca.crt"', 'ca = "ca.crt"\npassword = "x"', "remote.password", "unknown key"),
    ("[recorder]", "[recorder]\nretention_s = 1", "recorder.retention_s", "unknown key"),
    ("[monitor]", "[monitor]\nport = 9477", "monitor.port", "unknown key"),
    # ---- missing keys
    ("schema = 1", "", "schema", "missing key"),
    ('id = "FT-1"\n', "", "robot.id", "missing key"),
    ('name = "福小安"\n', "", "robot.name", "missing key"),
    ("bit = 0\n", "", "inputs.estop.bit", "is missing; it must be a whole number from 0 to 15"),
    ('channel = "reflex"\n', "", "outputs.relay_a.channel", "missing key"),
    ('id = "estop_pressed"\n', "", "condition.0.id", "missing key"),
    ('broker = "mqtts://broker:8883"\n', "", "remote.broker", "missing key"),
    ('signing_key = "robot.pem"\n', "", "remote.signing_key", "missing key"),
    ('trust = "trust.jwt"\n', "", "remote.trust", "missing key"),
    ('root_keys = ["root.jwk"]\n', "", "remote.root_keys", "missing key"),
    ('ca = "ca.crt"\n', "", "remote.ca", "missing key"),
    ('cert = "robot.crt"\n', "", "remote.cert", "go together"),
    ('key = "robot.key"\n', "", "remote.cert", "go together"),
    ("[monitor]", '[monitor]\ntls_cert = "robot.crt"', "monitor.tls_cert", "go together"),
    # ---- out of bounds, on both sides where there are two
    ("schema = 1", "schema = 2", "schema", "1 (got 2)"),
    ("ttl_ms = 100", "ttl_ms = 19", "times.ttl_ms", "greater than or equal to 20 (got 19)"),
    ("ttl_ms = 100", "ttl_ms = 1001", "times.ttl_ms", "less than or equal to 1000 (got 1001)"),
    ("ttl_ms = 100", "ttl_ms = 0.5", "times.ttl_ms", "valid integer"),
    ("ttl_ms = 100", "ttl_ms = inf", "times.ttl_ms", "finite number"),
    ("ttl_ms = 100", "ss1_ms = -1", "times.ss1_ms", "greater than or equal to 0 (got -1)"),
    ("ttl_ms = 100", "ss1_ms = 60001", "times.ss1_ms", "less than or equal to 60000"),
    ("ttl_ms = 100", "still_ms = 49", "times.still_ms", "greater than or equal to 50"),
    ("ttl_ms = 100", "beat_timeout_ms = 19", "times.beat_timeout_ms", "greater than or equal to 20"),
    ("ttl_ms = 100", "peer_timeout_ms = 1001", "times.peer_timeout_ms", "less than or equal to 1000"),
    ("bit = 0", "bit = 16", "inputs.estop.bit", "must be a whole number from 0 to 15, is 16"),
    ("bit = 0", 'bit = "0"', "inputs.estop.bit", "must be a whole number from 0 to 15, is '0'"),
    ("bit = 0", "bit = 0\ndebounce_ms = 1001", "inputs.estop.debounce_ms", "less than or equal to 1000"),
    ("bit = 0", "bit = 0\ndiscrepancy_ms = 0", "inputs.estop.discrepancy_ms", "greater than or equal to 1"),
    ("bit = 0", "bit = 0\nstale_ms = 19", "inputs.estop.stale_ms", "from 20 to 1000, is 19"),
    ('is = "open"', 'is = "open"\nfor_ms = -1', "condition.0.for_ms", "greater than or equal to 0"),
    ("max_speed_mps = 1.0", "max_speed_mps = 0", "envelope.max_speed_mps", "greater than 0"),
    ("max_speed_mps = 1.0", "max_speed_mps = nan", "envelope.max_speed_mps", "finite number"),
    ("max_speed_mps = 1.0", "restricted_speed_permille = 1001", "envelope.restricted_speed_permille", "1000"),
    ("max_speed_mps = 1.0", "area = [[0,0],[1,1]]", "envelope", "`area` needs 3 to 100 corners"),
    ("max_speed_mps = 1.0", "area = [[0,0],[1,1],[nan,0]]", "envelope.area.2.0", "finite number"),
    ("max_speed_mps = 1.0", 'hours = ["8-18"]', "envelope.hours.0", "pattern"),
    ("max_speed_mps = 1.0", 'hours = ["24:00-06:00"]', "envelope.hours.0", "pattern"),
    ("max_speed_mps = 1.0", 'hours = ["08:00-08:00"]', "envelope.hours", "must end at another time"),
    ("max_speed_mps = 1.0", 'days = ["monday"]', "envelope.days.0", "'mon', 'tue'"),
    ("max_speed_mps = 1.0", 'tasks = ["a b"]', "envelope.tasks.0", "pattern"),
    ('root_keys = ["root.jwk"]', "root_keys = []", "remote.root_keys", "at least 1 item"),
    ('trust = "trust.jwt"', 'trust = "trust.jwt"\nlink_lost_s = 0', "remote.link_lost_s", "greater than 0"),
    ('trust = "trust.jwt"', 'trust = "trust.jwt"\nprotocol = "4"', "remote.protocol", "'5' or '3.1.1'"),
    ("[recorder]", "[recorder]\nretention_days = 189", "recorder.retention_days", "equal to 190 (got 189)"),
    # ---- words
    ('id = "FT-1"', 'id = "FT 1"', "robot.id", "pattern"),
    ('id = "FT-1"', f'id = "{"x" * 65}"', "robot.id", "pattern"),
    ('id = "FT-1"', 'id = "../../etc"', "robot.id", "pattern"),
    ('name = "福小安"', 'name = ""', "robot.name", "at least 1 character"),
    ('id = "FT-1"', 'id = "FT-1"\nkind = "car"', "robot.kind", "'embodied', 'humanoid' or 'virtual'"),
    ('id = "FT-1"', 'id = "FT-1"\nrisk = "none"', "robot.risk", "'high', 'medium' or 'low'"),
    ('response = "emergency_stop"', 'response = "stop"', "condition.0.response", "'emergency_stop'"),
    ('response = "emergency_stop"', 'response = "suspend"', "condition.0.response", "'emergency_stop'"),
    ('is = "open"', 'is = "pressed"', "condition.0.is", "'open', 'closed', 'stale' or 'fault'"),
    ('is = "open"', 'is = "open"\nclear = "never"', "condition.0.clear", "'reset_and_resume'"),
    ('id = "estop_pressed"', 'id = "E-Stop"', "condition.0.id", "pattern"),
    ('run_dir = "run"', 'run_dir = ""', "robot.run_dir", "pattern"),
    ('trust = "trust.jwt"', 'trust = "a\\u0000b"', "remote.trust", "pattern"),
    ("127.0.0.1:0", "9477", "monitor.listen", "pattern"),
    ("127.0.0.1:0", "everywhere :1", "monitor.listen", "pattern"),
    # ---- users
    ("[times]", "link_uids = [-1]\n[times]", "robot.link_uids", "names of users, or their numbers"),
    ("[times]", 'link_uids = [""]\n[times]', "robot.link_uids", "names of users, or their numbers"),
    ("[times]", 'link_uids = ["²"]\n[times]', "robot.link_uids", "names of users, or their numbers"),
    ("[times]", 'link_uids = ["a\\u0000b"]\n[times]', "robot.link_uids", "names of users, or their numbers"),
    # ---- drivers
    (
        'driver = "serial_node"\nport = "tty0"\nbit',
        'driver = "smoke"\nport = "tty0"\nbit',
        "inputs.estop.driver",
        "unknown; known are ",
    ),
    (
        'channel = "remote"\ndriver = "serial_node"',
        'channel = "remote"\ndriver = "modbus"',
        "outputs.relay_b.driver",
        "cannot be an output",
    ),
    ('port = "tty0"\nbit = 0', 'port = ""\nbit = 0', "inputs.estop.port", "a path of 1 to 255 characters"),
    # ---- conditions
    ('input = "estop"', 'input = "e-stop"', "condition.estop_pressed.input", "no input is named 'e-stop'"),
    ('input = "estop"\n', "", "condition.0", "exactly one of `input` and `telemetry`"),
    ('input = "estop"', 'input = "estop"\ntelemetry = "x"', "condition.0", "exactly one of `input` and"),
    ('is = "open"\n', "", "condition.0", "exactly one of `is`, `above` and `below`"),
    ('is = "open"', 'is = "open"\nabove = 1', "condition.0", "exactly one of `is`, `above` and `below`"),
    ('input = "estop"', 'telemetry = "x"', "condition.0", "`is` is for inputs"),
    ('response = "emergency_stop"\n', "", "condition.0", "needs `response`"),
    ('is = "open"', 'is = "open"\nhold_off_ms = 5', "condition.0", '`hold_off_ms` goes with clear = "auto"'),
    ('is = "open"', "above = 1", "condition.estop_pressed.above", "'estop' is a contact"),
    ('is = "open"', "below = 1", "condition.estop_pressed.below", "'estop' is a contact"),
    # ---- time zone
    (
        "max_speed_mps = 1.0",
        'hours = ["00:00-24:00"]\ntimezone = "Asia/Nowhere"',
        "envelope.timezone",
        "'Asia/Nowhere'",
    ),
    (
        "max_speed_mps = 1.0",
        'days = ["mon"]\ntimezone = "../../etc/passwd"',
        "envelope.timezone",
        "no time zone",
    ),
    ("max_speed_mps = 1.0", 'days = ["mon"]\ntimezone = ""', "envelope.timezone", "no time zone"),
]


@pytest.mark.parametrize(("old", "new", "key", "bound"), CHANGES)
def test_one_thing_wrong_is_one_line_with_its_key_and_its_bound(
    folder: Folder, old: str, new: str, key: str, bound: str
) -> None:
    found_key, found_bound = folder.replaced(old, new).problem()
    assert found_key == key
    assert bound in found_bound


def test_everything_wrong_is_told_at_once(folder: Folder) -> None:
    folder.replaced("ttl_ms = 100", "ttl_ms = 5").replaced('id = "FT-1"', "").replaced("bit = 0", "bit = -1")
    assert {problem.key for problem in folder.refused().problems} == {"times.ttl_ms", "robot.id"}


def test_both_of_two_bad_devices_are_told(folder: Folder) -> None:
    folder.replaced("bit = 0", "bit = -1").replaced('channel = "remote"', 'channel = "remote"\nbaud = 1')
    keys = [problem.key for problem in folder.refused().problems]
    assert keys == ["inputs.estop.bit", "outputs.relay_b.baud"]


# ---- the broker


@pytest.mark.parametrize(
    ("broker", "bound"),
    [
        ("broker:8883", "must be mqtts://host:port"),
        ("https://broker", "must be mqtts://host:port"),
        ("mqtts://", "must be mqtts://host:port"),
        ("mqtts://broker:", "must be mqtts://host:port"),
        ("mqtts://broker:port", "must be mqtts://host:port"),
        ("mqtts://broker:²", "must be mqtts://host:port"),
        ("mqtts://user@broker", "must be mqtts://host:port"),
        ("mqtts://broker/path", "must be mqtts://host:port"),
        ("mqtts://bro ker", "must be mqtts://host:port"),
        ("mqtts://fd00::1", "must be mqtts://host:port"),
        ("mqtts://broker:123456", "must be mqtts://host:port"),
        ("mqtts://broker:0", "a port from 1 to 65535"),
        ("mqtts://broker:65536", "a port from 1 to 65535"),
        ("mqtt://broker", "without TLS is only for loopback"),
        ("mqtt://10.0.0.1:1883", "without TLS is only for loopback"),
        ("mqtt://localhost.example", "without TLS is only for loopback"),
        ("mqtt://[fd00::1]", "without TLS is only for loopback"),
    ],
)
def test_a_broker_nobody_should_speak_to(folder: Folder, broker: str, bound: str) -> None:
    key, found = folder.replaced("mqtts://broker:8883", broker).problem()
    assert key == "remote.broker"
    assert bound in found


# ---- lines and devices


def test_two_outputs_on_one_line(folder: Folder) -> None:
    key, bound = (
        folder.replaced('channel = "remote"', 'channel = "reflex"').replaced('"tty1"', '"tty0"').problem()
    )
    assert key == "outputs.relay_b"
    assert bound.startswith("same line as outputs.relay_a: ")
    assert "tty0 relay" in bound


def test_two_outputs_on_one_line_under_two_names(folder: Folder) -> None:
    """A link under another name leads to the same relay."""
    (folder.folder / "by-id").symlink_to(folder.folder / "tty0")
    folder.replaced('channel = "remote"', 'channel = "reflex"').replaced('"tty1"', '"./by-id"')
    key, bound = folder.problem()
    assert (key, bound.partition(":")[0]) == ("outputs.relay_b", "same line as outputs.relay_a")


GPIO = 'driver = "gpio"\nchip = "gpiochip0"\nline = 4\n'


def test_an_output_on_an_input_s_line(folder: Folder) -> None:
    folder.with_more(f'[outputs.horn]\nchannel = "remote"\n{GPIO}[inputs.door]\n{GPIO}')
    key, bound = folder.problem()
    assert key == "outputs.horn"
    assert bound.startswith("same line as inputs.door")


def test_one_device_in_both_channels(folder: Folder) -> None:
    folder.replaced('"tty1"', '"tty0"')
    problems = folder.refused().problems
    assert Problem("outputs.relay_b", problems[-1].bound) == problems[-1]
    assert "belongs to reflex (inputs.estop); each channel needs its own" in problems[-1].bound


def test_one_port_with_two_drivers(folder: Folder) -> None:
    folder.with_more(
        '[inputs.range]\ndriver = "modbus"\nport = "tty0"\nunit = 1\nregister = 1\nquantity = "range_m"\n'
    )
    key, bound = folder.problem()
    assert key == "inputs.range.driver"
    assert "is a serial_node already (inputs.estop)" in bound


def test_one_device_with_two_speeds(folder: Folder) -> None:
    key, bound = folder.replaced('channel = "reflex"', 'channel = "reflex"\nbaud = 57600').problem()
    assert key == "outputs.relay_a.baud"
    assert bound == "must be 115200 as in inputs.estop: they are one device"


@pytest.mark.parametrize("test", ['is = "open"', 'is = "closed"'])
def test_a_contact_s_test_on_a_quantity(folder: Folder, test: str) -> None:
    folder.with_more(
        '[inputs.range]\ndriver = "modbus"\nport = "tty9"\nunit = 1\nregister = 1\nquantity = "range_m"\n'
        f'[[condition]]\nid = "near"\ninput = "range"\n{test}\nresponse = "hold"\n'
    )
    key, bound = folder.problem()
    assert key == "condition.near.is"
    assert "'range' measures range_m" in bound


# ---- causes


def with_cause(folder: Folder, cause: str, *lines: str) -> Folder:
    return folder.with_more("\n".join(["[[condition]]", f'id = "{cause}"', *lines, ""]))


def test_two_conditions_of_one_id(folder: Folder) -> None:
    row = ('telemetry = "temp_c"', "above = 60", 'response = "hold"')
    with_cause(with_cause(folder, "hot", *row), "hot", *row)
    assert folder.problem() == ("condition.hot", "two conditions have this id")


@pytest.mark.parametrize(
    ("risk", "cause", "response", "floor"),
    [
        ("high", "robot_gone", "hold", "safe_mode"),
        ("medium", "tampered", "safe_mode", "emergency_stop"),
        ("low", "peer_lost", "hold", "safe_mode"),
        ("low", "guardian_stop", "restrict", "hold"),
        ("high", "over_speed", "warn", "hold"),
        ("high", "starting", "warn", "hold"),
        ("low", "retired", "emergency_stop", "retire"),
    ],
)
def test_a_response_below_the_floor(folder: Folder, risk: str, cause: str, response: str, floor: str) -> None:
    folder.replaced('id = "FT-1"', f'id = "FT-1"\nrisk = "{risk}"')
    key, bound = with_cause(folder, cause, f'response = "{response}"').problem()
    assert key == f"condition.{cause}.response"
    assert bound == f"{response} is below the floor of this risk class, {floor}"


@pytest.mark.parametrize("cause", sorted(FIXED_CLEAR))
def test_a_clear_condition_that_is_fixed(folder: Folder, cause: str) -> None:
    key, bound = with_cause(folder, cause, 'clear = "auto"').problem()
    assert key == f"condition.{cause}.clear"
    assert bound.startswith("is fixed: ")


@pytest.mark.parametrize("cause", sorted(EVENTS))
def test_a_person_s_stop_never_ends_by_itself(folder: Folder, cause: str) -> None:
    key, bound = with_cause(folder, cause, 'clear = "auto"').problem()
    assert key == f"condition.{cause}.clear"
    assert bound == "cannot be auto: a person must end this stop"


# ---- what only the robot knows


def test_a_port_that_does_not_exist(folder: Folder) -> None:
    (folder.folder / "tty1").unlink()
    key, bound = folder.problem(offline=False)
    assert key == "outputs.relay_b.port"
    assert bound == f"{folder.folder / 'tty1'} does not exist"


def test_a_port_whose_name_is_too_long_for_any_file(folder: Folder) -> None:
    key, bound = folder.replaced('"tty1"', f'"{"福" * 200}"').problem(offline=False)
    assert key == "outputs.relay_b.port"
    assert bound.endswith("does not exist")


def test_a_driver_that_is_not_built_in(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(registry.DRIVERS["gpio"], factory=None)
    monkeypatch.setattr(registry, "DRIVERS", {**registry.DRIVERS, "gpio": bare})
    folder.with_more(f"[inputs.door]\n{GPIO}")
    key, bound = folder.problem(offline=False)
    assert key == "inputs.door.driver"
    assert bound == "'gpio' is not built into this version"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o601, 0o610])
@pytest.mark.parametrize(("name", "key"), [("robot.pem", "remote.signing_key"), ("robot.key", "remote.key")])
def test_a_key_file_others_can_read(folder: Folder, name: str, key: str, mode: int) -> None:
    path = folder.folder / name
    path.chmod(mode)
    found, bound = folder.problem(offline=False)
    assert found == key
    assert bound == f"{path} has mode {mode:04o}; others can read it: chmod 600 {path}"


def test_files_that_are_no_secret_may_be_read(folder: Folder) -> None:
    for path in folder.folder.iterdir():
        if path.name not in SECRET:
            path.chmod(0o644)
    assert folder.load().robot.id == "FT-1"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("robot.pem", "remote.signing_key"),
        ("trust.jwt", "remote.trust"),
        ("root.jwk", "remote.root_keys"),
        ("ca.crt", "remote.ca"),
        ("robot.crt", "remote.cert"),
        ("robot.key", "remote.key"),
        ("department.jwk", "recorder.recipients"),
    ],
)
def test_a_file_that_is_not_there(folder: Folder, name: str, key: str) -> None:
    (folder.folder / name).unlink()
    found, bound = folder.problem(offline=False)
    assert found == key
    assert bound == f"{folder.folder / name} cannot be read: No such file or directory"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_key_file_that_is_no_file_is_not_even_opened(folder: Folder, make: Callable[[Path], None]) -> None:
    """Opening a pipe would wait for somebody to write into it."""
    path = folder.folder / "robot.pem"
    path.unlink()
    make(path)
    assert not stat.S_ISREG(path.stat().st_mode)
    assert folder.problem(offline=False) == ("remote.signing_key", f"{path} is not a file")


def test_a_user_that_does_not_exist(folder: Folder) -> None:
    folder.replaced("[times]", 'link_uids = ["root", "nobody-at-all"]\n[times]')
    assert folder.problem(offline=False) == (
        "robot.link_uids",
        "no user is named 'nobody-at-all' on this machine",
    )
    assert folder.load(offline=True).link_uids == ()
