"""The sender's side alone: the recorder here is a server that the test answers for."""

import asyncio
import json
import math
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events import MAX_EXCERPT, MAX_RECORD, MAX_TEXT, WINDOW, EventSink
from agent.link import Message, Server, decode_packet
from tests.link.peers import MY_UID, OTHER_UID, Heard, python
from tests.waiting import wait_until

BOOT = "ab" * 16

FROZEN = """
import os, signal, socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.bind(sys.argv[1])
sock.listen()
accepted, _ = sock.accept()
os.kill(os.getpid(), signal.SIGSTOP)
"""


class Colour(IntEnum):
    RED = 3


class Word(StrEnum):
    STOP = "stop"


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError


class Recorder:
    """Hears events, and acknowledges when it is told to."""

    def __init__(self, path: Path) -> None:
        self.heard = Heard()
        self.server = Server(
            asyncio.get_running_loop(),
            path,
            allowed_uids=MY_UID,
            mode=0o600,
            max_packet=MAX_RECORD,
            on_open=self.heard.opened.append,
            on_message=self.heard.on_message,
            on_end=self.heard.ended.append,
            on_bad=self.heard.bad.append,
        )
        self.server.start()

    @property
    def events(self) -> list[Message]:
        return [message for message in self.heard.messages if message["type"] == "event"]

    @property
    def seqs(self) -> list[object]:
        return [event["seq"] for event in self.events]

    def send(self, message: Message) -> None:
        assert self.heard.opened[-1].send(message)

    def acknowledge(self, seq: int) -> None:
        self.send({"type": "ack", "seq": seq})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
async def recorder(path: Path) -> AsyncIterator[Recorder]:
    recorder = Recorder(path)
    yield recorder
    recorder.server.close()


def make_sink(path: Path, *, capacity: int = 4096, allowed_uids: frozenset[int] = MY_UID) -> EventSink:
    loop = asyncio.get_running_loop()
    return EventSink(loop, path, source="reflex", boot=BOOT, allowed_uids=allowed_uids, capacity=capacity)


@pytest.fixture
async def sink(path: Path) -> AsyncIterator[EventSink]:
    with closing(make_sink(path)) as sink:
        sink.start()
        yield sink


