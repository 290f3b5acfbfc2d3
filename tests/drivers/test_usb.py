"""Which USB device is behind a port: sysfs as the kernel lays it out."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.usb import SERIAL_MOST, mismatch, number_at, serial_number
from tests.drivers.sysfs import Sysfs, number_of

PORT = os.makedev(188, 0)
NAME = "188:0"


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path / "sys")


@pytest.mark.parametrize("acm", [False, True], ids=["a converter", "a microcontroller"])
def test_the_number_is_the_device_s(sysfs: Sysfs, acm: bool) -> None:
    sysfs.adapter(NAME, "1-2", "A5069RR4", acm=acm)
    assert serial_number(PORT, sysfs.root) == "A5069RR4"


def test_a_device_without_a_number_is_not_given_its_hub_s(sysfs: Sysfs) -> None:
    sysfs.adapter(NAME, "1-2", None)
    assert serial_number(PORT, sysfs.root) is None


def test_an_empty_number_is_none(sysfs: Sysfs) -> None:
    sysfs.adapter(NAME, "1-2", "")
    assert serial_number(PORT, sysfs.root) is None


def test_what_is_no_usb_device_has_none(sysfs: Sysfs) -> None:
    sysfs.terminal(NAME)
    assert serial_number(PORT, sysfs.root) is None


def test_what_the_kernel_does_not_know_has_none(sysfs: Sysfs) -> None:
    sysfs.adapter("188:1", "1-2", "A5069RR4")
    assert serial_number(PORT, sysfs.root) is None
    assert serial_number(PORT, sysfs.root / "not there") is None


def test_a_link_that_leads_out_of_sysfs_is_not_followed(sysfs: Sysfs, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "idVendor").write_text("0403\n")
    (outside / "serial").write_text("A5069RR4\n")
    (sysfs.root / "dev" / "char" / NAME).symlink_to(outside)
    assert serial_number(PORT, sysfs.root) is None


def test_bytes_that_are_no_text_and_lengths_that_are_none_are_survived(sysfs: Sysfs) -> None:
    sysfs.adapter(NAME, "1-2", "x" * 4000)
    assert serial_number(PORT, sysfs.root) == "x" * SERIAL_MOST
    (path,) = sysfs.root.rglob("1-2/serial")
    path.write_bytes(b"\xff\xfe\n")
    assert serial_number(PORT, sysfs.root) == "\ufffd\ufffd"


def test_at_a_path_it_is_that_of_what_is_there_now(sysfs: Sysfs, tmp_path: Path) -> None:
    master, slave = os.openpty()
    link = tmp_path / "port"
    link.symlink_to(os.ttyname(slave))
    sysfs.adapter(number_of(os.fstat(slave).st_rdev), "1-2", "A5069RR4")
    assert number_at(str(link), sysfs.root) == "A5069RR4"
    link.unlink()
    assert number_at(str(link), sysfs.root) is None
    os.close(master)
    os.close(slave)


def test_words() -> None:
    assert mismatch("A1", "B2") == "must be 'A1', is 'B2'"
    assert mismatch("A1", None) == "must be 'A1', there is none"


@given(st.text(max_size=200), st.none() | st.text(max_size=200))
def test_words_are_short_enough_for_a_reading(expected: str, found: str | None) -> None:
    """What a plan can hold is printable; what a device says may be escaped, and is cut before that."""
    words = mismatch(expected, found)
    assert len(words) <= 100 or not f"{expected}{found}".isascii() or repr(f"{expected}{found}").count("\\")
