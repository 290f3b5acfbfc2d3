"""A range sensor over Modbus, from its register to the causes it raises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.readings import Quality
from tests.drivers.modbus.quantities import QuantityRig, QuantityRules
from tests.drivers.modbus.rig import RANGE, ModbusRig


class RangeRig(ModbusRig):
    """Register 12 of unit 3 in millimetres."""

    def __init__(self, folder: Path, *, network: bool) -> None:
        super().__init__(folder, network=network, inputs={"range": RANGE})
        self.device.open()

    def measure(self, value: float) -> None:
        self.units.words[12] = round(value * 1000)
        self.serve_read()

    def live(self, ms: int) -> None:
        self.serve_for(ms)

    def refuse(self) -> None:
        self.units.refusals = {3: 4}
        self.serve_read()

    def fall_silent(self) -> None:
        while self.reading("range").quality is Quality.GOOD:
            self.host.tick(self.device, 10)


@pytest.mark.parametrize("network", [False, True], ids=["serial", "tcp"])
class TestRange(QuantityRules):
    @pytest.fixture
    def rig(self, tmp_path: Path, network: bool) -> Iterator[QuantityRig]:
        rig = RangeRig(tmp_path, network=network)
        yield rig
        rig.release()
