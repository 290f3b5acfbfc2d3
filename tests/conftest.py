"""What every test may use: a short run folder; and the evidence that CI asks for."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.broker import Broker
from tests.evidence import FILE, Evidence

WORKER = "brokers"
"""What a process that runs a part of the tests tells under."""
LONGEST_SOCKET = 107
"""Bytes in the path of a Unix socket (sockaddr_un)."""
LONGEST_NAME = len("/" + "r" * 64 + "/recorder.sock")
"""What the agent puts below its run folder: the longest robot id, the longest socket."""


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """An empty folder for permits and sockets; `tmp_path` is too long for the path of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="w"))
    if len(bytes(folder)) + LONGEST_NAME > LONGEST_SOCKET:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def obeys_sigint() -> Iterator[None]:
    """As at a terminal: what a shell puts in the background is deaf to SIGINT, and so are its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


EVIDENCE = pytest.StashKey[Evidence]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[EVIDENCE] = Evidence()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - untyped in xdist
    """Tests run in several processes, each of which tells what it saw."""
    if found := getattr(node, "workeroutput", None):  # one that died tells nothing, and xdist tells of it
        node.config.stash[EVIDENCE].add(found[WORKER])


def pytest_sessionfinish(session: pytest.Session) -> None:
    evidence = session.config.stash[EVIDENCE]
    told: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if told is None:
        evidence.write(FILE)
    else:
        told[WORKER] = evidence.as_dict()


@pytest.fixture(scope="session", autouse=True)
def broker_evidence(pytestconfig: pytest.Config) -> Iterator[None]:
    """Notes every broker that really came up in this session (`.ci/run` judges it)."""
    evidence = pytestconfig.stash[EVIDENCE]
    start = Broker.start

    def start_and_note(broker: Broker) -> Broker:
        start(broker)
        evidence.note(broker)
        return broker

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Broker, "start", start_and_note)
        yield
