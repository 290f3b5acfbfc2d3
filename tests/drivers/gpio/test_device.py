"""A chip's lines as a device: the rules of all drivers, for every kind of contact and relay."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.gpio.rig import ContactRig, RelayRig
from tests.drivers.rules import InputRig, InputRules, OutputRig, OutputRules


class TestOneChannel(InputRules):
    @pytest.fixture(params=[False, True], ids=["to supply", "to ground"])
    def rig(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[InputRig]:
        rig = ContactRig(active_low=request.param)
        yield rig
        rig.release()


class TestTwoChannels(InputRules):
    @pytest.fixture(params=[False, True], ids=["same polarity", "opposite polarity"])
    def rig(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[InputRig]:
        rig = ContactRig(line_b=5, active_low_b=request.param)
        yield rig
        rig.release()


RELAYS: dict[str, dict[str, object]] = {
    "own level": {},
    "mirror high": {"readback_line": 21},
    "mirror low": {"readback_line": 21, "readback_active_low": True},
    "pulse train": {"mode": "pulse", "readback_line": 21},
}


class TestRelay(OutputRules):
    @pytest.fixture(params=list(RELAYS.values()), ids=list(RELAYS))
    def rig(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OutputRig]:
        rig = RelayRig(**request.param)
        yield rig
        rig.release()
