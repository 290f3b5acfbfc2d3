"""`usb_serial` in a plan: the check on the robot looks at what is behind the port; one elsewhere does not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import ConfigError, Problem, load_plan
from tests.config.plans import Folder
from tests.drivers.sysfs import Sysfs, number_of

OURS = "A5069RR4"


class Port:
    """A character device at `tty0` of a plan's folder, and what sysfs says of it."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.sysfs = Sysfs(folder.folder / "sys")
        self._fds = os.openpty()
        (folder.folder / "tty0").unlink()
        (folder.folder / "tty0").symlink_to(os.ttyname(self._fds[1]))
        number = f'port = "tty0"\nusb_serial = "{OURS}"'
        folder.text = folder.text.replace('port = "tty0"', number)

    def plugged_in(self, serial: str | None) -> None:
        self.sysfs.adapter(number_of(os.fstat(self._fds[1]).st_rdev), "1-2", serial)

    def problems(self, *, offline: bool = False, simulate: bool = False, module: str = "") -> list[Problem]:
        self.folder.path.write_text(self.folder.text, encoding="utf-8")
        try:
            load_plan(
                self.folder.path, offline=offline, simulate=simulate, module=module, sysfs=self.sysfs.root
            )
        except ConfigError as error:
            return error.problems
        return []

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    made = Port(Folder(tmp_path))
    yield made
    made.close()


def test_the_right_one(port: Port) -> None:
    port.plugged_in(OURS)
    assert port.problems() == []


@pytest.mark.parametrize(("serial", "found"), [("A5069XYZ", "is 'A5069XYZ'"), (None, "there is none")])
def test_another_one_is_named_with_port_key_and_both_numbers(
    port: Port, serial: str | None, found: str
) -> None:
    port.plugged_in(serial)
    bound = f"must be '{OURS}', {found} behind {port.folder.folder / 'tty0'}"
    assert port.problems() == [
        Problem("inputs.estop.usb_serial", bound),
        Problem("outputs.relay_a.usb_serial", bound),
    ]


def test_only_who_opens_it_on_the_robot_looks(port: Port) -> None:
    port.plugged_in("A5069XYZ")
    assert len(port.problems(module="reflex")) == 2
    assert port.problems(module="remote") == []
    assert port.problems(offline=True) == []
    assert port.problems(simulate=True) == []


def test_a_port_that_is_away_is_said_to_be_away(port: Port) -> None:
    (port.folder.folder / "tty0").unlink()
    assert {problem.key for problem in port.problems()} == {"inputs.estop.port", "outputs.relay_a.port"}


def test_entries_of_one_port_agree_on_it(port: Port) -> None:
    port.folder.text = port.folder.text.replace(f'usb_serial = "{OURS}"\nbit', "bit")
    assert port.problems(offline=True) == [
        Problem("outputs.relay_a.usb_serial", "must be '' as in inputs.estop: they are one device")
    ]
