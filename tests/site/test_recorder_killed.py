"""The recorder killed again and again while the robot stops and starts: nothing acknowledged is lost."""

from tests.site.conftest import Scene
from tests.waiting import block_until


def test_every_stop_is_recorded_though_the_recorder_dies_each_time(scene: Scene) -> None:
    epochs = []
    for round_number in range(3):
        scene.run()
        pid = scene.site.pid("recorder")
        scene.kill("recorder")
        stages = scene.guardian.stop(reason=f"round {round_number}")
        assert stages[-1].stage == "verified"
        epochs.append(scene.site.ask("remote")["channel"]["epoch"])
        block_until(lambda: (answer := scene.site.ask("recorder")) and answer["module"]["pid"] != pid)  # noqa: B023
    block_until(lambda: recorded_stops(scene) >= set(epochs))
    reasons = [r["body"]["reason"] for r in scene.records() if r["kind"] == "command"]
    assert [r for r in reasons if r.startswith("round")] == ["round 0", "round 1", "round 2"]
    report = scene.site.verify_log()
    assert report.exit_code in (0, 1), report.counts
    assert report.records >= len(reasons)


def recorded_stops(scene: Scene) -> set[int]:
    return {
        record["body"]["epoch"]
        for record in scene.records()
        if record["kind"] == "response"
        and record["source"] == "remote"
        and record["body"]["to"] == "emergency_stop"
    }