def queued(sink: EventSink) -> list[Message]:
    return [decode_packet(item.packet, MAX_RECORD) for item in (*sink._in_flight, *sink._unsent)]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One that never runs: for what `emit` does before anything goes out."""
    with closing(asyncio.new_event_loop()) as loop:
        yield loop


# ---- going out


async def test_hello_then_events_in_order(recorder: Recorder, sink: EventSink) -> None:
    sink.emit("trip", {"cause": "estop_pressed", "text": "急停"})
    sink.emit("sample", {"x_m": 1.5}, stream="tele")
    await wait_until(lambda: len(recorder.events) == 2)
    hello, first, second = recorder.heard.messages
    assert hello == {"type": "hello", "role": "reflex", "boot": BOOT, "pid": os.getpid()}
    assert first["body"] == {"cause": "estop_pressed", "text": "急停"}
    assert (first["seq"], first["kind"], first["stream"]) == (1, "trip", "safety")
    assert (second["seq"], second["kind"], second["stream"]) == (2, "sample", "tele")
    assert cast("int", first["boottime_ns"]) <= cast("int", second["boottime_ns"])
    assert set(first) == {"type", "seq", "stream", "kind", "wall_ns", "boottime_ns", "body"}
    assert sink.pending == 2


async def test_only_an_acknowledgement_makes_an_event_done(recorder: Recorder, sink: EventSink) -> None:
    for _ in range(5):
        sink.emit("e", {})
    await wait_until(lambda: len(recorder.events) == 5)
    assert sink.pending == 5
    assert sink.oldest_pending_boottime_ns == recorder.events[0]["boottime_ns"]
    recorder.acknowledge(3)
    await wait_until(lambda: sink.pending == 2)
    assert sink.oldest_pending_boottime_ns == recorder.events[3]["boottime_ns"]
    recorder.acknowledge(3)
    recorder.acknowledge(5)
    await wait_until(lambda: sink.pending == 0)
    assert sink.oldest_pending_boottime_ns is None
    assert sink._bytes == 0


async def test_no_more_than_the_window_is_in_flight(recorder: Recorder, sink: EventSink) -> None:
    for _ in range(WINDOW + 20):
        sink.emit("e", {})
    await wait_until(lambda: len(recorder.events) == WINDOW)
    assert (len(sink._in_flight), len(sink._unsent)) == (WINDOW, 20)
    recorder.acknowledge(10)
    await wait_until(lambda: len(recorder.events) == WINDOW + 10)
    assert len(sink._in_flight) == WINDOW
    assert recorder.seqs == list(range(1, WINDOW + 11))


async def test_what_was_not_acknowledged_goes_again_in_order(path: Path, sink: EventSink) -> None:
    sink.emit("before", {})
    first = Recorder(path)
    for _ in range(4):
        sink.emit("e", {})
    await wait_until(lambda: len(first.events) == 5)
    first.acknowledge(2)
    await wait_until(lambda: sink.pending == 3)
    first.server.close()
    await wait_until(lambda: not sink.connected)
    sink.emit("while away", {})
    second = Recorder(path)
    await wait_until(lambda: len(second.events) == 4)
    assert first.seqs == [1, 2, 3, 4, 5]
    assert second.seqs == [3, 4, 5, 6]
    assert second.events[0] == first.events[2]
    second.server.close()


async def test_the_answer_to_hello_spares_what_the_recorder_has(path: Path, sink: EventSink) -> None:
    first = Recorder(path)
    for _ in range(WINDOW + 40):
        sink.emit("e", {})
    await wait_until(lambda: len(first.events) == WINDOW)
    first.server.close()
    await wait_until(lambda: not sink.connected)
    second = Recorder(path)
    await wait_until(lambda: second.heard.opened)
    second.acknowledge(WINDOW)
    await wait_until(lambda: second.seqs[-1:] == [WINDOW + 40])
    assert sink.pending == 40
    second.server.close()


async def test_the_link_is_told_up_and_down(path: Path) -> None:
    told: list[bool] = []
    loop = asyncio.get_running_loop()
    with closing(
        EventSink(loop, path, source="x", boot=BOOT, allowed_uids=MY_UID, on_link=told.append)
    ) as sink:
        sink.start()
        recorder = Recorder(path)
        await wait_until(lambda: told == [True])
        assert sink.connected
        recorder.server.close()
        await wait_until(lambda: told == [True, False])


async def test_a_recorder_of_another_user_gets_nothing(recorder: Recorder, path: Path) -> None:
    with closing(make_sink(path, allowed_uids=OTHER_UID)) as sink:
        sink.emit("secret", {})
        sink.start()
        await wait_until(lambda: sink.refused)
        await wait_until(lambda: recorder.heard.ended)
    assert recorder.heard.messages == []
    assert not sink.connected


async def test_close_hands_over_what_the_kernel_takes(recorder: Recorder, sink: EventSink) -> None:
    await wait_until(lambda: sink.connected)
    for _ in range(50):
        sink.emit("e", {})
    sink.close()
    sink.close()
    sink.emit("late", {})
    await wait_until(lambda: recorder.heard.ended)
    assert recorder.seqs == list(range(1, 51))
    assert sink.lost["safety"] == 1


@pytest.mark.parametrize(
    "nonsense", [{"type": "ack"}, {"type": "ack", "seq": "1"}, {"type": "ack", "seq": True}, {"type": "x"}]
)
async def test_a_nonsensical_answer_is_counted_and_changes_nothing(
    recorder: Recorder, sink: EventSink, nonsense: Message
) -> None:
    sink.emit("e", {})
    await wait_until(lambda: recorder.events)
    recorder.send(nonsense)
    await wait_until(lambda: sink.refused == 1)
    assert sink.pending == 1
    recorder.acknowledge(10**9)
    await wait_until(lambda: sink.pending == 0)


# ---- a recorder that hangs, a queue that is full


async def test_a_frozen_recorder_holds_nobody_up(path: Path) -> None:
    """It stands still after accepting: the kernel's buffer fills, then our queue, then events are dropped."""
    process = python(FROZEN, path)
    with closing(make_sink(path, capacity=1000)) as sink:
        sink.start()
        await wait_until(lambda: sink.connected)
        for _ in range(3000):
            sink.emit("e", {"text": "a" * 500})
        await wait_until(lambda: sink._in_flight and sink._flush_handle is not None)
        await wait_until(lambda: isinstance(sink._flush_handle, asyncio.TimerHandle))
        assert len(sink._in_flight) < WINDOW
        assert sink.pending == 1000
        assert sink.lost["safety"] == 2000
        process.send_signal(signal.SIGKILL)
        await wait_until(lambda: not sink.connected)
        assert [event["seq"] for event in queued(sink)] == list(range(1, 1001))
    process.wait()


