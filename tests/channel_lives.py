"""A channel's lives and clocks for the tests of `agent.channel`."""

import time

from agent.core.commands import Code
from tests.channels import Life
from tests.core.factories import NOW_NS


def run(life: Life, now_ns: int = NOW_NS) -> Life:
    """The robot runs: started, saved, resumed."""
    life.turn(now_ns)
    life.turn(now_ns)
    life.channel.grant(now_ns)
    life.disk.write()
    assert life.read().motion_until_ns == now_ns + life.channel.plan.times.ttl_ns
    return life


def blocked(life: Life) -> list[Code]:
    return list(life.channel.blockers)


class Clocks:
    """The three clocks a channel looks at, in place of its `time`; what is not set is the real one."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self) -> None:
        self.mono_ns = NOW_NS
        self.boot_ns = NOW_NS
        self.wall_ns = 1_800_000_000 * 10**9

    def monotonic_ns(self) -> int:
        return self.mono_ns

    def clock_gettime_ns(self, clock: int) -> int:
        assert clock == self.CLOCK_BOOTTIME
        return self.boot_ns

    def time_ns(self) -> int:
        return self.wall_ns

    def time(self) -> float:
        return self.wall_ns / 1e9

    def pass_ns(self, passed_ns: int, *, slept_ns: int = 0, stepped_ns: int = 0) -> None:
        self.mono_ns += passed_ns
        self.boot_ns += passed_ns + slept_ns
        self.wall_ns += passed_ns + slept_ns + stepped_ns
