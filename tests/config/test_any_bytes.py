"""Whatever bytes a plan file holds, it loads or is refused as a plan; nothing else is ever raised."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import ConfigError, load_plan
from agent.core.plan import Plan
from tests.config.plans import PROTOCOL_PLAN, Folder, hold_to_form

PROTOCOL_BYTES = PROTOCOL_PLAN.read_bytes()
LINES = PROTOCOL_PLAN.read_text(encoding="utf-8").splitlines()
SET_LINES = [number for number, line in enumerate(LINES) if re.match(r"[\w.]+ = ", line)]

NASTY = (
    *("0", "-1", "1e999", "nan", "-inf", "0x7fffffffffffffff", "9223372036854775808", "0xfffffffffffffffff"),
    *('""', '" "', '"\\u0000"', '"\\n"', '"²"', '"福"', '"../.."', "'''\n'''", f'"{"x" * 3000}"'),
    *("true", "[]", "[[]]", "[[[[[[[[[[]]]]]]]]]]", "{}", "{a = {b = 1}}", "[1, 'a', {}]"),
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", '"high"', '"auto"', '"emergency_stop"', '"open"'),
)
COMMON = settings(derandomize=True, max_examples=200, deadline=None)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder where every file of a whole plan is there."""
    return Folder(tmp_path_factory.mktemp("plans")).path


def take(path: Path, data: bytes, *, offline: bool = True) -> Plan | None:
    """The plan, or None when it was refused in good form."""
    path.write_bytes(data)
    try:
        return load_plan(path, offline=offline)
    except ConfigError as error:
        hold_to_form(error, path)
        return None


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode()))
@COMMON
def test_any_bytes(path: Path, data: bytes) -> None:
    assert take(path, data) is None


@given(st.integers(0, len(PROTOCOL_BYTES)), st.integers(0, 40), st.binary(max_size=20))
@COMMON
def test_a_passage_replaced_by_any_bytes(path: Path, at: int, length: int, data: bytes) -> None:
    plan = take(path, PROTOCOL_BYTES[:at] + data + PROTOCOL_BYTES[at + length :])
    assert plan is None or plan.robot.id


@given(st.dictionaries(st.sampled_from(SET_LINES), st.sampled_from(NASTY), min_size=1, max_size=3))
@COMMON
def test_any_values_for_known_keys(path: Path, values: dict[int, str]) -> None:
    lines = [
        line if number not in values else f"{line.partition(' = ')[0]} = {values[number]}"
        for number, line in enumerate(LINES)
    ]
    data = "\n".join(lines).encode()
    # On its robot some files are missing, whatever else is wrong.
    assert take(path, data, offline=False) is None
    plan = take(path, data)
    assert plan is None or plan.times.ttl_ns > 0


@given(st.permutations(LINES))
@settings(derandomize=True, max_examples=30, deadline=None)
def test_its_lines_in_any_order(path: Path, lines: list[str]) -> None:
    plan = take(path, "\n".join(lines).encode())
    assert plan is None or plan.robot.id


@pytest.mark.parametrize("number", SET_LINES, ids=lambda number: LINES[number].partition(" = ")[0])
def test_every_known_key_with_every_nasty_value(path: Path, number: int) -> None:
    key = LINES[number].partition(" = ")[0]
    for value in NASTY:
        lines = [*LINES[:number], f"{key} = {value}", *LINES[number + 1 :]]
        plan = take(path, "\n".join(lines).encode())
        assert plan is None or plan.robot.id
