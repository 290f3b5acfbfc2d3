"""Where the campaigns of `hil.log` take place in tests: in memory, since no fault here needs a real disk."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.log.faults import FAST
from hil.log.nursery import Nursery
from hil.log.owner import new_owner
from hil.log.trial import Ground

SEED = 11
LIVES = 6


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("nursery")) as made:
        yield made


@pytest.fixture
def ground(nursery: Nursery) -> Iterator[Ground]:
    yield from grounds(nursery)


def grounds(nursery: Nursery) -> Iterator[Ground]:
    """One, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder:
        yield Ground(Path(folder), new_owner(), nursery, random.Random(SEED), lives=LIVES)
