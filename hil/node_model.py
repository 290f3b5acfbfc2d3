"""The safety node as a thing of its own: contacts, relay rule, clock and counters (PROTOCOL 4).

Pure: time is an argument (CLOCK_MONOTONIC, nanoseconds) and nothing here touches the world, so every
rule of the node can be tried without a line. `hil.node` puts a pseudo-terminal under it.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hil.node_codec import ENERGISE, Order, Splitter, Status

SILENCE_NS = 100_000_000
"""The relay opens when this long has passed without a good order."""
ECHO_WINDOW = 16
"""An order is good when its echo is one of this many latest `seq`: 160 ms of frames."""
FIRST_SEQ = 1
"""Not 0: an agent that has heard nothing yet echoes 0, and that must not pass for an answer."""
KEPT_TRANSITIONS = 64
CHANNELS = ("a", "b")

COUNTERS = (
    "orders_good",
    "orders_off",
    "orders_bad_echo",
    "packets_bad",
    "bytes_heard",
    "bytes_ignored",
)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of the relay. `why`: permitted, ordered, silence or reboot."""

    at_ns: int
    closed: bool
    why: str


@dataclass(slots=True)
class Contact:
    """One input's two normally-closed channels, a and b. `changed_ns`: when either last read differently."""

    name: str
    changed_ns: int
    pressed: bool = False
    cut: frozenset[str] = frozenset()
    welded: frozenset[str] = frozenset()

    def closed(self, channel: str) -> bool:
        """What the node reads there. A cut wire is in series with a welded contact, so it wins."""
        return channel not in self.cut and (channel in self.welded or not self.pressed)