async def test_what_was_dropped_is_told_once_there_is_room(recorder: Recorder, path: Path) -> None:
    with closing(make_sink(path, capacity=16)) as sink:
        for _ in range(16):
            sink.emit("kept", {})
        for _ in range(3):
            sink.emit("dropped", {})
        sink.emit("dropped", {}, stream="tele")
        assert (sink.lost["safety"], sink.lost["tele"]) == (3, 1)
        sink.start()
        await wait_until(lambda: len(recorder.events) == 16)
        recorder.acknowledge(1)
        await wait_until(lambda: sink.pending == 15)
        sink.emit("dropped", {})  # an eighth is not free yet, so the range goes on
        assert sink.lost["safety"] == 4
        recorder.acknowledge(2)
        await wait_until(lambda: len(recorder.events) == 18)
        sink.emit("after", {})
        recorder.acknowledge(10)
        await wait_until(lambda: len(recorder.events) == 18)
    assert [event["kind"] for event in recorder.events[:16]] == ["kept"] * 16
    safety, tele = recorder.events[16:]
    assert (safety["kind"], safety["seq"], safety["stream"]) == ("loss", 22, "safety")
    assert safety["body"] == {"stream": "safety", "count": 4, "first_seq": 17, "last_seq": 21}
    assert (tele["seq"], tele["stream"]) == (23, "safety")
    assert tele["body"] == {"stream": "tele", "count": 1, "first_seq": 20, "last_seq": 20}


async def test_long_events_are_bounded_in_bytes_too(path: Path) -> None:
    with closing(make_sink(path, capacity=100)) as sink:
        for _ in range(100):
            sink.emit("e", {"text": "a" * 10_000})
        assert sink.lost["safety"] > 0
        assert sink._bytes <= 100 * 1024 + MAX_RECORD


async def test_events_after_a_loss_go_on_with_their_numbers(recorder: Recorder, path: Path) -> None:
    with closing(make_sink(path, capacity=8)) as sink:
        sink.start()
        for _ in range(12):
            sink.emit("e", {})
        await wait_until(lambda: len(recorder.events) == 8)
        recorder.acknowledge(8)
        await wait_until(lambda: len(recorder.events) == 9)
        sink.emit("e", {})
        await wait_until(lambda: len(recorder.events) == 10)
        recorder.acknowledge(14)
        await wait_until(lambda: sink.pending == 0)
    assert recorder.seqs == [*range(1, 9), 13, 14]
    assert [event["kind"] for event in recorder.events[8:]] == ["loss", "e"]


# ---- any body

bodies = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=10)
        | st.binary(max_size=10)
        | st.builds(object)
        | st.builds(Awkward)
        | st.complex_numbers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner)
            | st.dictionaries(
                st.text(max_size=2) | st.integers() | st.tuples(st.booleans()), inner, max_size=3
            )
            | st.frozensets(st.integers(), max_size=3)
        ),
        max_leaves=20,
    ),
    max_size=4,
)


