"""The firmware, built once for all tests of this folder: program, logic as a library, harnesses."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.firmware import LOGIC, SANITIZERS, SOURCES, build, compile_c
from tests.hil.firmware.asked import Asked
from tests.hil.firmware.boards import HERE, Board, load

BOARD = HERE / "board.c"
HARNESS = (f"-I{HERE}", *SANITIZERS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("firmware")


@pytest.fixture(scope="session")
def program(folder: Path) -> Path:
    """The node for this machine, with both sanitizers."""
    return build(folder, sanitize=True)


@pytest.fixture(scope="session")
def library(folder: Path) -> ctypes.CDLL:
    """The logic. The address sanitizer has to be first in its process, so here it is the other one alone."""
    flags = ("-O2", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover=all", f"-I{HERE}")
    return load(compile_c(folder / "board.so", [LOGIC, BOARD], *flags))


@pytest.fixture
def board(library: ctypes.CDLL) -> Board:
    return Board(library)


@pytest.fixture(scope="session")
def script(folder: Path) -> Iterator[Asked]:
    """The logic under both sanitizers, asked line by line."""
    with Asked(compile_c(folder / "script", [LOGIC, BOARD, HERE / "script.c"], *HARNESS)) as asked:
        yield asked


@pytest.fixture(scope="session")
def json_cli(folder: Path) -> Iterator[Asked]:
    """The rig's JSON, likewise."""
    with Asked(compile_c(folder / "json", [SOURCES / "rig/json.c", HERE / "json_cli.c"], *HARNESS)) as asked:
        yield asked
