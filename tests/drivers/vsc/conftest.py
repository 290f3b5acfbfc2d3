"""The controller in a test's hands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.vsc.rig import VscRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[VscRig]:
    rig = VscRig(tmp_path)
    yield rig
    rig.release()
