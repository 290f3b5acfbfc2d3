"""Response protocols (clause 5.5(d)): ordered steps by real adapters, begun by a real stop, all recorded."""

import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.site import Site
from tests.site.conftest import Scene
from tests.waiting import block_until

PLAN = """
[adapters.model]
driver = "process"
find = "pid_file"
path = "{folder}/model.pid"
exe = "{python}"
user = "{uid}"

[adapters.note]
driver = "command"
program = "/usr/bin/touch"
args = ["{folder}/noted"]

[adapters.authority]
driver = "http"
url = "http://127.0.0.1:{port}/stopped"
body = '{{"robot": "FT-2024-0017"}}'

[[protocol]]
id = "halt"
response = "hold"
steps = [
  {{ step = "stop_motion", deadline_ms = 3000 }},
  {{ step = "freeze_model", adapter = "model", deadline_ms = 2000, args = {{ action = "freeze" }} }},
  {{ step = "note", adapter = "note", deadline_ms = 5000 }},
]

[[protocol]]
id = "report"
response = "emergency_stop"
channel = "remote"
steps = [{{ step = "report", adapter = "authority", deadline_ms = 5000 }}]

[envelope]
"""


class Authority(http.server.ThreadingHTTPServer):
    """Counts the calls it gets."""

    calls = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Authority)
        self.server.calls += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def model(site_folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """What generates: a process of somebody else's, found by its pid file."""
    code = "import time\nwhile True: time.sleep(0.01)"
    process = subprocess.Popen([Path(sys.executable).resolve(), "-c", code], start_new_session=True)
    (site_folder / "model.pid").write_text(f"{process.pid}\n")
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def site_folder() -> Iterator[Path]:
    """Trusted by the adapters: a folder of our own that nobody else may write, on a path that is so too."""
    folder = Path(tempfile.mkdtemp(prefix="w"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def scene(site_folder: Path, authority: Authority, model: "subprocess.Popen[bytes]") -> Iterator[Scene]:
    words = {"folder": site_folder, "python": Path(sys.executable).resolve(), "port": authority.server_port}
    words["uid"] = os.geteuid()

    def with_protocols(plan: str) -> str:
        return plan.replace("\n[envelope]\n", PLAN.format(**words))

    with Site(site_folder, broker="mosquitto", edit=with_protocols) as site:
        yield Scene(site)


def results(scene: Scene) -> dict[str, dict[str, Any]]:
    """The newest result of each step, by its number in its protocol (`halt.2`)."""
    found: dict[str, dict[str, Any]] = {}
    for record in scene.records():
        if record["kind"] == "step_result":
            run, _, step = record["body"]["id"].partition(".")
            found[f"{run.rpartition('-')[0]}.{step}"] = record["body"]
    return found


def test_a_stop_runs_its_protocols_in_both_channels(
    scene: Scene, authority: Authority, model: "subprocess.Popen[bytes]"
) -> None:
    scene.run()
    (scene.site.folder / "noted").unlink(missing_ok=True)
    calls = authority.calls
    scene.site.node_a.control.press("estop")
    block_until(lambda: not scene.moving())
    block_until((scene.site.folder / "noted").exists)
    block_until(lambda: Path(f"/proc/{model.pid}/stat").read_text().split()[2] == "T")
    block_until(lambda: authority.calls == calls + 1)
    block_until(lambda: {"halt.1", "halt.2", "halt.3", "report.1"} <= results(scene).keys())
    assert {name: body["outcome"] for name, body in results(scene).items()} == {
        "halt.1": "done",
        "halt.2": "done",
        "halt.3": "done",
        "report.1": "done",
    }
    assert all(body["after_ms"] >= 0 for body in results(scene).values())


def test_a_step_that_fails_holds_nothing_back_and_says_why(
    scene: Scene, model: "subprocess.Popen[bytes]"
) -> None:
    scene.site.node_a.control.release("estop")
    scene.run()
    pid_file = scene.site.folder / "model.pid"
    pid_file.rename(scene.site.folder / "elsewhere")
    try:
        (scene.site.folder / "noted").unlink(missing_ok=True)
        scene.guardian.stop()
        block_until((scene.site.folder / "noted").exists)
        block_until(lambda: results(scene)["halt.2"]["outcome"] == "failed")
        assert results(scene)["halt.2"]["detail"]
    finally:
        (scene.site.folder / "elsewhere").rename(pid_file)


def test_a_worse_stop_runs_only_what_was_not_reached_before(scene: Scene, authority: Authority) -> None:
    scene.run()
    runs = begun(scene)
    calls = authority.calls
    scene.site.node_a.control.press("bumper")  # safe mode: halt, and no report
    block_until(lambda: begun(scene).get("halt", 0) == runs.get("halt", 0) + 1)
    scene.guardian.stop()  # emergency stop: the report, and not halt again
    block_until(lambda: authority.calls == calls + 1)
    block_until(lambda: begun(scene).get("report", 0) == runs.get("report", 0) + 1)
    assert begun(scene)["halt"] == runs["halt"] + 1
    scene.site.node_a.control.release("bumper")


def begun(scene: Scene) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in scene.records():
        if record["kind"] == "protocol_begun":
            counts[record["body"]["id"]] = counts.get(record["body"]["id"], 0) + 1
    return counts
