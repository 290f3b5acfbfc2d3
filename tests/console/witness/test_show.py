"""What people and programs see of a witness: Chinese beside English, alarms loud, JSON one object a line."""

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from console.profile import Profile
from console.witness.alarms import BURST, EVERY_S, Rate
from console.witness.board import ROWS, WitnessBoard
from console.witness.entry import Head
from console.witness.metrics import MetricsError, WitnessCollector, serve
from console.witness.notices import REASONS, Kind, Notice
from console.witness.receipts import robot_of
from console.witness.record import Robot, Witness
from console.witness.service import WitnessService
from console.witness.show import BoardShow, JsonShow, TextShow, notice_line
from console.witness.store import Store
from hil.broker import free_port
from tests.console.robots import Site

FORK = Notice(Kind.FORK, "R1", 7, "other_entry", proven=True, kept=True)


def lines(*notices: Notice) -> list[str]:
    console = Console(file=io.StringIO(), width=300, highlight=False, markup=False)
    show = TextShow(console)
    with show:
        for notice in notices:
            show.notice(notice)
        show.link(up=False, why="connection refused\x1b[2J")
        show.link(up=True, why="broker:8883")
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def test_alarms_are_loud_and_in_two_languages() -> None:
    fork, *_, down, up = lines(FORK)
    assert fork.startswith("警报 ALARM  R1  分叉！账本被改写或复制 FORK: the ledger says two things  #7")
    assert "同一编号内容不同 another entry under a number that was taken" in fork
    assert "both signed by the robot's own key" in fork
    assert "NOT kept" not in fork
    assert down.startswith("未连接 NOT connected")
    assert "\x1b" not in down
    assert up == "已连接 connected  broker:8883"


def test_what_is_no_alarm_is_not_loud() -> None:
    taken, back, first, *_ = lines(
        Notice(Kind.TAKEN, "R1", 3, entry_kind="checkpoint"),
        Notice(Kind.BACK, "R1", 4, seconds=1000.4, kept=True),
        Notice(Kind.FIRST_USE, "R1", 0),
    )
    assert taken == "R1  已见证 witnessed  #3  checkpoint"
    assert back == "R1  恢复，又有新记录 heard again  #4  1000 s"
    assert "ALARM" not in first


def test_what_was_left_out_and_what_could_not_be_kept_is_said() -> None:
    (line, *_) = lines(Notice(Kind.MALFORMED, "R1", reason="not a JSON object", left_out=3))
    assert "另有 3 条未列出 more left out" in line
    assert "未能存盘 NOT kept on the disk" in line


