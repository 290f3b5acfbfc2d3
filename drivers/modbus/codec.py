"""Modbus frames: pymodbus writes the questions and reads the answers; what an answer must be is held here.

    WardenError
    +-- CodecError             what came is no answer to the question
        +-- CrcError           RTU: the CRC is wrong
        +-- UnitError          another unit's frame
        +-- FunctionError      another function's frame
        +-- LengthError        too short, too long, or a byte count that is not the question's
        +-- EchoError          a probe came back with other bytes than it went out with
        +-- LateError          TCP: the answer to an earlier question
        +-- UnaskedError       bytes while no question is out
        +-- NoAnswerError      nothing at all within the time
    +-- StreamError            TCP: no Modbus header, so that nothing after it can be found either

pymodbus is only ever given one frame of the right unit, function and length: left to itself its RTU framer
looks for a frame anywhere in what came and swallows all that follows it.
Source: MODBUS Application Protocol 1.1b3 (clauses 6 and 7), MODBUS over Serial Line 1.02 (2.5.1), MODBUS
Messaging on TCP/IP 1.0b (3.1.3).
"""

from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerBase, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.diag_message import ReturnQueryDataRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from agent.errors import WardenError

COILS: Final = 1
DISCRETE_INPUTS: Final = 2
HOLDING_REGISTERS: Final = 3
INPUT_REGISTERS: Final = 4
"""Functions that read: clauses 6.1 to 6.4."""
BITS: Final = frozenset({COILS, DISCRETE_INPUTS})
DIAGNOSTICS: Final = 8
EXCEPTION: Final = 0x80

MBAP_BYTES: Final = 7
"""Transaction, protocol, length, unit."""
MBAP_LENGTHS: Final = range(3, 255)
"""Unit and at least two bytes of PDU; at most unit and 253 (clause 4.1)."""


class CodecError(WardenError):
    """What came is no answer. `reason`: in a few words. `counter`: the device's counter of its kind.

    `ends`: the question that is out is over with it.
    """

    counter: ClassVar[str]
    ends: ClassVar[bool] = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CrcError(CodecError):
    """A whole frame with a wrong CRC-16."""

    counter = "answers_wrong_crc"


class UnitError(CodecError):
    """The frame of a unit that was not asked."""

    counter = "answers_wrong_unit"


class FunctionError(CodecError):
    """The frame of a function that was not asked for."""

    counter = "answers_wrong_function"


class LengthError(CodecError):
    """Not as long as the question wants it."""

    counter = "answers_wrong_length"


class EchoError(CodecError):
    """The answer to a probe, but not to this one."""

    counter = "answers_wrong_echo"


class LateError(CodecError):
    """The transaction of an earlier question, or of none."""

    counter = "answers_late"
    ends = False


class UnaskedError(CodecError):
    """Somebody speaks who was not asked; on a serial line perhaps the answer to an earlier question."""

    counter = "answers_unasked"
    ends = False


class NoAnswerError(CodecError):
    """The time is over."""

    counter = "answers_missing"


class StreamError(WardenError):
    """No header where one must be. `reason`: in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Read:
    """Registers or bits of one unit. `function`: 1 to 4. `address` counts from 0."""

    unit: int
    function: int
    address: int
    count: int

    @property
    def data_bytes(self) -> int:
        """What the byte count of the answer must say."""
        return (self.count + 7) // 8 if self.function in BITS else 2 * self.count


@dataclass(frozen=True, slots=True)
class Probe:
    """Return Query Data (clause 6.8, sub-function 0): the unit sends the question back as it is."""

    unit: int
    nonce: int

    function: ClassVar[int] = DIAGNOSTICS
    count: ClassVar[int] = 0


Question: TypeAlias = Read | Probe


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unit said to `question`. `exception`: 0, or why it would not (clause 7).

    `words`: registers 0 to 65535, or bits 0 and 1, as many as were asked for; none for a probe or a refusal.
    """

    question: Question
    words: tuple[int, ...] = ()
    exception: int = 0


_RTU: Final = FramerRTU(DecodePDU(is_server=False))
_TCP: Final = FramerSocket(DecodePDU(is_server=False))
_REQUESTS: Final[dict[int, type[ModbusPDU]]] = {
    COILS: ReadCoilsRequest,
    DISCRETE_INPUTS: ReadDiscreteInputsRequest,
    HOLDING_REGISTERS: ReadHoldingRegistersRequest,
    INPUT_REGISTERS: ReadInputRegistersRequest,
}


# ------------------------------------------------------------------------------------------------ serial line


