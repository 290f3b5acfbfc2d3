"""Monitor whole: real links to modules that answer, hang, lie and die; real HTTP in front."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from agent.metrics import METRICS, Presets
from agent.monitor import Monitor, MonitorError, Tls, service
from agent.monitor.service import ASK_EVERY_NS
from tests.monitor.certificates import make_certificate
from tests.monitor.http import get
from tests.monitor.modules import FakeModule
from tests.waiting import wait_until

MODULES = ("reflex", "remote", "recorder")
PRESETS = Presets(
    robot_id="FT-2024-0017",
    version="0.1.0",
    digest="ab" * 32,
    causes={"estop_pressed": "emergency_stop", "bumper_hit": "safe_mode"},
    inputs=("estop",),
    certificates=("robot",),
)
SCRAPE = b"GET /metrics HTTP/1.1\r\n\r\n"

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Rig:
    """A monitor, its three modules, and the clock that it goes by."""

    def __init__(self, folder: Path, answer_within_s: float) -> None:
        self.now_ns = 1_000_000_000
        self.modules = {name: FakeModule(folder / f"{name}.sock") for name in MODULES}
        self.monitor = Monitor(
            asyncio.get_running_loop(),
            sockets={name: module.path for name, module in self.modules.items()},
            listen="127.0.0.1:0",
            presets=PRESETS,
            boot="ab" * 16,
            allowed_uids=frozenset({os.geteuid()}),
            folders={"state": folder},
            now_ns=lambda: self.now_ns,
            answer_within_s=answer_within_s,
        )

    @property
    def port(self) -> int:
        return int(str(self.monitor.status()["listen"]).rpartition(":")[2])

    def up(self) -> dict[str, bool]:
        modules = self.monitor.status()["modules"]
        assert isinstance(modules, dict)
        return {name: each["up"] for name, each in modules.items()}

    async def all_up(self) -> None:
        await wait_until(lambda: all(self.up().values()))

    async def scrape(self) -> Values:
        """One scrape that is late enough to ask the modules."""
        self.now_ns += ASK_EVERY_NS
        return values((await get(self.port, "/metrics")).body)


def values(text: str) -> Values:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return "warden_" + name, frozenset(labels.items())


@asynccontextmanager
async def running(folder: Path, answer_within_s: float = 20.0) -> AsyncIterator[Rig]:
    """By default a busy machine has time enough to answer."""
    rig = Rig(folder, answer_within_s)
    for module in rig.modules.values():
        module.start()
    await rig.monitor.start()
    await rig.all_up()
    try:
        yield rig
    finally:
        await rig.monitor.close()
        await rig.monitor.close()
        for module in rig.modules.values():
            module.close()


async def test_a_scrape_asks_every_module_and_shows_what_they_answered(run_dir: Path) -> None:
    async with running(run_dir) as rig:
        reflex, recorder = rig.modules["reflex"].meter, rig.modules["recorder"].meter
        reflex.inc("robot_beats_total", by=50)
        reflex.set("motion_permitted", 1, "reflex")
        reflex.observe("reaction_seconds", 0.0004, "input")
        reflex.inc("log_lost_total", "safety", by=2)
        recorder.inc("log_lost_total", "safety", by=3)
        shown = await rig.scrape()
        assert shown[key("robot_beats_total")] == 50
        assert shown[key("motion_permitted", channel="reflex")] == 1
        assert shown[key("motion_permitted", channel="remote")] == 0
        assert shown[key("reaction_seconds_bucket", path="input", le="0.0005")] == 1
        assert shown[key("reaction_seconds_bucket", path="input", le="0.00025")] == 0
        assert shown[key("log_lost_total", stream="safety")] == 5
        assert shown[key("build_info", version="0.1.0", digest="ab" * 32, robot_id="FT-2024-0017")] == 1
        assert {shown[key("module_up", module=name)] for name in (*MODULES, "monitor")} == {1}
        assert shown[key("host_disk_size_bytes", folder="state")] > 0
        hello = {"type": "hello", "role": "monitor", "boot": "ab" * 16, "pid": os.getpid()}
        assert rig.modules["reflex"].hellos == [hello]


async def test_a_storm_of_scrapes_asks_four_times_a_second_at_most(run_dir: Path) -> None:
    async with running(run_dir) as rig:
        await asyncio.gather(*(get(rig.port, "/metrics") for _ in range(8)))
        await asyncio.gather(*(get(rig.port, "/metrics") for _ in range(8)))
        assert {module.questions for module in rig.modules.values()} == {1}
        rig.now_ns += ASK_EVERY_NS - 1
        await get(rig.port, "/metrics")
        assert {module.questions for module in rig.modules.values()} == {1}
        rig.now_ns += 1
        await asyncio.gather(*(get(rig.port, "/metrics") for _ in range(8)))
        assert {module.questions for module in rig.modules.values()} == {2}
        assert rig.monitor.status()["scrapes"] == 25


async def test_a_module_that_hangs_is_down_keeps_its_counts_and_permits_nothing(run_dir: Path) -> None:
    async with running(run_dir, answer_within_s=0.1) as rig:
        reflex = rig.modules["reflex"]
        reflex.meter.inc("robot_beats_total", by=7)
        reflex.meter.set("motion_permitted", 1, "reflex")
        await rig.scrape()
        await rig.all_up()
        reflex.replies = []
        shown = await rig.scrape()
        assert shown[key("module_up", module="reflex")] == 0
        assert shown[key("robot_beats_total")] == 7
        assert shown[key("motion_permitted", channel="reflex")] == 0
        await wait_until(lambda: rig.up() == {"reflex": False, "remote": True, "recorder": True})
        assert reflex.asked is not None
        reflex.asked.send(reflex.meter.answer())  # late, but it lives
        await wait_until(lambda: rig.up()["reflex"])


async def test_a_module_that_dies_is_down_and_is_asked_again_when_it_is_back(run_dir: Path) -> None:
    async with running(run_dir) as rig:
        reflex = rig.modules["reflex"]
        reflex.meter.inc("robot_beats_total", by=7)
        await rig.scrape()
        reflex.close()
        await wait_until(lambda: not rig.up()["reflex"])
        shown = await rig.scrape()
        assert shown[key("module_up", module="reflex")] == 0
        assert shown[key("robot_beats_total")] == 7
        reflex.restart()
        await rig.all_up()
        reflex.meter.inc("robot_beats_total")
        shown = await rig.scrape()
        assert shown[key("module_up", module="reflex")] == 1
        assert shown[key("robot_beats_total")] == 1  # as its own counter says: Prometheus knows resets


async def test_a_module_that_dies_in_the_middle_of_a_question_holds_nobody_up(run_dir: Path) -> None:
    async with running(run_dir) as rig:
        reflex = rig.modules["reflex"]
        reflex.replies = []
        rig.now_ns += ASK_EVERY_NS
        asking = asyncio.ensure_future(rig.monitor.ask())
        await wait_until(lambda: reflex.questions == 1)
        reflex.close()
        await asking
        assert rig.up() == {"reflex": False, "remote": True, "recorder": True}


async def test_closing_in_the_middle_of_a_question_ends_it(run_dir: Path) -> None:
    async with running(run_dir) as rig:
        rig.modules["reflex"].replies = []
        rig.now_ns += ASK_EVERY_NS
        asking = asyncio.ensure_future(rig.monitor.ask())
        await wait_until(lambda: rig.modules["reflex"].questions == 1)
        await rig.monitor.close()
        async with asyncio.timeout(10):
            await asking


async def test_nonsense_is_counted_and_shown_nowhere(run_dir: Path) -> None:
    async with running(run_dir) as rig:
        remote = rig.modules["remote"]
        lies = {
            "motion_permitted": [[["reflex"], 1]],
            "robot_beats_total": [[[], 9]],
            "epoch": [[["remote"], "x"]],
        }
        remote.replies = [
            {"type": "mood"},
            {"type": "metrics", "data": lies},
        ]
        before = (await rig.scrape())[key("bad_input_total", source="module_link")]
        shown = await rig.scrape()
        assert shown[key("bad_input_total", source="module_link")] - before == 4
        assert shown[key("motion_permitted", channel="reflex")] == 0
        assert shown[key("robot_beats_total")] == 0
        assert shown[key("module_up", module="remote")] == 1


async def test_a_server_of_a_strange_user_is_not_asked(run_dir: Path) -> None:
    module = FakeModule(run_dir / "reflex.sock")
    module.start()
    monitor = Monitor(
        asyncio.get_running_loop(),
        sockets={"reflex": module.path},
        listen="127.0.0.1:0",
        presets=PRESETS,
        boot="",
        allowed_uids=frozenset({os.geteuid() + 1}),
    )
    await monitor.start()
    refused = "bad_input_total"
    await wait_until(lambda: monitor.table()[refused][("module_link",)])
    await monitor.ask()
    assert module.questions == 0
    assert monitor.table()["module_up"][("reflex",)] == 0
    await monitor.close()
    module.close()


async def test_without_any_module_everything_is_there_and_nothing_is_permitted(run_dir: Path) -> None:
    rig = Rig(run_dir, 20.0)
    await rig.monitor.start()
    shown = await rig.scrape()
    assert {shown[key("module_up", module=name)] for name in MODULES} == {0}
    assert {shown[key("motion_permitted", channel=name)] for name in ("reflex", "remote")} == {0}
    assert shown[key("input_state", input="estop")] == -1
    assert shown[key("stops_total", channel="reflex", cause="estop_pressed", response="emergency_stop")] == 0
    names = {name for name, _ in shown}
    for metric in METRICS:
        suffix = "_count" if metric.kind == "histogram" else ""
        assert f"warden_{metric.name}{suffix}" in names or metric.name == "host_temperature_celsius"
    await rig.monitor.close()


async def test_a_refused_request_is_counted_and_healthz_says_only_that_it_lives(run_dir: Path) -> None:
    async with running(run_dir) as rig:
        assert (await get(rig.port, "/")).status == 404
        health = await get(rig.port, "/healthz")
        assert (health.status, health.body) == (200, "ok\n")
        assert (await rig.scrape())[key("bad_input_total", source="http")] == 1


async def test_both_formats_of_prometheus_are_spoken(run_dir: Path) -> None:
    async with running(run_dir) as rig:
        plain = await get(rig.port, "/metrics", Accept="text/plain")
        open_ = await get(rig.port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert plain.headers["content-type"].startswith("text/plain; version=")
        assert open_.headers["content-type"].startswith("application/openmetrics-text")
        families = {family.name for family in parse_openmetrics(open_.body)}  # type: ignore[no-untyped-call]
        assert families == {family.name for family in text_string_to_metric_families(plain.body)}


async def test_what_is_served_is_what_promtool_wants(run_dir: Path) -> None:
    """Its rules of a page here (those of a name: test_table.py); its own word too where it is installed."""
    async with running(run_dir) as rig:
        text = (await get(rig.port, "/metrics")).body
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}
        rows = [(sample.name, frozenset(sample.labels.items())) for sample in family.samples]
        assert len(set(rows)) == len(rows)
        if family.type != "histogram":
            assert not any({"le", "quantile"} & set(sample.labels) for sample in family.samples)
    ask_promtool(text)


def ask_promtool(text: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is not None:
        command = [promtool, "check", "metrics"]
        said = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
        assert (said.returncode, said.stdout + said.stderr) == (0, "")


async def test_status_says_where_and_how_it_serves(run_dir: Path, tmp_path: Path) -> None:
    cert, key_file = make_certificate(tmp_path)
    monitor = Monitor(
        asyncio.get_running_loop(),
        sockets={"reflex": run_dir / "reflex.sock"},
        listen="[::1]:0",
        presets=PRESETS,
        boot="",
        allowed_uids=frozenset(),
        tls=Tls(cert, key_file),
    )
    modules = {"reflex": {"up": False}}
    stopped = {"listen": None, "tls": True, "authentication": False, "modules": modules, "scrapes": 0}
    assert monitor.status() == stopped
    await monitor.close()


@pytest.mark.parametrize(
    "listen",
    ["", "9477", ":9477", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:9477", "[]:1", "h:-1", "h:٣"],
)
async def test_an_address_that_is_none_is_refused_before_anything_is_opened(listen: str) -> None:
    with pytest.raises(MonitorError, match="is not host:port") as caught:
        Monitor(
            asyncio.get_running_loop(),
            sockets={},
            listen=listen,
            presets=PRESETS,
            boot="",
            allowed_uids=frozenset(),
        )
    assert caught.value.subject == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:9477", "robot.local:0", "[::1]:65535", "[::]:1"])
def test_an_address_is_spelled_as_it_was_read(listen: str) -> None:
    assert service._spelled(*service._address(listen)) == listen


async def test_a_socket_path_that_can_never_work_is_refused(run_dir: Path) -> None:
    path = run_dir / ("x" * 120)
    monitor = Monitor(
        asyncio.get_running_loop(),
        sockets={"reflex": path},
        listen="127.0.0.1:0",
        presets=PRESETS,
        boot="",
        allowed_uids=frozenset(),
    )
    with pytest.raises(MonitorError, match="longer than"):
        await monitor.start()
    assert monitor.status()["listen"] is None
