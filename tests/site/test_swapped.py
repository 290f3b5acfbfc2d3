"""Two nodes whose plugs were swapped while the robot runs: it stops, and stays so until they are right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.site import Site
from tests.site.conftest import Scene
from tests.waiting import block_until


@pytest.fixture(scope="module")
def scene(site_folder: Path) -> Iterator[Scene]:
    """The plan's ports are links of the test's own: the plugs."""

    def edit(plan: str) -> str:
        return plan.replace('"a/node.tty"', '"port_a"').replace('"b/node.tty"', '"port_b"')

    site = Site(site_folder, broker="mosquitto", edit=edit)
    plug(site, "a", "b")
    with site:
        yield Scene(site)


def plug(site: Site, at_a: str, at_b: str) -> None:
    """Which node is at which port of the plan."""
    for port, node in (("port_a", at_a), ("port_b", at_b)):
        (site.folder / port).unlink(missing_ok=True)
        (site.folder / port).symlink_to(site.folder / node / "node.tty")


def swap(site: Site, at_a: str, at_b: str) -> None:
    """The plugs are pulled, and each goes into the other's place."""
    nodes = (site.node_a, site.node_b)
    for node in nodes:
        node.control.unplug()
    plug(site, at_a, at_b)
    for node in nodes:
        node.control.plug()


def test_swapped_nodes_end_in_a_stop_that_stands_until_they_are_right_again(scene: Scene) -> None:
    """Node b has no second input: where its bits differ from node a's, the swap is a stop that stands.

    Where they do not, only `usb_serial` tells (tests/drivers/serial_node/test_swapped.py).
    """
    scene.run()
    swap(scene.site, "b", "a")
    block_until(lambda: not scene.moving())
    block_until(lambda: scene.causes("reflex").get("bumper_hit", {}).get("active"))
    assert scene.guardian.resume(retries=5)[-1].reason == "cause_active"
    assert not scene.relay("a")
    assert not scene.relay("b")
    scene.stays_stopped()
    swap(scene.site, "a", "b")
    block_until(lambda: not scene.causes("reflex").get("bumper_hit", {}).get("active"))
    scene.stays_stopped()
    scene.run()
