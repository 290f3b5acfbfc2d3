"""Question and answer: a late answer is never taken for the answer to another question."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from drivers.modbus.codec import (
    Answer,
    CodecError,
    CrcError,
    FunctionError,
    LateError,
    LengthError,
    NoAnswerError,
    Probe,
    Read,
    StreamError,
    UnaskedError,
    UnitError,
)
from drivers.modbus.debts import Sent
from drivers.modbus.talk import DRAIN_NS, MS, RtuTalk, TcpTalk
from tests.drivers.modbus import frames

A, B, OTHER = Read(3, 3, 12, 1), Read(3, 3, 13, 1), Read(4, 3, 12, 1)
LATE_NS = 1_000 * MS
START_NS = 10_000 * MS


def word(value: int, unit: int = 3) -> bytes:
    return frames.rtu(unit, frames.registers(3, [value]))


class Line:
    """A talk and its clock."""

    def __init__(self, baud: int = 19200, late_ns: int = LATE_NS) -> None:
        self.talk = RtuTalk(baud=baud, units=[3, 4], late_ns=late_ns)
        self.now_ns = START_NS
        self.talk.begin(self.now_ns)

    def ask(self, read: Read) -> bytes:
        """The question that goes out as soon as the line is free."""
        while not self.talk.is_free(self.now_ns):
            self.now_ns += MS
        return self.talk.ask(read, self.now_ns)

    def hear(self, data: bytes) -> list[Answer | CodecError]:
        self.now_ns += MS
        return self.talk.hear(data, self.now_ns)

    def owes(self, unit: int) -> bool:
        return self.talk._debts.owes(unit, self.now_ns)

    def prove(self, *units: int) -> None:
        """Each unit answers its probe."""
        for unit in units:
            sent = self.ask(Read(unit, 3, 0, 1))
            assert isinstance(self.talk.pending, Probe)
            (answer,) = self.hear(sent)
            assert isinstance(answer, Answer)


@pytest.fixture
def line() -> Line:
    line = Line()
    line.prove(3, 4)
    return line


def kinds(heard: list[Answer | CodecError]) -> list[type]:
    return [type(each) for each in heard]


def test_a_new_line_is_silent_first_and_every_unit_owes() -> None:
    line = Line()
    assert not line.talk.is_free(START_NS + DRAIN_NS - 1)
    assert line.talk.is_free(START_NS + DRAIN_NS)
    assert line.ask(A) == frames.rtu(3, b"\x08\0\0\0\1")
    assert kinds(line.hear(word(1))) == [FunctionError]  # what whoever was here before us had asked for
    line.prove(3)
    assert line.ask(A) == frames.rtu(3, frames.ask(3, 12, 1))
    assert line.hear(word(2)) == [Answer(A, (2,))]


def test_a_new_line_s_first_refusal_may_be_of_a_probe_from_before_it() -> None:
    line = Line()
    for owes in (True, False):
        line.ask(A)
        assert kinds(line.hear(frames.rtu(3, b"\x88\1"))) == [Answer]
        assert line.owes(3) is owes


def test_an_answer_in_pieces(line: Line) -> None:
    line.ask(A)
    pieces = [line.hear(bytes([byte])) for byte in word(5)]
    assert pieces == [[]] * 6 + [[Answer(A, (5,))]]


def test_after_a_time_out_the_late_answer_is_nobody_s(line: Line) -> None:
    line.ask(A)
    assert kinds([line.talk.give_up(line.now_ns)]) == [NoAnswerError]
    sent = line.ask(B)
    assert sent == frames.rtu(3, b"\x08\0\0\0\4")
    assert kinds(line.hear(word(111))) == [FunctionError]
    assert kinds(line.hear(sent)) == []  # the probe's own answer, once it has failed
    line.prove(3)
    line.ask(B)
    assert line.hear(word(222)) == [Answer(B, (222,))]


def test_a_late_answer_before_the_next_question_is_dropped(line: Line) -> None:
    line.ask(A)
    line.talk.give_up(line.now_ns)
    assert line.hear(word(111)) == []
    assert not line.talk.is_free(line.now_ns + DRAIN_NS - 1)
    assert line.talk.is_free(line.now_ns + DRAIN_NS)
    line.ask(B)
    assert isinstance(line.talk.pending, Probe)


def test_a_unit_without_the_function_proves_it_by_its_refusal(line: Line) -> None:
    line.ask(A)
    line.talk.give_up(line.now_ns)
    line.ask(A)
    (answer,) = line.hear(frames.rtu(3, b"\x88\1"))
    assert isinstance(answer, Answer)
    assert not line.owes(3)


def ignore(line: Line, during_ns: int) -> int:
    """How many probes go unanswered until unit 3 is read again, or the time is over."""
    end_ns, probes = line.now_ns + during_ns, 0
    while line.now_ns < end_ns:
        line.ask(A)
        if line.talk.pending == A:
            break
        probes += 1
        line.now_ns += 50 * MS
        line.talk.give_up(line.now_ns)
    return probes


def test_a_unit_that_ignores_the_function_is_left_alone_for_late_ms() -> None:
    line = Line()
    assert ignore(line, 10 * LATE_NS) == 20
    assert line.hear(word(7)) == [Answer(A, (7,))]
    line.ask(A)
    assert line.talk.pending == A
    line.talk.give_up(line.now_ns)
    assert ignore(line, 10 * LATE_NS) == 20
    assert line.hear(word(8)) == [Answer(A, (8,))]


def test_a_unit_that_has_answered_a_probe_is_believed_by_nothing_else(line: Line) -> None:
    line.ask(A)
    line.talk.give_up(line.now_ns)
    assert ignore(line, 10 * LATE_NS) == 10 * LATE_NS // (50 * MS)
    line.prove(3)
    line.ask(A)
    assert line.talk.pending == A


def test_probes_that_nobody_answers_cost_no_memory(line: Line) -> None:
    line.ask(A)
    line.talk.give_up(line.now_ns)
    ignore(line, 10 * LATE_NS)
    assert len(line.talk._debts._account(3).probes) <= LATE_NS // (50 * MS)


def test_a_refusal_may_be_of_an_earlier_probe(line: Line) -> None:
    """A late refusal, dropped unread, must not leave the next one proving what came in between."""
    refused = frames.rtu(3, b"\x88\1")
    line.ask(A)
    line.talk.give_up(line.now_ns)
    line.ask(A)  # a probe, whose refusal is late
    line.talk.give_up(line.now_ns)
    line.ask(A)  # the next one; the first one's refusal comes for it
    assert kinds(line.hear(refused)) == [Answer]
    line.ask(A)
    assert line.talk.pending == A  # whose answer is late, too
    line.talk.give_up(line.now_ns)
    line.ask(A)
    assert kinds(line.hear(refused)) == [Answer]
    assert line.owes(3), "it was the second probe that was refused, and the read came after that"


def test_the_other_units_are_read_on(line: Line) -> None:
    line.ask(A)
    line.talk.give_up(line.now_ns)
    line.ask(OTHER)
    assert line.talk.pending == OTHER
    assert kinds(line.hear(word(111))) == [UnitError]
    assert line.owes(4)


@pytest.mark.parametrize("wrong", [word(1)[:-1] + b"\0", b"\3\3\7", word(1, unit=4), b"\x55" * 300])
def test_whatever_is_no_answer_leaves_the_unit_owing(line: Line, wrong: bytes) -> None:
    line.ask(A)
    (error,) = line.hear(wrong)
    assert isinstance(error, CodecError)
    assert line.talk.pending is None
    assert line.owes(3)
    assert not line.owes(4)
    assert line.hear(b"\1\2\3\4\5\6\7") == []
    assert not line.owes(4)


def test_half_an_answer_is_told_from_none(line: Line) -> None:
    line.ask(A)
    line.hear(word(1)[:4])
    error = line.talk.give_up(line.now_ns)
    assert isinstance(error, LengthError)
    assert error.reason == "an answer ended after 4 bytes"
    assert isinstance(line.talk.give_up(line.now_ns), NoAnswerError)


def test_a_refusal_is_an_answer(line: Line) -> None:
    line.ask(A)
    assert line.hear(frames.rtu(3, b"\x83\2")) == [Answer(A, exception=2)]
    assert not line.owes(3)


def test_a_little_noise_is_waited_out(line: Line) -> None:
    assert kinds(line.hear(b"\0")) == [UnaskedError]
    assert line.hear(b"\0\0") == []
    assert not line.owes(3)
    line.ask(A)
    assert line.talk.pending == A


def test_what_could_be_a_frame_makes_everybody_owe(line: Line) -> None:
    assert kinds(line.hear(b"\0\0\0")) == [UnaskedError]
    assert line.hear(b"\0") == []
    assert (line.owes(3), line.owes(4)) == (True, True)


@pytest.mark.parametrize(
    ("baud", "silence_ns"),
    [(9600, 4_010_416), (19200, 2_005_208), (38400, 1_750_000), (115200, 1_750_000)],
)
def test_the_line_is_silent_for_three_and_a_half_characters_between_frames(
    baud: int, silence_ns: int
) -> None:
    line = Line(baud)
    line.prove(3)
    line.ask(A)
    line.hear(word(1))
    assert not line.talk.is_free(line.now_ns + silence_ns - 1)
    assert line.talk.is_free(line.now_ns + silence_ns)


def test_a_probe_s_number_comes_round(line: Line) -> None:
    line.talk._sent = Sent(0xFFFE, 0)
    line.talk.begin(line.now_ns)
    assert line.ask(A)[4:6] == b"\xff\xff"
    line.talk.give_up(line.now_ns)
    assert line.ask(A)[4:6] == b"\0\0"


# -------------------------------------------------------------------------------------------------------- TCP


def reply(transaction: int, value: int, unit: int = 3) -> bytes:
    return frames.tcp(transaction, unit, frames.registers(3, [value]))


def test_a_late_answer_on_a_connection_is_known_by_its_number() -> None:
    talk = TcpTalk()
    talk.ask(A, 0)
    assert isinstance(talk.give_up(0), NoAnswerError)
    assert talk.is_free(0)
    talk.ask(B, 0)
    assert kinds(talk.hear(reply(1, 111), 0)) == [LateError]
    assert talk.pending == B
    assert talk.hear(reply(2, 222), 0) == [Answer(B, (222,))]
    assert kinds(talk.hear(reply(2, 222), 0)) == [LateError]


def test_both_in_one_read() -> None:
    talk = TcpTalk()
    talk.ask(A, 0)
    talk.give_up(0)
    talk.ask(B, 0)
    late, answer = talk.hear(reply(1, 111) + reply(2, 222), 0)
    assert isinstance(late, LateError)
    assert answer == Answer(B, (222,))


def test_a_wrong_answer_with_the_right_number_ends_the_question() -> None:
    talk = TcpTalk()
    talk.ask(A, 0)
    assert kinds(talk.hear(reply(1, 1, unit=4), 0)) == [UnitError]
    assert talk.pending is None


def test_numbers_come_round_without_0() -> None:
    talk = TcpTalk()
    talk._transaction = 0xFFFE
    assert talk.ask(A, 0)[:2] == b"\xff\xff"
    assert talk.ask(A, 0)[:2] == b"\0\1"


def test_a_new_connection_begins_with_a_new_frame() -> None:
    talk = TcpTalk()
    talk.ask(A, 0)
    assert talk.hear(reply(1, 1)[:9], 0) == []
    talk.begin(0)
    assert talk.pending is None
    talk.ask(A, 0)
    assert talk.hear(reply(2, 5), 0) == [Answer(A, (5,))]


def test_what_is_not_modbus_is_told() -> None:
    with pytest.raises(StreamError):
        TcpTalk().hear(b"SSH-2.0-x", 0)


# ------------------------------------------------------------------------- a line that holds its answers back


class SlowLine(RuleBasedStateMachine):
    """Two units behind a line that keeps the order, and answers as late as it likes or never.

    Every value says which question it answers, so that a wrong match shows itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(late_ns=1 << 60)
        self.waiting: list[bytes] = []
        self.values: dict[int, int] = {}
        self.asked = 0

    @initialize(deaf=st.booleans())
    def begin(self, deaf: bool) -> None:
        self.deaf = deaf  # the units refuse function 8

    @precondition(lambda self: self.line.talk.pending is None)
    @rule(read=st.sampled_from([A, B, OTHER]), lost=st.booleans())
    def ask(self, read: Read, lost: bool) -> None:
        sent = self.line.ask(read)
        pending = self.line.talk.pending
        self.asked += 1
        if lost:
            return
        if pending == read:
            self.waiting.append(word(self.asked, read.unit))
        else:
            self.waiting.append(frames.rtu(read.unit, b"\x88\1") if self.deaf else sent)

    @precondition(lambda self: self.waiting)
    @rule(cut=st.integers(0, 8))
    def arrive(self, cut: int) -> None:
        """The answer that has waited longest arrives, whole or in two pieces."""
        frame = self.waiting.pop(0)
        for piece in (frame[:cut], frame[cut:]):
            if piece:
                self.judge(self.line.hear(piece))

    @precondition(lambda self: self.line.talk.pending is not None)
    @rule()
    def time_out(self) -> None:
        self.line.now_ns += 50 * MS
        self.line.talk.give_up(self.line.now_ns)

    def judge(self, heard: list[Answer | CodecError]) -> None:
        for each in heard:
            if isinstance(each, Answer) and isinstance(each.question, Read):
                assert each.words == (self.asked,), "the answer to another question"


TestSlowLine = SlowLine.TestCase
TestSlowLine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_crc_errors_are_told(line: Line) -> None:
    line.ask(A)
    assert kinds(line.hear(word(1)[:-1] + b"\0")) == [CrcError]
