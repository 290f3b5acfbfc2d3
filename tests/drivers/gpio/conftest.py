"""A one-channel contact, a two-channel contact and a relay with a mirror contact, each on a board."""

from collections.abc import Iterator

import pytest

from tests.drivers.gpio.rig import ContactRig, RelayRig


@pytest.fixture
def rig() -> Iterator[ContactRig]:
    rig = ContactRig()
    yield rig
    rig.release()


@pytest.fixture
def pair() -> Iterator[ContactRig]:
    rig = ContactRig(line_b=5)
    yield rig
    rig.release()


@pytest.fixture
def relay() -> Iterator[RelayRig]:
    rig = RelayRig(readback_line=21)
    yield rig
    rig.release()


@pytest.fixture
def pulse() -> Iterator[RelayRig]:
    rig = RelayRig(mode="pulse", readback_line=21)
    yield rig
    rig.release()
