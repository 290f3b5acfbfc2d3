"""Lines and ports that two entries of a plan would take: refused by the check, long before the robot."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import registry
from drivers.base import DriverError
from drivers.claims import Taken, claims_of, clashes
from drivers.gpio.device import GpioChip
from drivers.gpio.wiring import build
from drivers.registry import Wanted
from tests.config.plans import Folder
from tests.drivers.hosts import FakeHost

CHIP = "gpiochip0"
Line = Mapping[str, object]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def entry(key: str, driver: str, where: str, **more: object) -> str:
    words = {**more, "driver": driver, ("chip" if driver == "gpio" else "port"): where}
    lines = [
        f"{name} = {f'{value!r}'.lower() if isinstance(value, bool) else toml(value)}"
        for name, value in words.items()
    ]
    return "\n".join([f"[{key}]", *lines, ""])


def toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def gpio(key: str, **more: object) -> str:
    channel = {"channel": "reflex"} if key.startswith("outputs") and "channel" not in more else {}
    return entry(key, "gpio", CHIP, **channel, **more)


SECOND = gpio("inputs.door", line=4, line_b=5)
MIRROR = gpio("outputs.horn", line=20, readback_line=21)
DRIVE = "one line takes one output"
ALONE = "a mirror contact is one relay's"
SAME_WAY = "those who share a line must ask for it in the same way"
ELSEWHERE = "reflex opens it, and remote cannot as well"


DOOR_B, HORN_BACK, LAMP_BACK = (
    "inputs.door.line_b",
    "outputs.horn.readback_line",
    "outputs.lamp.readback_line",
)
REMOTE = {"channel": "remote"}


@pytest.mark.parametrize(
    ("first", "second", "key", "taken", "line", "why"),
    [
        # a two-channel contact's second line
        (SECOND, gpio("outputs.horn", line=5), "outputs.horn", DOOR_B, 5, DRIVE),
        (SECOND, gpio("outputs.horn", line=5, **REMOTE), "outputs.horn", DOOR_B, 5, DRIVE),
        (
            SECOND,
            gpio("outputs.horn", line=5, mode="pulse", readback_line=21),
            "outputs.horn",
            DOOR_B,
            5,
            DRIVE,
        ),
        (SECOND, gpio("inputs.gate", line=5), "inputs.gate", DOOR_B, 5, SAME_WAY),
        (SECOND, gpio("inputs.gate", line=9, line_b=5), "inputs.gate.line_b", DOOR_B, 5, SAME_WAY),
        (SECOND, gpio("inputs.gate", line=4), "inputs.gate", "inputs.door", 4, SAME_WAY),
        (SECOND, gpio("outputs.horn", line=20, readback_line=5), HORN_BACK, DOOR_B, 5, SAME_WAY),
        # a read-back's line
        (MIRROR, gpio("inputs.door", line=21), HORN_BACK, "inputs.door", 21, SAME_WAY),
        (MIRROR, gpio("inputs.door", line=20), "outputs.horn", "inputs.door", 20, DRIVE),
        (MIRROR, gpio("inputs.door", line=4, line_b=20), "outputs.horn", DOOR_B, 20, DRIVE),
        (MIRROR, gpio("outputs.lamp", line=21), "outputs.lamp", HORN_BACK, 21, DRIVE),
        (MIRROR, gpio("outputs.lamp", line=21, **REMOTE), "outputs.lamp", HORN_BACK, 21, DRIVE),
        (MIRROR, gpio("outputs.lamp", line=22, readback_line=20), LAMP_BACK, "outputs.horn", 20, DRIVE),
        (MIRROR, gpio("outputs.lamp", line=22, readback_line=21), LAMP_BACK, HORN_BACK, 21, ALONE),
        (MIRROR, gpio("outputs.lamp", line=22, readback_line=21, **REMOTE), LAMP_BACK, HORN_BACK, 21, ALONE),
        # what one process could share, and two cannot
        (
            gpio("inputs.door", line=21, bias="disabled", debounce_us=5000),
            gpio("outputs.lamp", line=22, readback_line=21, readback_bias="disabled", **REMOTE),
            LAMP_BACK,
            "inputs.door",
            21,
            ELSEWHERE,
        ),
        # one contact, asked for in two ways
        (
            gpio("inputs.door", line=4),
            gpio("inputs.gate", line=4, active_low=True),
            "inputs.gate",
            "inputs.door",
            4,
            SAME_WAY,
        ),
    ],
)
def test_a_line_of_a_chip_that_is_taken_already(
    folder: Folder, first: str, second: str, key: str, taken: str, line: int, why: str
) -> None:
    found, bound = folder.with_more(first).with_more(second).problem()
    assert found == key
    assert bound == f"same line as {taken}: {folder.folder / CHIP} line {line}; {why}"


def test_one_chip_under_two_names_is_one(folder: Folder) -> None:
    (folder.folder / "by-name").symlink_to(folder.folder / CHIP)
    folder.with_more(SECOND).with_more(gpio("outputs.horn", line=5).replace(CHIP, "./by-name"))
    assert folder.problem()[0] == "outputs.horn"


def test_what_stands_beside_each_other(folder: Folder) -> None:
    folder.with_more(SECOND)
    folder.with_more(gpio("inputs.again", line=4, line_b=5))
    folder.with_more(gpio("inputs.shown", line=21, bias="disabled", debounce_us=5000))
    folder.with_more(gpio("outputs.horn", line=20, readback_line=21, readback_bias="disabled"))
    folder.with_more(gpio("outputs.lamp", line=22, readback_line=23, channel="remote"))
    folder.with_more(entry("outputs.fan", "gpio", "gpiochip1", channel="remote", line=4))
    assert len(folder.load(offline=True).outputs) == 5


# ---- ports that two processes would open


@pytest.mark.parametrize("readback", ["none", "dcd"])
def test_a_port_s_contact_in_one_channel_and_its_relay_drive_in_the_other(
    folder: Folder, readback: str
) -> None:
    folder.with_more(entry("inputs.door", "serial_contact", "tty2"))
    folder.with_more(entry("outputs.horn", "serial_contact", "tty2", channel="remote", readback=readback))
    assert folder.problem() == (
        "outputs.horn",
        f"{folder.folder / 'tty2'} belongs to reflex (inputs.door); each channel needs its own",
    )


def test_two_relay_drives_of_one_port(folder: Folder) -> None:
    folder.with_more(entry("outputs.horn", "serial_contact", "tty2", channel="reflex"))
    folder.with_more(entry("outputs.lamp", "serial_contact", "tty2", channel="reflex"))
    key, bound = folder.problem()
    assert (key, bound.partition(";")[0]) == (
        "outputs.lamp",
        f"same line as outputs.horn: {folder.folder / 'tty2'} RTS",
    )


def test_a_port_s_contact_and_its_relay_drive_in_one_channel(folder: Folder) -> None:
    folder.with_more(entry("inputs.door", "serial_contact", "tty2"))
    folder.with_more(entry("outputs.horn", "serial_contact", "tty2", channel="reflex", readback="dcd"))
    assert set(folder.load(offline=True).outputs) == {"relay_a", "relay_b", "horn"}


@pytest.mark.parametrize("driver", ["serial_node", "serial_contact"])
def test_a_port_under_two_names_that_two_processes_would_open(folder: Folder, driver: str) -> None:
    (folder.folder / "by-id").symlink_to(folder.folder / "tty2")
    folder.with_more(entry("outputs.horn", driver, "tty2", channel="reflex"))
    folder.with_more(entry("outputs.lamp", driver, "./by-id", channel="remote"))
    bounds = [problem.bound for problem in folder.refused().problems]
    assert f"{folder.folder / 'by-id'} belongs to reflex (outputs.horn); each channel needs its own" in bounds


# ---- the plan's check and the driver agree


LINES = st.integers(0, 4)
CONTACTS = st.fixed_dictionaries(
    {"line": LINES},
    optional={
        "line_b": LINES,
        "active_low": st.booleans(),
        "active_low_b": st.booleans(),
        "bias": st.sampled_from(["to_open", "disabled"]),
        "debounce_us": st.sampled_from([0, 5000]),
    },
)
RELAYS = st.fixed_dictionaries(
    {"line": LINES},
    optional={
        "readback_line": LINES,
        "readback_active_low": st.booleans(),
        "readback_bias": st.sampled_from(["to_energised", "disabled"]),
        "readback_debounce_us": st.sampled_from([0, 5000]),
    },
)
CHANNELS = st.sampled_from(["reflex", "remote"])


def is_whole(given_settings: Line) -> bool:
    """What the settings themselves refuse is not asked here."""
    others = {given_settings.get("line_b"), given_settings.get("readback_line")}
    return given_settings["line"] not in others


def requested(inputs: list[Wanted], outputs: list[Wanted]) -> set[int] | None:
    """Every line a process would ask the kernel for; None where the driver refuses."""
    if not inputs and not outputs:
        return set()
    try:
        chip = build(CHIP, inputs, outputs, FakeHost())
    except DriverError:
        return None
    assert isinstance(chip, GpioChip)
    return {line for wanted in (*inputs, *outputs) for line in lines_of(wanted)}


def lines_of(wanted: Wanted) -> set[int]:
    names = ("line", "line_b", "readback_line")
    return {int(str(wanted.settings[name])) for name in names if wanted.settings.get(name, -1) != -1}


@settings(max_examples=200)
@given(
    st.lists(CONTACTS.filter(is_whole), max_size=3),
    st.lists(st.tuples(CHANNELS, RELAYS.filter(is_whole)), max_size=3),
)
def test_the_check_refuses_exactly_what_the_driver_or_the_kernel_would(
    contacts: list[Line], relays: list[tuple[str, Line]]
) -> None:
    """The driver within one process; between two, the kernel: a line is requested once."""
    row = registry.row_of("gpio")
    inputs = [Wanted(f"i{n}", checked("input", given_)) for n, given_ in enumerate(contacts)]
    outputs = [
        (channel, Wanted(f"o{n}", checked("output", given_))) for n, (channel, given_) in enumerate(relays)
    ]
    taken = [
        (claim.line, Taken(wanted.name, channel, claim))
        for role, channel, wanted in [
            *(("input", "reflex", wanted) for wanted in inputs),
            *(("output", channel, wanted) for channel, wanted in outputs),
        ]
        for claim in claims_of(row, role, wanted.settings)
    ]
    ours = requested(inputs, [wanted for channel, wanted in outputs if channel == "reflex"])
    theirs = requested([], [wanted for channel, wanted in outputs if channel == "remote"])
    refused = ours is None or theirs is None or bool(ours & theirs)
    assert bool(list(clashes(taken))) is refused


def checked(role: str, given_settings: Line) -> dict[str, object]:
    return registry.check_settings("gpio", role, {"chip": CHIP, **given_settings})
