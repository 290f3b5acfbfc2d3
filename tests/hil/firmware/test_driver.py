"""The C firmware and the Python driver: 100,000 frames over a line that does everything wrong (issue 3).

No time passes but the test's own. At every reading of the driver's, and every turn of the node:

* what is read as safe was so within the last `TRUE_MS`, and stood in a frame that the node really sent;
* every press is seen, also one of two milliseconds (within one alone the node may be at its line test);
* the relay is where the rule has it, and open within its time when the agent is killed or frozen.
"""

import ctypes
import random
from collections import Counter

import pytest

from agent.core.readings import Quality, Reading
from tests.hil.firmware.agents import INPUTS, STALE_MS, TICK_MS, Agent, Recent, is_safe
from tests.hil.firmware.boards import PERIOD_MS, SILENCE_MS, STEADY_MS, Board, decode
from tests.hil.firmware.medium import LATE_MS, MISDEEDS, Medium
from tests.hil.firmware.rule import Rule

FRAMES = 100_000
SEEDS = range(4)
TRUE_MS = STALE_MS + PERIOD_MS + LATE_MS
"""How old what is read as safe may be: the agent's bound, its allowance for drift, one late piece."""
FAR_MS = 1 << 60


class World:
    """Node, line, agent, and the fingers and accidents that a seed sets on them."""

    def __init__(self, library: ctypes.CDLL, patch: pytest.MonkeyPatch, seed: int) -> None:
        self.chance = random.Random(seed)
        self.board = Board(library)
        self.rule = Rule()
        self.to_node, self.to_agent = Medium(self.chance), Medium(self.chance)
        self.counts: Counter[str] = Counter()
        self._patch = patch
        self._sent = Recent(TRUE_MS)
        self._opened_ms: dict[tuple[str, int], int] = {}
        self._presses: list[tuple[int, int]] = []
        self._lives_since_ms = 0
        self._tick_ms = self._script_ms = self.board.ms
        self._release_ms = self._back_ms = FAR_MS
        self.agent: Agent | None = self._start()
        self.board.turn()
        self._rule_turn(b"")

    @property
    def frames(self) -> int:
        return self.to_node.writes + self.to_agent.writes

    def _start(self) -> Agent:
        self._lives_since_ms = self.board.ms
        return Agent(self._patch, lambda: self.board.ms, self._from_agent, self._judge)

    def _from_agent(self, data: bytes) -> None:
        self.to_node.send(data, self.board.ms)

    # Time -------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Until the next thing happens, and that thing."""
        due_ms = min(
            self._tick_ms,
            self._script_ms,
            self._release_ms,
            self._back_ms,
            FAR_MS if (ms := self.to_node.next_ms()) is None else ms,
            FAR_MS if (ms := self.to_agent.next_ms()) is None else ms,
        )
        while self.board.ms < due_ms - 1:
            if frame := self.board.run(due_ms - 1 - self.board.ms):
                self._said(frame)
                return
        self._rule_turn(b"")
        self.board.ms = max(self.board.ms, due_ms)
        self._happen()
        for piece in self.to_node.arrived(self.board.ms) or [b""]:
            self._rule_turn(piece)
            if frame := self.board.turn(piece):
                self._said(frame)
            assert self.board.relay == self.rule.closed
        for piece in self.to_agent.arrived(self.board.ms):
            if self.agent is not None:
                self.agent.hear(piece)
        if self.board.ms >= self._tick_ms:
            self._tick_ms += TICK_MS
            if self.agent is not None and not self.agent.frozen:
                self.agent.tick()

    def _rule_turn(self, data: bytes) -> None:
        self.rule.turn(data, self.board.ms, self.board.seqs)

    def _said(self, line: bytes) -> None:
        self.to_agent.send(line, self.board.ms)
        frame = decode(line)
        self._sent.add(self.board.ms, (frame.a, frame.b, frame.relay))
        self.board.said.clear()
        self.counts["relay closed"] += frame.relay
        self._rule_turn(b"")
        assert self.board.relay == self.rule.closed
        look = self.board.look
        assert look.relay or look.why != 3 or look.moved_ms == self.rule.silent_ms

    # What happens -----------------------------------------------------------------------------------------

    def _happen(self) -> None:
        ms = self.board.ms
        if ms >= self._release_ms:
            self._release()
        if ms >= self._back_ms:
            self._come_back()
        if ms >= self._script_ms:
            self._script_ms = ms + self.chance.randint(20, 500)
            self.chance.choice(
                [self._press, self._press, self._press, self._order_off, self._kill, self._freeze]
            )()

    def _press(self) -> None:
        """One contact or both, for a moment or long."""
        if self._release_ms < FAR_MS:
            return
        bit = self.chance.randrange(len(INPUTS))
        channels = self.chance.choice(["a", "b", "ab"])
        self._release_ms = self.board.ms + self.chance.choice([2, 3, 5, 20, 80, 200, 400])
        self._opened_ms = {(channel, bit): self.board.ms for channel in channels}
        self._presses.append((self.board.ms, bit))
        a, b = (3 & ~(1 << bit) if channel in channels else 3 for channel in "ab")
        self.board.contacts(a, b)
        self.counts["pressed"] += 1

    def _release(self) -> None:
        self._release_ms = FAR_MS
        self._opened_ms = {}
        self.board.contacts(3, 3)

    def _order_off(self) -> None:
        if self.agent is not None:
            self.agent.run = not self.agent.run

    def _kill(self) -> None:
        """SIGKILL: nothing is said any more; what is on the line still arrives."""
        self._leave("killed")
        self.agent = None

    def _freeze(self) -> None:
        if self.agent is not None:
            self._leave("frozen")
            self.agent.frozen = True

    def _leave(self, how: str) -> None:
        if self._back_ms == FAR_MS:
            self._back_ms = self.board.ms + self.chance.randint(30, 600)
            self.counts[how] += 1
            self._gone_ms = self.board.ms

    def _come_back(self) -> None:
        """Thawed, or started again. By now the relay is open, if it was away for long."""
        self._back_ms = FAR_MS
        if self.board.ms - self._gone_ms > SILENCE_MS + LATE_MS:
            self.counts["open in time"] += 1
            assert not self.board.relay
            assert self.board.look.moved_ms <= self._gone_ms + LATE_MS + SILENCE_MS
        if self.agent is None:
            self.agent = self._start()
        else:
            self._lives_since_ms = self.board.ms
            self.agent.thaw()

    # What the driver reads --------------------------------------------------------------------------------

    def _judge(self, readings: dict[str, Reading], readback: bool | None) -> None:
        ms = self.board.ms
        sent = self._sent.values(ms)
        for bit, reading in enumerate(readings.values()):
            self._judge_one(bit, reading, sent)
        if readback is not None:
            assert any(relay == readback for _, _, relay in sent)
        self.counts["safe"] += all(map(is_safe, readings.values()))
        unsafe = {bit for bit, reading in enumerate(readings.values()) if not is_safe(reading)}
        self.counts["seen"] += sum(bit in unsafe for _, bit in self._presses)
        self._presses = [press for press in self._presses if press[1] not in unsafe]
        for pressed_ms, bit in self._presses:
            away = self._back_ms < FAR_MS or self._lives_since_ms > pressed_ms
            assert away or ms < pressed_ms + STEADY_MS, f"{INPUTS[bit]} pressed at {pressed_ms} was not seen"

    def _judge_one(self, bit: int, reading: Reading, sent: list[tuple[int, int, int]]) -> None:
        if reading.quality is not Quality.GOOD:
            return
        for channel, closed in (("a", reading.value), ("b", reading.second)):
            opened_ms = self._opened_ms.get((channel, bit))
            assert not closed or opened_ms is None or self.board.ms - opened_ms < TRUE_MS
        told = {(bool(a >> bit & 1), bool(b >> bit & 1)) for a, b, _ in sent}
        assert (reading.value, reading.second) in told


@pytest.mark.parametrize("seed", SEEDS)
def test_no_wrong_safe_reading_no_press_unseen_no_relay_closed_too_long(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    world = World(library, monkeypatch, seed)
    while world.frames < FRAMES // len(SEEDS):
        world.step()
    # What a run has to hold for this to have shown anything.
    for medium in (world.to_node, world.to_agent):
        assert all(medium.counts[what] > 100 for what in (*MISDEEDS, "one byte at a time", "in two pieces"))
    assert world.counts["pressed"] > 200
    assert world.counts["seen"] > 200
    assert world.counts["open in time"] > 50
    assert min(world.counts["killed"], world.counts["frozen"]) > 30
    assert world.counts["relay closed"] > 1_000
    assert world.counts["safe"] > 1_000
