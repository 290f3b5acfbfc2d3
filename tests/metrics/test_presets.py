"""Every series whose labels are known beforehand exists from the start."""

from agent.core.responses import Response
from agent.metrics import (
    BAD_INPUT_SOURCES,
    BY_NAME,
    CHANNELS,
    CODES,
    COMMANDS,
    STAGES,
    Meter,
    Presets,
    preset_all,
)
from agent.metrics.presets import REACTION_PATHS, STREAMS, UNKNOWN_COMMAND
from agent.processes import PROCESSES
from agent.realtime import KINDS

PRESETS = Presets(
    robot_id="FT-2024-0017",
    version="0.1.0",
    digest="ab" * 32,
    causes={
        "estop_pressed": "emergency_stop",
        "bumper_hit": "safe_mode",
        "too_close": "hold",
        "slow": "restrict",
    },
    inputs=("estop", "bumper"),
    certificates=("robot", "ca"),
    sources=("/dev/ttyUSB0",),
)


def preset() -> dict[str, list[tuple[tuple[object, ...], object]]]:
    meter = Meter()
    preset_all(meter, PRESETS)
    table: dict[str, list[tuple[tuple[object, ...], object]]] = {}
    for name, rows in meter.snapshot().items():
        for labels, value in rows:
            assert isinstance(labels, list)
            table.setdefault(name, []).append((tuple(labels), value))
    return table


def labels(name: str) -> set[tuple[object, ...]]:
    return {row for row, _ in preset()[name]}


def test_every_metric_but_the_hosts_is_there() -> None:
    assert set(preset()) == {name for name in BY_NAME if not name.startswith("host_")}


def test_the_build_is_named() -> None:
    assert preset()["build_info"] == [(("0.1.0", "ab" * 32, "FT-2024-0017"), 1)]


def test_one_stop_counter_per_channel_and_cause_that_stops() -> None:
    assert labels("stops_total") == {
        (channel, cause, response)
        for channel in ("reflex", "remote")
        for cause, response in PRESETS.causes.items()
        if cause != "slow"
    }


def test_every_result_of_every_command_but_that_an_unknown_one_is_never_accepted() -> None:
    every = {(cmd, result) for cmd in (*COMMANDS, UNKNOWN_COMMAND) for result in ("accepted", *CODES)}
    assert labels("commands_total") == every - {(UNKNOWN_COMMAND, "accepted")}
    assert labels("command_stage_seconds") == {(cmd, stage) for cmd in COMMANDS for stage in STAGES}


def test_the_other_labels_are_the_words_of_their_kind() -> None:
    modules = {process.name for process in PROCESSES}
    assert labels("response") == {(channel, each.label) for channel in CHANNELS for each in Response}
    assert labels("module_up") == labels("loop_lag_seconds") == {(name,) for name in modules}
    assert labels("realtime") == {(name, kind) for name in modules for kind in KINDS}
    assert labels("reaction_seconds") == {(path,) for path in REACTION_PATHS}
    assert labels("input_state") == labels("input_faults_total") == {("estop",), ("bumper",)}
    assert labels("certificate_expiry_timestamp_seconds") == {("robot",), ("ca",)}
    assert labels("bad_input_total") == {(source,) for source in (*BAD_INPUT_SOURCES, "/dev/ttyUSB0")}
    for name in ("log_records_total", "log_lost_total", "log_bytes", "log_oldest_timestamp_seconds"):
        assert labels(name) == {(stream,) for stream in STREAMS}


def test_nothing_is_permitted_or_known_yet() -> None:
    assert {value for _, value in preset()["motion_permitted"]} == {0}
    assert {value for _, value in preset()["power_permitted"]} == {0}
    assert {value for _, value in preset()["input_state"]} == {-1}
