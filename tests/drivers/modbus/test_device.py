"""A Modbus line, serial and TCP: the rules of all drivers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.modbus.rig import ModbusRig
from tests.drivers.rules import InputRig, InputRules


class TestOverSerial(InputRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[InputRig]:
        rig = ModbusRig(tmp_path, network=False)
        yield rig
        rig.release()


class TestOverTcp(InputRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[InputRig]:
        rig = ModbusRig(tmp_path, network=True)
        yield rig
        rig.release()