@given(body=bodies, kind=st.text(max_size=100))
def test_any_body_becomes_a_packet_the_recorder_takes(body: dict[str, object], kind: str) -> None:
    with closing(asyncio.new_event_loop()) as loop:
        sink = EventSink(loop, Path("s"), source="x", boot=BOOT, allowed_uids=MY_UID)
        sink.emit(kind, body)
        (event,) = queued(sink)
    assert isinstance(event["body"], dict)
    assert len(event["body"]) <= len(body)
    assert sink.lost["safety"] == 0


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (2**64, "integer of 65 bits"),
        pytest.param(-(10**6_000), "integer of 19932 bits", id="huge"),
        (2**64 - 1, 2**64 - 1),
        (True, True),
        (Colour.RED, 3),
        (Word.STOP, "stop"),
        ((1, 2), [1, 2]),
        (b"\x00", "b'\\x00'"),
        (Path("a"), "PosixPath('a')"),
        ({1: {(2,): 3}}, {"1": {"(2,)": 3}}),
        ("\udcff急停", "?急停"),
        (ValueError("bad"), "ValueError('bad')"),
    ],
)
def test_values_that_json_cannot_carry_become_text(
    loop: asyncio.AbstractEventLoop, value: object, kept: object
) -> None:
    sink = EventSink(loop, Path("s"), source="x", boot=BOOT, allowed_uids=MY_UID)
    sink.emit("e", {"v": value})
    assert queued(sink)[0]["body"] == {"v": kept}


def test_a_repr_that_raises_or_has_no_end_is_no_harm(loop: asyncio.AbstractEventLoop) -> None:
    sink = EventSink(loop, Path("s"), source="x", boot=BOOT, allowed_uids=MY_UID)
    endless: dict[str, object] = {}
    endless["self"] = endless
    sink.emit("e", {"awkward": Awkward(), "long": bytes(10**6), "endless": endless})
    body = cast("dict[str, str]", queued(sink)[0]["body"])
    assert "Awkward" in body["awkward"]
    assert len(body["long"]) <= MAX_TEXT
    assert json.dumps(body["endless"]).count("self") == 8


def test_a_body_too_long_keeps_its_beginning(loop: asyncio.AbstractEventLoop) -> None:
    sink = EventSink(loop, Path("s"), source="x", boot=BOOT, allowed_uids=MY_UID)
    sink.emit("e", {"first": "here", "v": "\x01" * MAX_RECORD})
    body = cast("dict[str, object]", queued(sink)[0]["body"])
    assert body["truncated"] is True
    assert str(body["text"]).startswith("{'first': 'here'")
    assert len(str(body["text"])) == MAX_EXCERPT


def test_the_body_is_read_at_once(loop: asyncio.AbstractEventLoop) -> None:
    sink = EventSink(loop, Path("s"), source="x", boot=BOOT, allowed_uids=MY_UID)
    causes = ["estop_pressed"]
    body: dict[str, object] = {"causes": causes}
    sink.emit("trip", body)
    causes.append("later")
    body["more"] = 1
    assert queued(sink)[0]["body"] == {"causes": ["estop_pressed"]}


def test_an_unknown_stream_is_kept_as_safety_and_a_kind_is_shortened(
    loop: asyncio.AbstractEventLoop,
) -> None:
    sink = EventSink(loop, Path("s"), source="x", boot=BOOT, allowed_uids=MY_UID)
    sink.emit("k" * 1000, {}, stream="misspelt")
    (event,) = queued(sink)
    assert (event["stream"], event["kind"]) == ("safety", "k" * 64)


async def test_what_the_recorder_says_besides_goes_to_whoever_wants_it(
    sink: EventSink, recorder: Recorder
) -> None:
    told: list[Message] = []

    def hear(message: Message) -> bool:
        told.append(message)
        return message["type"] == "space"

    sink.on_message = hear
    await wait_until(lambda: sink.connected and recorder.heard.opened)
    recorder.send({"type": "space", "level": 4})
    recorder.send({"type": "nonsense"})
    await wait_until(lambda: len(told) == 2)
    assert told[0] == {"type": "space", "level": 4}
    assert sink.refused == 1


async def test_what_need_not_be_kept_goes_at_once_or_not_at_all(sink: EventSink, recorder: Recorder) -> None:
    assert not sink.offer({"type": "sample"})
    await wait_until(lambda: sink.connected)
    assert sink.offer({"type": "sample", "n": 1})
    sink.emit("e", {})
    assert not sink.offer({"type": "sample", "n": 2}), "an event that waits goes first"
    await wait_until(lambda: recorder.events)
    assert [message["n"] for message in recorder.heard.messages if message["type"] == "sample"] == [1]
