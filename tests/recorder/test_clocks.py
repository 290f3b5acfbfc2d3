from agent.recorder.clocks import STATE_EVERY_NS, STEP_NS, WallClock

S = 1_000_000_000


class Clocks:
    def __init__(self) -> None:
        self.boottime_ns = 5 * S
        self.wall_ns = 1_700_000_000 * S
        self.synchronised = True
        self.asked = 0
        self.watch = WallClock(
            wall_ns=lambda: self.wall_ns, boottime_ns=lambda: self.boottime_ns, synchronised=self.ask
        )

    def ask(self) -> bool:
        self.asked += 1
        return self.synchronised

    def pass_time(self, ns: int, *, wall_ns: int | None = None) -> None:
        self.boottime_ns += ns
        self.wall_ns += ns if wall_ns is None else wall_ns


def test_a_step_is_told_once_with_what_was_expected_and_what_was_found() -> None:
    clocks = Clocks()
    clocks.pass_time(S)
    assert clocks.watch.step() is None
    expected_ns = clocks.wall_ns + S
    clocks.pass_time(S, wall_ns=S + STEP_NS + 1)
    assert clocks.watch.step() == (expected_ns, expected_ns + STEP_NS + 1)
    clocks.pass_time(S)
    assert clocks.watch.step() is None


def test_a_clock_put_back_is_a_step_too() -> None:
    clocks = Clocks()
    clocks.pass_time(S, wall_ns=-3600 * S)
    found = clocks.watch.step()
    assert found is not None
    assert found[1] - found[0] == -3601 * S


def test_slewing_is_no_step_however_long_it_lasts() -> None:
    clocks = Clocks()
    for _ in range(1000):
        clocks.pass_time(S, wall_ns=S + 500_000)  # the most that adjtimex slews: 500 ppm
        assert clocks.watch.step() is None


def test_the_kernel_is_asked_for_the_state_once_a_second_at_most() -> None:
    clocks = Clocks()
    assert {clocks.watch.state() for _ in range(10)} == {"s"}
    assert clocks.asked == 1
    clocks.synchronised = False
    assert clocks.watch.state() == "s"
    clocks.pass_time(STATE_EVERY_NS)
    assert clocks.watch.state() == "u"
    assert clocks.asked == 2
