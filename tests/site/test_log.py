"""What a robot's day leaves in the sealed log, read as an auditor and a recipient read it."""

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.ask import ask
from agent.audit import load_recipient_key, verify
from agent.logformat.layout import LEDGER_FILE
from hil.site import Site
from tests.recorder.logs import opened
from tests.site.conftest import Scene
from tests.waiting import block_until

S = 1_000_000_000


@pytest.fixture(scope="module")
def scene(site_folder: Path) -> Iterator[Scene]:
    def brief(plan: str) -> str:
        settings = "incident_before_s = 2\nincident_after_s = 1\ncheckpoint_s = 10\n"
        return plan.replace('dir = "log"\n', f'dir = "log"\n{settings}')

    with Site(site_folder, broker="mosquitto", edit=brief) as site:
        yield Scene(site)


def entries(scene: Scene, kind: str) -> list[dict[str, Any]]:
    lines = (scene.site.folder / "log" / LEDGER_FILE).read_bytes().splitlines()
    found = map(json.loads, (line for line in lines if line.endswith(b"}")))
    return [dict(entry["body"]) for entry in found if entry["kind"] == kind]


def of(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [dict(record["body"]) for record in records if record["kind"] == kind]


def test_a_stop_is_an_incident_with_what_the_robot_told_before_it_and_after(scene: Scene) -> None:
    block_until(lambda: _moves_undisturbed(scene))
    incidents = len(entries(scene, "incident"))
    pressed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    scene.site.node_a.control.press("estop")
    block_until(lambda: not scene.moving())
    block_until(lambda: len(entries(scene, "incident")) > incidents)
    incident = entries(scene, "incident")[-1]

    def told() -> list[int]:
        samples = [b for b in of(scene.records(), "incident_samples") if b["incident"] == incident["id"]]
        return [at for body in samples for at in body["boottime_ns"]]

    times = block_until(lambda: (found := told()) and found[-1] > pressed_ns and found)
    assert times
    assert times[0] < pressed_ns - S // 2, "from before the stop, when it was still moving"
    assert times == sorted(set(times))
    speeds = [
        data["speed_mps"]
        for body in of(scene.records(), "incident_samples")
        if body["incident"] == incident["id"]
        for data in body["data"]
    ]
    assert speeds[0] > 0.1
    assert incident["response"] == "emergency_stop"
    assert incident["to_ns"] - incident["from_ns"] == 3 * S


def _moves_undisturbed(scene: Scene) -> bool:
    """For a second since the last incident was over: on a busy machine there are stops of its own."""
    scene.run()
    over_ns = max((incident["to_ns"] for incident in entries(scene, "incident")), default=0)
    return scene.moving() and time.time_ns() > over_ns + S


def test_the_network_log_says_who_was_connected_and_how_much_went_over_which_topic(scene: Scene) -> None:
    scene.guardian.stop()
    records = scene.records()
    (link, *_) = of(records, "mqtt_link")
    assert link["up"] is True
    assert link["peer"].endswith(f":{scene.site.broker.port}")
    assert link["tls"].startswith("TLSv1.")
    command = f"warden/v1/{scene.site.robot_id}/cmd"
    block_until(lambda: any(command in body.get("in", {}) for body in of(scene.records(), "mqtt_traffic")))
    traffic = of(scene.records(), "mqtt_traffic")
    assert any(f"warden/v1/{scene.site.robot_id}/state" in body.get("out", {}) for body in traffic)
    assert {record["stream"] for record in scene.records() if record["kind"].startswith("mqtt_")} == {"net"}


def test_the_robots_telemetry_is_kept_once_a_second(scene: Scene) -> None:
    def telemetry() -> list[dict[str, Any]]:
        return [record for record in scene.records() if record["kind"] == "telemetry"]

    count = len(telemetry())
    block_until(lambda: len(telemetry()) >= count + 3)
    times = [record["boottime_ns"] for record in telemetry()]
    assert all(later - earlier > S // 2 for earlier, later in pairwise(times))
    assert {record["stream"] for record in telemetry()} == {"tele"}


def test_nothing_of_what_was_said_lies_open_on_the_disk(scene: Scene) -> None:
    secret = "理由-only-for-recipients"
    scene.guardian.stop(reason=secret)
    block_until(lambda: any(body.get("reason") == secret for body in of(scene.records(), "command")))
    log = scene.site.folder / "log"
    for path in (path for path in log.rglob("*") if path.is_file()):
        assert secret.encode() not in path.read_bytes(), path.name
        assert path.stat().st_mode & 0o077 == 0, path.name
    assert log.stat().st_mode & 0o077 == 0


def test_a_hold_is_placed_and_a_deletion_without_right_is_refused_with_its_reasons(scene: Scene) -> None:
    path = scene.site.run_folder / "recorder.sock"
    held = ask(path, {"type": "log_hold", "from_ns": 0, "to_ns": S, "reason": "调查 inquiry"}, 5)
    assert held is not None
    assert held["ok"] is True
    assert entries(scene, "hold")[-1] == {
        "id": held["id"],
        "from_ns": 0,
        "to_ns": S,
        "reason": "调查 inquiry",
    }
    due = ask(path, {"type": "log_due"}, 5)
    assert due is not None
    assert due["segments"] == []
    refused = ask(path, {"type": "log_delete", "order": "not.a.token"}, 5)
    assert refused is not None
    assert refused["ok"] is False
    assert "malformed" in refused["reason"]
    block_until(lambda: [body["ok"] for body in of(scene.records(), "log_delete")] == [False])
    assert not entries(scene, "delete")


def test_after_an_ordered_end_the_log_is_whole_and_each_recipient_opens_it(scene: Scene) -> None:
    site = scene.site
    for child in site.agent:
        child.stop()
    report = site.verify_log()
    assert (report.exit_code, report.findings) == (0, [])
    assert report.open == 0
    folder = site.folder / "log"
    assert verify(folder, processes=1).exit_code == 3, "without a genesis nothing is anchored"
    read = [
        opened(folder, [load_recipient_key(site.pki.recipient_key(kid))])
        for kid in ("department", "authority")
    ]
    assert read[0] == read[1]
    assert len(read[0]) == report.records
