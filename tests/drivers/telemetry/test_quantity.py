"""A quantity that the robot tells, from its beat to the causes it raises."""

from pathlib import Path

import pytest

from tests.drivers.modbus.quantities import QuantityRig, QuantityRules
from tests.drivers.telemetry.rig import RobotRig


class BatteryRig(RobotRig):
    """A robot that beats every 10 ms."""

    def __init__(self) -> None:
        super().__init__({"range": {"key": "range_m", "quantity": "range_m"}})
        self.device.open()
        self._value = 0.0

    def measure(self, value: float) -> None:
        self._value = value
        self.live(10)

    def live(self, ms: int) -> None:
        for _ in range(ms // 10):
            self.host.pass_ms(10)
            self.tell(range_m=self._value)

    def refuse(self) -> None:
        self.tell(range_m="far")

    def fall_silent(self) -> None:
        self.host.tick(self.device, 200)


class TestRange(QuantityRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> QuantityRig:
        return BatteryRig()
