"""A simulated node, the far end of its line, and its control, for every test in this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.node_control import NodeControl, NodeProcess
from tests.hil.line_end import LineEnd


@pytest.fixture
def node(run_dir: Path) -> Iterator[NodeProcess]:
    with NodeProcess(run_dir, "estop,bumper,gate") as process:
        yield process


@pytest.fixture
def line(node: NodeProcess) -> Iterator[LineEnd]:
    with LineEnd(node.link) as end:
        yield end


@pytest.fixture
def control(node: NodeProcess) -> NodeControl:
    return node.control