@pytest.mark.parametrize("kind", Kind)
def test_every_notice_can_be_shown(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    for reason in (*REASONS, "words"):
        notice = Notice(kind, "R1", 2, reason)
        assert notice_line(notice).plain.count("R1") == 1
        with JsonShow() as show:
            show.notice(notice)
        told = json.loads(capsys.readouterr().out)
        assert (told["type"], told["notice"], told["robot_id"]) == ("notice", kind.value.code, "R1")
        assert told["alarm"] is kind.value.alarm
        assert set(told["text"]) == {"zh", "en"}


def test_json_says_why_the_link_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    JsonShow().link(up=False, why="no route")
    assert json.loads(capsys.readouterr().out) == {"type": "link", "up": False, "reason": "no route"}


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(Store(tmp_path / "w"), clock=lambda: 1000.0, wall=lambda: 1.7e9)


def drawn(witness: Witness) -> str:
    console = Console(file=io.StringIO(), width=150)
    with BoardShow(WitnessBoard(witness, clock=lambda: 1000.0), console) as show:
        show.notice(Notice(Kind.TAKEN, "R1", 3))
        show.notice(FORK)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_board_shows_who_is_in_trouble_first(witness: Witness) -> None:
    head = Head(7, "ab" * 32, bytes(32))
    witness.robots |= {
        "A": Robot(head, since_s=970.0),
        "B": Robot(head, since_s=10.0, silent=True),
        "C": Robot(None, since_s=999.0),
        "D": Robot(head, since_s=990.0, trouble="damaged"),
    }
    witness.alarms.counts |= {"B": Counter(fork=1), "C": Counter(), "D": Counter(silent=1, back=1)}
    text = drawn(witness)
    table = text[text.index("robot") :]
    assert [table.index(f"│ {name} ") for name in "BDAC"] == sorted(
        table.index(f"│ {name} ") for name in "ABCD"
    )
    for word in ("#7", "30 s", "990 s", "沉默 silent", "未曾收到 never heard", "停止见证 not followed"):
        assert word in table
    assert "已见证 witnessed" not in text, "ordinary entries are in the table alone"
    assert "FORK" in text


def test_a_board_of_a_thousand_robots_fits_a_screen(witness: Witness) -> None:
    witness.robots |= {f"R{number}": Robot() for number in range(1000)}
    assert f"另有 {1000 - ROWS} 台机器人 more robots" in drawn(witness)


def test_metrics_are_well_formed(witness: Witness, site: Site, tmp_path: Path) -> None:
    witness.robots |= {"R1": Robot(Head(7, "ab" * 32, bytes(32)), since_s=900.0), "R2": Robot(silent=True)}
    witness.alarms.counts["R1"] = Counter(fork=2, silent=1)
    witness.alarms.not_kept, witness.not_kept = 3, 4
    collector = WitnessCollector(witness, WitnessService(witness, profile(site, tmp_path), JsonShow()))
    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry).decode()
    for line in (
        'warden_witness_entry{robot_id="R1"} 7.0',
        'warden_witness_entry{robot_id="R2"} -1.0',
        'warden_witness_last_entry_timestamp_seconds{robot_id="R1"} 1.6999999e+09',
        'warden_witness_alarms_total{alarm="fork",robot_id="R1"} 2.0',
        'warden_witness_alarms_total{alarm="silent",robot_id="R1"} 1.0',
        'warden_witness_alarms_total{alarm="fork",robot_id="R2"} 0.0',
        'warden_witness_not_kept_total{what="alarm"} 3.0',
        'warden_witness_not_kept_total{what="entry"} 4.0',
        "warden_witness_space_free_ratio 0.",
        'warden_witness_silent{robot_id="R2"} 1.0',
        "warden_witness_connected 0.0",
        "warden_witness_dropped_total 0.0",
    ):
        assert line in text


def test_an_address_that_is_taken_is_said(witness: Witness, site: Site, tmp_path: Path) -> None:
    collector = WitnessCollector(witness, WitnessService(witness, profile(site, tmp_path), JsonShow()))
    with pytest.raises(MetricsError, match="cannot be listened on"):
        serve(collector, ("127.0.0.1", site.broker.port))
    assert serve(collector, ("127.0.0.1", 0)) != free_port()


def profile(site: Site, folder: Path) -> Profile:
    return site.profile(folder)


@pytest.mark.parametrize(
    ("topic", "robot"),
    [
        ("warden/v1/R1/ledger", "R1"),
        ("warden/v1/R1/ledger/ack", ""),
        ("warden/v1/R1/state", ""),
        ("other/v1/R1/ledger", ""),
        ("ledger", ""),
    ],
)
def test_whose_ledger_a_topic_is(topic: str, robot: str) -> None:
    assert robot_of(topic) == robot


def test_the_rate_of_alarms() -> None:
    rate = Rate(0.0)
    told = [rate.admit(b"%d" % n, 0.0) for n in range(BURST + 3)]
    assert told == [0] * BURST + [None] * 3
    assert rate.admit(b"a", EVERY_S) == 3
    assert rate.admit(b"b", EVERY_S) is None
    assert rate.admit(b"proven", EVERY_S, proven=True) == 1
    assert rate.admit(b"proven", EVERY_S, proven=True) is None, "the same again"
    later = [rate.admit(b"x%d" % n, 1e6) for n in range(BURST + 1)]
    assert later == [0] * BURST + [None]
