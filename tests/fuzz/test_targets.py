"""Every row of `tests/fuzz/targets.py` with seeds, pieces of them and random bytes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS


def survives(name: str, data: bytes) -> None:
    target = TARGETS[name]
    try:
        target.decode(data)
    except target.errors:
        return


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_as_they_are(name: str) -> None:
    for seed in TARGETS[name].seeds:
        survives(name, seed)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_cut_and_bent_anywhere(name: str) -> None:
    chance = random.Random(name)
    for seed in TARGETS[name].seeds:
        for _ in range(60):
            bent = bytearray(seed[: chance.randint(0, len(seed))])
            for _ in range(chance.randint(0, 4)):
                bent.insert(chance.randint(0, len(bent)), chance.randrange(256))
            survives(name, bytes(bent))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40)
@given(data=st.binary(max_size=300))
def test_any_bytes(name: str, data: bytes) -> None:
    survives(name, data)
