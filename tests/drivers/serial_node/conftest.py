"""The node in a test's hands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.serial_node.rig import NodeRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[NodeRig]:
    rig = NodeRig(tmp_path)
    yield rig
    rig.release()
