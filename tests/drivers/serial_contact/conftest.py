"""The port in a test's hands."""

from collections.abc import Iterator

import pytest

from tests.drivers.serial_contact.rig import ContactRig


@pytest.fixture
def rig() -> Iterator[ContactRig]:
    rig = ContactRig()
    yield rig
    rig.release()
