"""The rig, what every test may count on before and leaves behind after it, and the budgets' table."""

import json
import shutil
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from hil.rig import Node, Rig
from hil.rig.virtual import VirtualRig
from tests.waiting import block_until

BUDGETS = {
    row["id"]: row
    for row in tomllib.loads((Path(__file__).parents[1] / "budgets.toml").read_text())["budget"]
}
SAMPLES = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rig", choices=["virtual", "firmware", "physical"], default="virtual")
    parser.addoption("--rig-config", type=Path, help="physical rig: its TOML file (hil/rig/README.md)")
    parser.addoption("--budgets-json", type=Path, help="write the measured budgets here")


class Meter:
    """The samples of every budget of this session."""

    def __init__(self) -> None:
        self.samples_ms: dict[str, list[float]] = defaultdict(list)

    def add(self, budget: str, from_ns: int, to_ns: int) -> None:
        """One sample; KeyError for a budget that `hil/budgets.toml` does not have."""
        self.samples_ms[BUDGETS[budget]["id"]].append((to_ns - from_ns) / 1e6)

    def rows(self) -> list[dict[str, object]]:
        """Median, worst and verdict of each budget that was measured."""
        return [
            {
                "id": name,
                "what": BUDGETS[name]["what"],
                "samples": len(samples),
                "median_ms": round(sorted(samples)[len(samples) // 2], 2),
                "worst_ms": round(max(samples), 2),
                "limit_ms": BUDGETS[name]["limit_ms"],
                "kept": max(samples) <= BUDGETS[name]["limit_ms"],
            }
            for name, samples in self.samples_ms.items()
        ]


METER = pytest.StashKey[Meter]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[METER] = Meter()


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    kind = request.config.getoption("--rig")
    if kind == "physical":
        from hil.rig.physical import PhysicalRig

        with PhysicalRig(request.config.getoption("--rig-config")) as found:
            yield found
        return
    folder = Path(tempfile.mkdtemp(prefix="w"))
    with VirtualRig(folder, nodes="firmware" if kind == "firmware" else "simulator") as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def meter(request: pytest.FixtureRequest) -> Meter:
    return request.config.stash[METER]


@pytest.fixture(autouse=True)
def no_fault_is_left(rig: Rig) -> Iterator[None]:
    """After each test the rig is healed, and then nothing may be wrong any more."""
    yield
    rig.heal()
    block_until(lambda: not rig.faults())
    assert rig.faults() == []


def run(rig: Rig) -> None:
    """The robot runs, both relays closed: where most tests begin."""
    rig.heal()
    block_until(lambda: not rig.faults())
    if not rig.moving():
        assert rig.guardian.resume("hil", retries=5)[-1].stage == "actuated"
    block_until(lambda: rig.moving() and rig.relay("a").closed and rig.relay("b").closed)


def opened(rig: Rig, node: Node) -> int:
    """Waits until that relay is open; when it opened, by the rig's clock."""
    block_until(lambda: not rig.relay(node).closed)
    return rig.relay(node).changed_ns


def pytest_sessionfinish(session: pytest.Session) -> None:
    rows = session.config.stash[METER].rows()
    if any(not row["kept"] for row in rows):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    target = session.config.getoption("--budgets-json")
    if target is not None:
        target.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[METER].rows()
    if not rows:
        return
    table = Table("budget", "samples", "median ms", "worst ms", "limit ms", "", title="latency budgets")
    for row in rows:
        told = [str(row[key]) for key in ("what", "samples", "median_ms", "worst_ms", "limit_ms")]
        table.add_row(*told, "kept" if row["kept"] else "[red]broken[/]")
    terminalreporter.ensure_newline()
    Console(width=120).print(table)
