"""A recorder that hangs: the plan says what that means (`recorder_lost`)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.responses import Response
from hil.site import Site
from tests.site.conftest import Scene
from tests.waiting import block_until


@pytest.fixture(scope="module")
def scene(site_folder: Path) -> Iterator[Scene]:
    def soon(plan: str) -> str:
        return plan.replace("[times]\n", "[times]\nrecorder_lost_ms = 500\n")

    with Site(site_folder, broker="mosquitto", edit=soon) as site:
        yield Scene(site)


def test_a_recorder_that_hangs_is_what_the_plan_says_of_a_lost_one(scene: Scene) -> None:
    """High risk, as this site is: safe mode. Connected is not the same as keeping."""
    scene.run()
    pid, _ = scene.freeze("recorder")
    scene.guardian.stop(Response.HOLD)
    try:
        block_until(lambda: "recorder_lost" in scene.causes("reflex"))
    finally:
        scene.thaw(pid)
    block_until(lambda: not scene.blockers())
    scene.stays_stopped()