class SafetyNode:
    """The node's program. Starts with every button released and its relay open."""

    def __init__(self, names: Sequence[str], now_ns: int, on_relay: Callable[[Transition], None]) -> None:
        """`names`: 1 to 16 inputs, bit i of the frames is names[i]. `on_relay` hears of each transition."""
        self.contacts = {name: Contact(name, now_ns) for name in names}
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.transitions: deque[Transition] = deque(maxlen=KEPT_TRANSITIONS)
        self.relay = False
        self.jammed = False
        self.deaf = False
        self.repeating = False
        self.faults = 0
        self.echo = 0
        self._on_relay = on_relay
        self._splitter = Splitter()
        self._sent: deque[int] = deque(maxlen=ECHO_WINDOW)
        self._next_seq = FIRST_SEQ
        self._booted_ns = now_ns
        self._good_ns = now_ns
        self._told: tuple[object, ...] = self._picture()

    # What the line brings ---------------------------------------------------------------------------------

    def hear(self, data: bytes, now_ns: int) -> None:
        """Bytes from the agent, in any pieces. The relay follows at once."""
        if self.deaf:
            self.counters["bytes_ignored"] += len(data)
            return
        self.counters["bytes_heard"] += len(data)
        for packet in self._splitter.feed(data):
            order = Order.from_packet(packet) if packet is not None else None
            if order is None:
                self.counters["packets_bad"] += 1
            else:
                self._obey(order, now_ns)

    def _obey(self, order: Order, now_ns: int) -> None:
        self.echo = order.seq
        if order.energise != ENERGISE:
            # Off needs no echo: the safe direction is open to any frame that is whole.
            self.counters["orders_off"] += 1
            self._switch(False, "ordered", now_ns)
        elif order.echo not in self._sent:
            self.counters["orders_bad_echo"] += 1
        else:
            self.counters["orders_good"] += 1
            self._good_ns = now_ns
            self._switch(True, "permitted", now_ns)

    # What time brings -------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Opens the relay when no good order came in time. To be called by `silence_at_ns` at the latest."""
        if self.relay and now_ns - self._good_ns >= SILENCE_NS:
            self._switch(False, "silence", now_ns)

    @property
    def silence_at_ns(self) -> int | None:
        """When `tick` will open the relay unless a good order comes; None while there is nothing to open."""
        return self._good_ns + SILENCE_NS if self.relay and not self.jammed else None

    # What the node says -----------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """True when contacts, relay or faults differ from the last frame: a frame is due at once."""
        return self._picture() != self._told

    @property
    def last_seq(self) -> int | None:
        """The `seq` of the latest frame; None before the first."""
        return self._sent[-1] if self._sent else None

    def next_frame(self, now_ns: int) -> bytes:
        """The next status frame. Counts as sent, whatever becomes of it on the line."""
        seq = self._next_seq
        if not self.repeating:
            self._next_seq = (seq + 1) & 0xFFFF
        if self.last_seq != seq:
            self._sent.append(seq)
        self._told = self._picture()
        return Status(
            seq=seq,
            node_ms=self.node_ms(now_ns),
            channel_a=self._bits("a"),
            channel_b=self._bits("b"),
            relay=self.relay,
            faults=self.faults,
            echo=self.echo,
        ).to_bytes()

    def node_ms(self, now_ns: int) -> int:
        """Milliseconds since the node's own start, modulo 2**32."""
        return (now_ns - self._booted_ns) // 1_000_000 & 0xFFFFFFFF

    def _bits(self, channel: str) -> int:
        return sum(contact.closed(channel) << i for i, contact in enumerate(self.contacts.values()))

    def _picture(self) -> tuple[object, ...]:
        return self._bits("a"), self._bits("b"), self.relay, self.faults

    # What a person or a test does to it -------------------------------------------------------------------

    def press(self, name: str, pressed: bool, now_ns: int) -> None:
        """Pushes the button in (True) or pulls it out; both contacts follow unless cut or welded."""
        contact = self.contacts[name]
        self._alter(contact, pressed, contact.cut, contact.welded, now_ns)

    def cut(self, name: str, channels: frozenset[str], now_ns: int) -> None:
        """Sets which of the input's wires are cut; the others are whole."""
        contact = self.contacts[name]
        self._alter(contact, contact.pressed, channels, contact.welded, now_ns)

    def weld(self, name: str, channels: frozenset[str], now_ns: int) -> None:
        """Sets which of the input's contacts are welded; the others move freely."""
        contact = self.contacts[name]
        self._alter(contact, contact.pressed, contact.cut, channels, now_ns)

    def _alter(
        self, contact: Contact, pressed: bool, cut: frozenset[str], welded: frozenset[str], now_ns: int
    ) -> None:
        before = [contact.closed(channel) for channel in CHANNELS]
        contact.pressed, contact.cut, contact.welded = pressed, cut, welded
        if [contact.closed(channel) for channel in CHANNELS] != before:
            contact.changed_ns = now_ns

    def set_deaf(self, deaf: bool) -> None:
        """Deaf: what arrives is thrown away unread, half a packet included."""
        self.deaf = deaf
        self._splitter.clear()

    def set_repeating(self, repeating: bool) -> None:
        """Repeating: every frame carries the same `seq`, as from a program stuck in its send loop."""
        self.repeating = repeating

    def set_jammed(self, jammed: bool) -> None:
        """Jammed: the relay's own contact is welded and stays where it is, whatever the coil does."""
        self.jammed = jammed

    def set_faults(self, faults: int) -> None:
        """The `faults` byte of the frames from now on."""
        self.faults = faults

    def skip(self, step: int) -> None:
        """The next frame's `seq` jumps ahead by `step` more than it would."""
        self._next_seq = (self._next_seq + step) & 0xFFFF

    def reboot(self, now_ns: int) -> None:
        """Power off and on: relay open, clock and `seq` from the start, everything heard forgotten."""
        self._switch(False, "reboot", now_ns)
        self._booted_ns = now_ns
        self._next_seq = FIRST_SEQ
        self._sent.clear()
        self._splitter.clear()
        self.echo = 0

    def _switch(self, closed: bool, why: str, now_ns: int) -> None:
        if self.jammed or closed == self.relay:
            return
        self.relay = closed
        transition = Transition(now_ns, closed, why)
        self.transitions.append(transition)
        self._on_relay(transition)
