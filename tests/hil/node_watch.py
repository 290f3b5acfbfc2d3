"""What tests look at in a simulated node."""

import json

from hil.node_control import NodeControl, NodeProcess, RelayChange
from tests.waiting import block_until


def report(node: NodeProcess, what: str) -> list[dict[str, object]]:
    entries = [json.loads(text) for text in node.report.read_text().splitlines()]
    return [entry for entry in entries if entry["what"] == what]


def until_open(control: NodeControl) -> tuple[RelayChange, ...]:
    """Waits for the relay to be open; all its changes."""
    block_until(lambda: not control.state().relay)
    return control.state().transitions
