"""The relay's rule of PROTOCOL 4, written from its text on the simulator's codec: what the C must keep."""

from collections.abc import Sequence

from hil.node_codec import Order, Splitter
from tests.hil.firmware.boards import ON, SILENCE_MS, WINDOW, Board


class Rule:
    """Hears what the board hears. `closed`: the relay may be closed at the end of this turn."""

    def __init__(self, *, mirror: bool = True) -> None:
        """`mirror`: also the firmware's own rule, that a relay must have been seen open before it closes."""
        self.closed = False
        self._mirror = mirror
        self._good_ms = 0
        self._splitter = Splitter()
        self._mirror_open = False

    @property
    def silent_ms(self) -> int:
        """When 100 ms have passed since the last good order."""
        return self._good_ms + SILENCE_MS

    def turn(self, data: bytes, ms: int, seqs: Sequence[int]) -> None:
        """`seqs`: of the frames that went out before. `ms` may wrap at 2**32."""
        if self.closed and (ms - self._good_ms) & 0xFFFFFFFF >= SILENCE_MS:
            self.closed = False
        for packet in self._splitter.feed(data):
            order = Order.from_packet(packet) if packet is not None else None
            if order is not None:
                self._obey(order, ms, seqs)
        self._mirror_open = not self.closed

    def _obey(self, order: Order, ms: int, seqs: Sequence[int]) -> None:
        if order.energise != ON:
            self.closed = False
        elif order.echo in seqs[-WINDOW:] and (self.closed or self._mirror_open or not self._mirror):
            self.closed = True
            self._good_ms = ms


class Ruled:
    """A board and its rule, turned together one millisecond at a time."""

    mirror = True

    def __init__(self, board: Board) -> None:
        self.board = board
        self.rule = Rule(mirror=self.mirror)
        self._forgotten = 0

    def turn(self, data: bytes = b"") -> None:
        self.rule.turn(data, self.board.ms, self.board.seqs[self._forgotten :])
        self.board.turn(data)

    def after(self, ms: int, data: bytes = b"") -> None:
        """So many turns; the last one hears `data`."""
        for left in reversed(range(ms)):
            self.board.ms = (self.board.ms + 1) & 0xFFFFFFFF
            self.turn(b"" if left else data)
            self.check()

    def stall(self, ms: int) -> None:
        """No turn for so long; if as long as the relay's silence, no earlier frame counts as heard."""
        self.board.ms = (self.board.ms + ms) & 0xFFFFFFFF
        if ms >= SILENCE_MS:
            self._forgotten = len(self.board.seqs)

    def boot(self) -> None:
        """Power off and on; the rule starts anew with it."""
        self.board.boot()
        self.rule = Rule(mirror=self.mirror)
        self._forgotten = 0

    def check(self) -> None:
        """Overruled where more than the rule may open the relay."""
        assert self.board.relay == self.board.coil == self.rule.closed