def rtu_question(question: Question) -> bytes:
    """The frame to send; 8 bytes."""
    return _RTU.buildFrame(_request(question, 0))


def rtu_answer(question: Question, heard: bytes) -> Answer | None:
    """What `heard`, everything since the question, answers; None while it is only the beginning of an answer.

    Raises CodecError as soon as it cannot become one any more.
    """
    if not heard:
        return None
    if heard[0] != question.unit:
        raise UnitError(f"unit {heard[0]} speaks, unit {question.unit} was asked")
    if len(heard) == 1:
        return None
    _check_function(question, heard[1])
    length = _rtu_length(question, heard)
    if len(heard) > length:
        raise LengthError(f"{len(heard)} bytes, the answer has {length}")
    if len(heard) < length:
        return None
    if isinstance(question, Probe) and not heard[1] & EXCEPTION:
        return _echo(question, heard, rtu_question(question))
    return _answer(question, _decode(_RTU, heard))


def _rtu_length(question: Question, heard: bytes) -> int:
    if heard[1] & EXCEPTION:
        return 5
    if isinstance(question, Probe):
        return 8
    if len(heard) > 2:
        _check_count(question, heard[2])
    return question.data_bytes + 5


# ------------------------------------------------------------------------------------------------- TCP stream


def tcp_question(read: Read, transaction: int) -> bytes:
    """The frame to send; 12 bytes. `transaction`: 0 to 65535."""
    return _TCP.buildFrame(_request(read, transaction))


def tcp_answer(read: Read, transaction: int, frame: bytes) -> Answer:
    """What one whole frame (from `Frames`) answers. Raises CodecError when it is not the answer."""
    if int.from_bytes(frame[:2], "big") != transaction:
        raise LateError("the answer to an earlier question")
    if frame[6] != read.unit:
        raise UnitError(f"unit {frame[6]} speaks, unit {read.unit} was asked")
    _check_function(read, frame[7])
    refused = frame[7] & EXCEPTION
    if not refused:
        _check_count(read, frame[8])
    length = MBAP_BYTES + 2 + (0 if refused else read.data_bytes)
    if len(frame) != length:
        raise LengthError(f"{len(frame)} bytes, the answer has {length}")
    return _answer(read, _decode(_TCP, frame))


class Frames:
    """Cuts a TCP stream into frames. Holds less than one frame between calls."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The whole frames in what has come so far. Raises StreamError when there is no header."""
        rest, whole = self._rest + data, []
        while len(rest) >= MBAP_BYTES:
            end = _frame_end(rest)
            if len(rest) < end:
                break
            whole.append(rest[:end])
            rest = rest[end:]
        self._rest = rest
        return whole


def _frame_end(rest: bytes) -> int:
    protocol, length = int.from_bytes(rest[2:4], "big"), int.from_bytes(rest[4:6], "big")
    if protocol != 0:
        raise StreamError(f"not Modbus: protocol {protocol}")
    if length not in MBAP_LENGTHS:
        raise StreamError(f"not Modbus: a frame of {length} bytes")
    return 6 + length


# ------------------------------------------------------------------------------------------------------- both


def _request(question: Question, transaction: int) -> ModbusPDU:
    if isinstance(question, Probe):
        return ReturnQueryDataRequest(question.nonce.to_bytes(2, "big"), dev_id=question.unit)
    return _REQUESTS[question.function](
        dev_id=question.unit,
        transaction_id=transaction,
        address=question.address,
        count=question.count,
    )


def _check_function(question: Question, function: int) -> None:
    if function & ~EXCEPTION != question.function:
        raise FunctionError(f"function {function}, {question.function} was asked for")


def _check_count(read: Read, count: int) -> None:
    if count != read.data_bytes:
        raise LengthError(f"{count} bytes of data, {read.data_bytes} were asked for")


def _decode(framer: FramerBase, frame: bytes) -> ModbusPDU:
    """One whole frame."""
    try:
        _, pdu = framer.handleFrame(frame, 0, 0)
    except ModbusException as error:
        raise LengthError(f"no answer: {error}"[:100]) from error
    if pdu is None:
        raise CrcError("wrong CRC")
    return pdu


def _echo(probe: Probe, heard: bytes, sent: bytes) -> Answer:
    if heard != sent:
        raise EchoError("a probe came back changed")
    return Answer(probe)


def _answer(question: Question, pdu: ModbusPDU) -> Answer:
    if pdu.isError():
        if not pdu.exception_code:
            raise FunctionError("a refusal without a reason")
        return Answer(question, exception=pdu.exception_code)
    words = pdu.bits if question.function in BITS else pdu.registers
    return Answer(question, tuple(map(int, words[: question.count])))
