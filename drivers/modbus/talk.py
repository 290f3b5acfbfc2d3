"""Question and answer on one line, one at a time: which bytes may be believed to answer what. Pure.

A serial frame has no transaction number: the late answer to one question is, byte for byte, a good answer to
the next one of the same unit. No time-out can rule that out, since a unit, an adapter or a radio bridge may
hold an answer back for as long as it likes. Therefore a unit that has not answered *owes* an answer, and is
not read again before it has shown that all earlier questions are done with: it is sent a probe (Return Query
Data with a new number), and whatever answers that comes after all that was owed (`drivers.modbus.debts`). A
unit that does not know the function says so, which does as well. One that never answers a probe is left alone
for `late_ms` instead.
TCP numbers its frames, so there the late one is just dropped.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from drivers.modbus.codec import (
    Answer,
    CodecError,
    Frames,
    LateError,
    LengthError,
    NoAnswerError,
    Probe,
    Question,
    Read,
    UnaskedError,
    rtu_answer,
    rtu_question,
    tcp_answer,
    tcp_question,
)
from drivers.modbus.debts import Debts, Sent

MS: Final = 1_000_000

DRAIN_NS: Final = 20 * MS
"""After anything unexpected the line must be silent for so long: USB adapters hand over what they have heard
every 16 ms by default, so that less would be no silence."""
CHARACTER_BITS: Final = 11
"""Start, eight data, parity or a second stop, stop (MODBUS over Serial Line 2.5.1)."""
FRAME_LEAST_BYTES: Final = 4
"""Unit, function, CRC. Less is the noise of a line that changes hands."""
SILENCE_LEAST_NS: Final = 1_750_000
"""Between two frames above 19200 bits per second; below it is 3.5 characters (2.5.1.1)."""


class Talk(Protocol):
    """One line's side of the protocol. Times are CLOCK_MONOTONIC nanoseconds."""

    @property
    def pending(self) -> Question | None:
        """The question that is out."""

    def begin(self, now_ns: int) -> None:
        """The line is newly open: nothing of before counts."""

    def is_free(self, now_ns: int) -> bool:
        """Whether a question may go out now."""

    def ask(self, read: Read, now_ns: int) -> bytes:
        """What to send to get `read`, or a step nearer to it; see `pending`."""

    def hear(self, data: bytes, now_ns: int) -> list[Answer | CodecError]:
        """What `data` amounts to. `pending` tells whether the question is still out. TCP: StreamError."""

    def give_up(self, now_ns: int) -> CodecError:
        """The time for the question is over."""


class RtuTalk:
    """A serial line (MODBUS over Serial Line)."""

    def __init__(self, *, baud: int, units: Iterable[int], late_ns: int) -> None:
        """`late_ns`: see `Debts`."""
        self.pending: Question | None = None
        self._silence_ns = max(CHARACTER_BITS * 7 * 500 * MS // baud, SILENCE_LEAST_NS)
        self._units = frozenset(units)
        self._debts = Debts(late_ns)
        self._sent = Sent(0, 0)
        self._heard_ns = 0
        self._heard = b""
        self._draining = False
        self._unasked_bytes = 0

    def begin(self, now_ns: int) -> None:
        """Whoever asked here before us, perhaps this program before its restart, is owed as well."""
        self.pending = None
        self._heard = b""
        self._heard_ns = now_ns
        self._draining = True
        for unit in self._units:
            self._debts.begin(unit, self._sent._replace(now_ns=now_ns))

    def is_free(self, now_ns: int) -> bool:
        silent_ns = DRAIN_NS if self._draining else self._silence_ns
        return self.pending is None and now_ns - self._heard_ns >= silent_ns

    def ask(self, read: Read, now_ns: int) -> bytes:
        self._sent = Sent(self._sent.order + 1, now_ns)
        self.pending = self._probe(read.unit) if self._debts.owes(read.unit, now_ns) else read
        self._heard = b""
        self._draining = False
        self._unasked_bytes = 0
        return rtu_question(self.pending)

    def hear(self, data: bytes, now_ns: int) -> list[Answer | CodecError]:
        self._heard_ns = now_ns
        question = self.pending
        if question is None:
            return self._unasked(len(data))
        self._heard += data
        try:
            answer = rtu_answer(question, self._heard)
        except CodecError as error:
            self._fail(question)
            return [error]
        if answer is None:
            return []
        self.pending = None
        if isinstance(question, Probe):
            self._settle(answer)
        return [answer]

    def give_up(self, now_ns: int) -> CodecError:
        question, had = self.pending, len(self._heard)
        if question is not None:
            self._fail(question)
        return LengthError(f"an answer ended after {had} bytes") if had else NoAnswerError("no answer")

    def _settle(self, answer: Answer) -> None:
        if answer.exception:
            self._debts.was_refused(answer.question.unit)
        else:
            self._debts.came_back(answer.question.unit)

    def _probe(self, unit: int) -> Probe:
        self._debts.probe(unit, self._sent)
        return Probe(unit, self._sent.order & 0xFFFF)

    def _unasked(self, count: int) -> list[Answer | CodecError]:
        """By now nobody should owe anything. What is long enough for a frame shows that somebody may."""
        if self._draining and not self._unasked_bytes:
            return []  # the rest of what has been refused
        first = not self._draining
        self._draining = True
        self._unasked_bytes += count
        if self._unasked_bytes >= FRAME_LEAST_BYTES:
            for unit in self._units:
                self._debts.owe(unit, self._sent._replace(now_ns=self._heard_ns))
        return [UnaskedError("bytes that nobody asked for")] if first else []

    def _fail(self, question: Question) -> None:
        self.pending = None
        self._draining = True
        self._heard = b""
        if isinstance(question, Read):
            self._debts.owe(question.unit, self._sent)


class TcpTalk:
    """A TCP connection (MODBUS Messaging on TCP/IP)."""

    def __init__(self) -> None:
        self.pending: Question | None = None
        self._frames = Frames()
        self._transaction = 0

    def begin(self, now_ns: int) -> None:
        self.pending = None
        self._frames = Frames()

    def is_free(self, now_ns: int) -> bool:
        return self.pending is None

    def ask(self, read: Read, now_ns: int) -> bytes:
        self._transaction = self._transaction % 0xFFFF + 1
        self.pending = read
        return tcp_question(read, self._transaction)

    def hear(self, data: bytes, now_ns: int) -> list[Answer | CodecError]:
        return [self._judge(frame) for frame in self._frames.feed(data)]

    def give_up(self, now_ns: int) -> CodecError:
        self.pending = None
        return NoAnswerError("no answer")

    def _judge(self, frame: bytes) -> Answer | CodecError:
        if not isinstance(self.pending, Read):
            return LateError("an answer that nobody waits for")
        try:
            answer = tcp_answer(self.pending, self._transaction, frame)
        except LateError as error:
            return error
        except CodecError as error:
            self.pending = None
            return error
        self.pending = None
        return answer
