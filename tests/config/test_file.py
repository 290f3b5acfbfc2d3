"""A plan file that cannot be a plan at all, and lines that stay lines whatever it holds."""

from pathlib import Path

import pytest

from agent.config import ConfigError, Problem, load_plan
from agent.config.check import MAX_LINE, MAX_PLAN_BYTES
from tests.config.plans import PROTOCOL_PLAN, Folder, hold_to_form


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def refusal(path: Path) -> Problem:
    with pytest.raises(ConfigError) as caught:
        load_plan(path, offline=True)
    (problem,) = hold_to_form(caught.value, path).problems
    assert problem.key == ""
    return problem


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml").bound == "cannot be read: No such file or directory"


def test_a_plan_that_is_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path).bound == "cannot be read: Is a directory"


def test_a_plan_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    text = PROTOCOL_PLAN.read_bytes()
    path.write_bytes(text + b"#\n" * MAX_PLAN_BYTES)
    assert refusal(path).bound == f"larger than {MAX_PLAN_BYTES} bytes"
    path.write_bytes((text + b"#\n" * MAX_PLAN_BYTES)[:MAX_PLAN_BYTES])
    assert load_plan(path, offline=True).robot.risk == "high"


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    text = PROTOCOL_PLAN.read_bytes()
    path.write_bytes(b"\n#" + b"x" * MAX_LINE + b"\n" + text)
    assert refusal(path).bound == f"line 2 is longer than {MAX_LINE} bytes"
    path.write_bytes(b"#" + b"x" * (MAX_LINE - 1) + b"\n" + text)
    assert load_plan(path, offline=True).robot.risk == "high"


def test_a_plan_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(b"schema = 1 # \xff")
    assert refusal(path).bound == "not UTF-8 at byte 13"


@pytest.mark.parametrize(
    "text",
    [
        "schema",
        "schema = ",
        "schema = 1\nschema = 1",
        "[robot\n",
        'name = "\x00"',
        "a = " + "[" * 2000 + "]" * 2000,
        "a = 2024-02-30",
        "a = '''",
    ],
    ids=lambda text: text[:20].encode("unicode_escape").decode(),
)
def test_a_plan_that_is_not_toml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    assert refusal(path).bound.startswith("not TOML: ")


@pytest.mark.parametrize(
    ("more", "key", "bound"),
    [
        ("bit = 0\n" + ".".join("a" * 1000) + " = 1", "inputs.estop.a.a.a.a.a.a.a", "deeper than 8 levels"),
        ("bit = 0\nx = " + "[" * 50 + "]" * 50, "inputs.estop.x.0.0.0.0.0.0", "deeper than 8 levels"),
        ("bit = 0x" + "f" * 4000, "inputs.estop.bit", "a whole number must fit 64 bits"),
        (f"bit = {1 << 63}", "inputs.estop.bit", "a whole number must fit 64 bits"),
        (f"bit = {-(1 << 63) - 1}", "inputs.estop.bit", "a whole number must fit 64 bits"),
    ],
    ids=["dotted", "brackets", "hexadecimal", "most", "least"],
)
def test_what_would_break_whoever_walks_it(folder: Folder, more: str, key: str, bound: str) -> None:
    found, said = folder.replaced("bit = 0", more).problem()
    assert found == key
    assert bound in said


def test_the_largest_number_of_all_is_merely_out_of_bounds(folder: Folder) -> None:
    key, bound = folder.replaced("bit = 0", f"bit = {(1 << 63) - 1}").problem()
    assert (key, bound) == ("inputs.estop.bit", f"must be a whole number from 0 to 15, is {(1 << 63) - 1}")


def test_a_line_is_one_line_whatever_a_key_holds(folder: Folder) -> None:
    """Line ends and what a terminal would obey are written out, not sent on; Chinese stays readable."""
    error = folder.replaced("schema = 1", 'schema = 1\n"a\\nb\\u001b[2J\\u202e红" = 1').refused()
    assert str(error) == f"{folder.path}: a\\nb\\x1b[2J\\u202e红: unknown key"


def test_a_line_is_short_whatever_a_key_holds(folder: Folder) -> None:
    error = folder.replaced("schema = 1", f'schema = 1\n"{"x" * 4000}" = 1').refused()
    assert str(error) == f"{folder.path}: {'x' * 200}: unknown key"


def test_a_value_is_repeated_only_as_far_as_it_helps(folder: Folder) -> None:
    error = folder.replaced('"FT-1"', f'"{"x" * 4000}"').refused()
    assert len(str(error)) < len(str(folder.path)) + 300
