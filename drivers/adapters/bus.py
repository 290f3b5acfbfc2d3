"""A client's connection to a D-Bus message bus: calls out, replies back, all in the loop's callbacks.

jeepney marshals, parses and authenticates; here are the socket, the bounds and the end of the connection.
What is not well-formed the daemon itself does not let pass. Signals and calls from others are dropped:
this end only asks.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeAlias

# Neither library nor stubs of its makers say its types; everything of it stays inside this file.
import jeepney  # type: ignore[import-untyped]
import jeepney.auth  # type: ignore[import-untyped]

MAX_MESSAGE: Final = 1 << 20
"""Bytes in one message to us; D-Bus itself allows 128 MiB."""
MAX_UNSENT: Final = 1 << 18
"""Bytes that the bus has not taken yet; a call is some 200."""
MAX_CALLS: Final = 256
"""Calls without a reply."""
READ_BYTES: Final = 65_536
_ANY_PARSE_ERROR: Final = (
    ValueError,  # also AuthenticationError, struct and text that break D-Bus's rules
    AssertionError,
    ArithmeticError,
    LookupError,
    TypeError,
    RecursionError,
    struct.error,
)
"""What jeepney's parser raises for bytes that are no message: it has no error of its own."""


@dataclass(frozen=True, slots=True)
class Call:
    """One method call. `signature` and `body` as D-Bus writes them; a variant is (signature, value)."""

    destination: str
    path: str
    interface: str
    member: str
    signature: str = ""
    body: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: `error` is a D-Bus error's name, "" for none; `body` its values."""

    error: str
    body: tuple[Any, ...]


OnReply: TypeAlias = Callable[[Reply], None]
LOST: Final = "lost"
"""`error` of a reply that will never come because the connection ended. No D-Bus error has such a name."""


class Bus:
    """One connection, from `open` to its end; whoever wants another makes another.

    `on_end` hears once, with the reason, that it ended by itself; `close` ends it without a word.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        *,
        on_ready: Callable[[], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._path = path
        self._on_ready = on_ready
        self._on_end = on_end
        self._socket: socket.socket | None = None
        self._greeting = jeepney.auth.Authenticator()
        self._parser = jeepney.Parser()
        self._serials = count(1)
        self._calls: dict[int, OnReply] = {}
        self._unsent = bytearray()
        self._ended = False
        self.ready = False
        """True once the bus has given this connection its name: calls may be made."""

    def open(self) -> str:
        """Connect and begin to authenticate; the reason where that cannot be, "" otherwise. Never blocks."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(self._path)
        except OSError as error:  # a full queue too: EAGAIN
            sock.close()
            return f"{self._path}: {os.strerror(error.errno or 0)}"
        self._socket = sock
        self._loop.add_reader(sock.fileno(), self._readable)
        self._send(self._greeting.data_to_send())
        return ""

    def call(self, call: Call, on_reply: OnReply) -> int:
        """Send a call. `on_reply` hears once (LOST when not `ready`), unless `forget` or `close` is first."""
        if self.ready:
            return self._call(call, on_reply)
        on_reply(Reply(LOST, ()))
        return 0

    def forget(self, serial: int) -> None:
        """Whatever comes for this call is dropped."""
        self._calls.pop(serial, None)

    def close(self) -> None:
        """Idempotent."""
        self.ready = False
        self._calls.clear()
        self._unsent.clear()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None

    # ------------------------------------------------------------------------------------------ out

    def _call(self, call: Call, on_reply: OnReply) -> int:
        address = jeepney.DBusAddress(call.path, bus_name=call.destination, interface=call.interface)
        message = jeepney.new_method_call(address, call.member, call.signature or None, call.body)
        serial = next(self._serials)
        if len(self._calls) >= MAX_CALLS:
            self._fail("too many calls without a reply")
            on_reply(Reply(LOST, ()))
            return serial
        self._calls[serial] = on_reply
        self._send(message.serialise(serial))
        return serial

    def _send(self, content: bytes) -> None:
        self._unsent += content
        if len(self._unsent) > MAX_UNSENT:
            self._fail("the bus takes nothing any more")
        elif self._socket is not None:
            self._writable()

    def _writable(self) -> None:
        assert self._socket is not None  # noqa: S101 - the writer is removed when it closes
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(os.strerror(error.errno or 0))
            return
        if self._unsent:
            self._loop.add_writer(self._socket.fileno(), self._writable)
        else:
            self._loop.remove_writer(self._socket.fileno())

    # ------------------------------------------------------------------------------------------ in

    def _readable(self) -> None:
        assert self._socket is not None  # noqa: S101 - the reader is removed when it closes
        try:
            content = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(os.strerror(error.errno or 0))
            return
        if not content:
            self._fail("the bus closed the connection")
        elif self._greeting.authenticated:
            self._take(content)
        else:
            self._greet(content)

    def _greet(self, content: bytes) -> None:
        try:
            self._greeting.feed(content)
        except _ANY_PARSE_ERROR:
            self._fail("the bus refused this user, or is none")
            return
        self._send(self._greeting.data_to_send() or b"")
        if self._greeting.authenticated:
            self._send(jeepney.auth.BEGIN)
            bus = "org.freedesktop.DBus"
            self._call(Call(bus, "/org/freedesktop/DBus", bus, "Hello"), self._named)

    def _named(self, reply: Reply) -> None:
        if reply.error == LOST:
            return
        if reply.error:
            self._fail(f"the bus gave no name: {reply.error}")
        else:
            self.ready = True
            self._on_ready()

    def _take(self, content: bytes) -> None:
        for message in self._parse(content):
            if self._socket is None:  # a reply before this one ended it
                return
            self._hand_over(message)

    def _parse(self, content: bytes) -> list[Any]:
        try:
            self._parser.add_data(content)
            messages = list(iter(self._parser.get_next_message, None))
            too_long = self._parser.bytes_desired() > MAX_MESSAGE
        except _ANY_PARSE_ERROR:
            self._fail("the bus sent what is no message")
            return []
        if too_long:
            self._fail(f"the bus began a message of more than {MAX_MESSAGE} bytes")
        return messages

    def _hand_over(self, message: Any) -> None:  # noqa: ANN401 - jeepney's types are not known
        fields = message.header.fields
        on_reply = self._calls.pop(fields.get(jeepney.HeaderFields.reply_serial, 0), None)
        if on_reply is not None:
            failed = message.header.message_type is jeepney.MessageType.error
            name = str(fields.get(jeepney.HeaderFields.error_name, "an error")) if failed else ""
            on_reply(Reply(name, message.body))

    def _fail(self, reason: str) -> None:
        """It ended by itself: everyone who waits hears it, then the owner."""
        if self._ended:  # one of those who wait found something else wrong
            return
        self._ended = True
        calls = tuple(self._calls.values())
        self.close()
        for on_reply in calls:
            on_reply(Reply(LOST, ()))
        self._on_end(reason)
