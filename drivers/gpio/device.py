"""Lines of one GPIO chip as a device: contacts and relays (kernel uAPI v2, `gpiod` 2).

The stop path is `_on_readable`: the edges that are queued, bounded, each one judged, and `Host.changed`
called from within. Levels are read again at every tick, against edges that were lost. Nothing is decided.

A GPIO line sends no frames, so an input is STALE when its level cannot be read: the chip is gone, its line is
held by another process (the detail names it), or reading fails or was not tried for `stale_ms`. It is FAULT
while it chatters. `open` raises for none of this (`drivers.base.Device`): the chip may be plugged in, and the
line let go, later. Both are tried again with a bounded back-off, and a line held by somebody else, or another
chip at the path, is said through `Host.bad_input` as well, since that takes a person.

What cannot be seen from here: a wire that is shorted to the closed level, and a welded contact, read as
closed for ever. So may a broken wire, where a chip ignores the bias that was asked for. Two channels
(`line_b`) make each of them a discrepancy at the next press; with opposite polarity (`active_low_b`) also a
short between the two. What must be found before the next press needs a test pulse: `serial_contact` or a
safety node.

A relay line is released inactive. What it does after that, and in the time before the next request, is up to
the chip: the relay needs a resistor that keeps it open.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from agent.core.readings import NEVER_READ, Quality, Reading
from drivers.base import Host
from drivers.gpio.hold import Hold
from drivers.gpio.lines import LinesError
from drivers.gpio.relay import Relay

COUNTERS: Final = (
    "edges",
    "edges_lost",
    "edges_foreign",
    "looks_ahead",
    "reads_failed",
    "reopens",
    "storms",
    "writes_failed",
)


@dataclass(frozen=True, slots=True)
class Contact:
    """Where an input is seen, and how old that may get."""

    hold: Hold
    stale_ns: int


class GpioChip:
    """The lines that a plan uses of one chip. De-energised at first, and after a loss until ordered anew."""

    def __init__(
        self,
        path: str,
        *,
        holds: Iterable[Hold],
        inputs: Mapping[str, Contact],
        outputs: Mapping[str, Relay],
        counters: dict[str, int],
        host: Host,
    ) -> None:
        """`holds`: each once, also those that inputs and outputs share. `counters`: `COUNTERS`, from 0."""
        self.name = f"gpio {path}"
        self.counters = counters
        self._holds = tuple(holds)
        self._inputs = inputs
        self._outputs = outputs
        self._host = host
        self._closed = False
        self._untold = False

    # The chip ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        if self._closed:
            return
        for hold in self._holds:
            self._connect(hold, self._host.now_ns())

    def tick(self, now_ns: int) -> None:
        if self._closed:
            return
        before = self._visible(now_ns)
        for relay in self._outputs.values():
            self._write(relay, now_ns, relay.beat)
        for hold in self._holds:
            self._attend(hold, now_ns)
        if self._visible(now_ns) != before:
            self._untold = True
        self._tell()

    def close(self) -> None:
        self._closed = True
        for relay in self._outputs.values():  # before anything is given back
            self._drop(relay)
        for hold in self._holds:
            self._let_go(hold, "closed")

    def _attend(self, hold: Hold, now_ns: int) -> None:
        if hold.lines.is_open:
            hold.sight.turn_over()
            self._watch(hold)
            self._look(hold, now_ns)
        elif now_ns >= hold.retry_ns:
            self._connect(hold, now_ns)
            self.counters["reopens"] += hold.lines.is_open

    def _connect(self, hold: Hold, now_ns: int) -> None:
        try:
            hold.lines.open()
        except LinesError as error:
            if error.misused and error.reason != hold.away:
                self._host.bad_input(self.name, error.reason)
            hold.away = error.reason
            hold.put_off(now_ns)
            return
        hold.session += 1
        hold.away = ""
        hold.sight.begin()
        self._look(hold, now_ns)
        self._watch(hold)

    def _look(self, hold: Hold, now_ns: int) -> None:
        try:
            levels = hold.lines.levels()
        except LinesError as error:
            self.counters["reads_failed"] += 1
            hold.failure = error.reason
            if error.gone:
                self._lose(self._holds, error, now_ns)
            return
        hold.looked(levels, now_ns)

    def _watch(self, hold: Hold) -> None:
        if hold.lines.is_open and not hold.watched:
            hold.watched = True
            self._host.watch(hold.lines.fileno(), partial(self._on_readable, hold))

    def _unwatch(self, hold: Hold) -> None:
        if hold.watched:
            hold.watched = False
            self._host.unwatch(hold.lines.fileno())

    def _lose(self, holds: Iterable[Hold], error: LinesError, now_ns: int) -> None:
        """The lines are gone. They come back de-energised: only a new order closes a relay again."""
        self._untold = True
        for hold in holds:
            if hold.lines.is_open:
                self._let_go(hold, error.reason)
                hold.put_off(now_ns)

    def _let_go(self, hold: Hold, reason: str) -> None:
        for relay in self._outputs.values():
            if relay.hold is hold:
                self._drop(relay)
        hold.away = reason
        hold.sight.lose()
        self._unwatch(hold)
        hold.lines.release()

    def _drop(self, relay: Relay) -> None:
        try:
            relay.drop()
        except LinesError as error:
            self.counters["writes_failed"] += not error.gone  # a chip that is gone drives nothing

    def _tell(self) -> None:
        """Lines lost within `order` are told here, at the next tick: the module was acting just then."""
        if self._untold:
            self._untold = False
            self._host.changed()

    # What the lines show ----------------------------------------------------------------------------------

    def reading(self, input_name: str, now_ns: int) -> Reading:
        contact = self._inputs[input_name]
        sight = contact.hold.sight
        if sight.levels is None:
            return replace(NEVER_READ, detail=contact.hold.silence())
        quality, detail = _quality(contact, now_ns)
        first, *rest = sight.levels
        return Reading(
            value=first,
            second=rest[0] if rest else None,
            taken_ns=sight.taken_ns,
            quality=quality,
            detail=detail,
        )

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        return self._outputs[output_name].readback(now_ns)

    def _visible(self, now_ns: int) -> tuple[object, ...]:
        """Whatever of the lines a reading or a read-back shows, ages and words apart."""
        contacts = self._inputs.values()
        shown = [(contact.hold.sight.levels, _quality(contact, now_ns)[0]) for contact in contacts]
        return (*shown, *(relay.readback(now_ns) for relay in self._outputs.values()))

    def _on_readable(self, hold: Hold) -> None:
        now_ns = self._host.now_ns()
        try:
            events = hold.lines.edges()
        except LinesError as error:
            self._lose(self._holds if error.gone else (hold,), error, now_ns)
            self._tell()
            return
        session = hold.session
        for _ in hold.sight.take(events, now_ns):
            self._host.changed()
            if hold.session != session or not hold.lines.is_open:  # `changed` led to the end of it
                return
        for trouble in hold.sight.troubles():
            self._host.bad_input(self.name, trouble)
        if hold.sight.crowded:
            self._unwatch(hold)  # until the next tick, so that one line cannot have the loop to itself

    # What they are told -----------------------------------------------------------------------------------

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        relay = self._outputs[output_name]
        if not self._closed:
            self._write(relay, now_ns, partial(relay.order, energise))

    def _write(self, relay: Relay, now_ns: int, act: Callable[[int], None]) -> None:
        """Nothing while the line is away: it comes back de-energised, and orders are given at every turn."""
        if not relay.hold.lines.is_open:
            return
        try:
            act(now_ns)
        except LinesError as error:
            self.counters["writes_failed"] += 1
            if error.gone:
                self._lose(self._holds, error, now_ns)


def _quality(contact: Contact, now_ns: int) -> tuple[Quality, str]:
    hold = contact.hold
    silence = "" if hold.is_known(contact.stale_ns, now_ns) else hold.silence()
    if hold.sight.noisy:
        # Silence mends nothing: what chattered when it was last seen stays broken.
        return Quality.FAULT, f"chatters{silence and ', then '}{silence}"
    return (Quality.STALE, silence) if silence else (Quality.GOOD, "")
