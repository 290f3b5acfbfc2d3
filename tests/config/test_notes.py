"""What is said of a plan that is good."""

from pathlib import Path

import pytest

from agent.config.notes import notes
from tests.config.plans import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def keys(folder: Folder) -> list[str]:
    return [note.key for note in notes(folder.load(offline=True))]


def test_a_plan_that_leaves_nothing_open(folder: Folder) -> None:
    assert keys(folder) == []


@pytest.mark.parametrize("test", ['is = "open"', 'is = "stale"', 'is = "fault"'])
def test_any_test_of_an_input_names_it(folder: Folder, test: str) -> None:
    assert keys(folder.replaced('is = "open"', test)) == []


def test_an_input_that_no_condition_names(folder: Folder) -> None:
    bumper = '[inputs.bumper]\ndriver = "serial_node"\nport = "tty0"\nbit = 1\n'
    assert keys(folder.with_more(bumper)) == ["inputs.bumper"]


def test_a_condition_on_a_built_in_cause_names_its_input_too(folder: Folder) -> None:
    assert keys(folder.replaced('id = "estop_pressed"', 'id = "tampered"')) == []


def test_a_channel_without_an_output(folder: Folder) -> None:
    one = folder.replaced('channel = "remote"', 'channel = "reflex"')
    (note,) = notes(one.load(offline=True))
    assert note.key == "outputs"
    assert note.bound.startswith("remote has no output of its own")
