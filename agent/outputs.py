"""One channel's outputs: energised to run, read back, and a read-back that disagrees is `output_fault`."""

from collections.abc import Iterator, Mapping

from agent.core.machine import Demand
from agent.core.plan import OutputSpec
from drivers.base import Device

UNSEEN_NS = 100_000_000
"""A node opens its relay by itself after 100 ms without us (PROTOCOL 4): so long may it be unseen."""


class Outputs:
    """The outputs of one channel. They follow the permit's power deadline (DESIGN, "Run permit")."""

    def __init__(
        self, specs: Mapping[str, OutputSpec], devices: Mapping[str, Device], started_ns: int
    ) -> None:
        self._specs = specs
        self._devices = devices
        self._ordered_ns = started_ns
        self._agreed_ns: dict[str, int] = {}
        self.energised = False

    def order(self, energise: bool, now_ns: int) -> None:
        """Orders every output; written at once where it changes, never blocks."""
        if energise != self.energised:
            self.energised = energise
            self._ordered_ns = now_ns
            self._agreed_ns.clear()
        for name, device in self._devices.items():
            device.order(name, energise, now_ns)

    def faults(self, now_ns: int, started_ns: int, grace_ns: int) -> Iterator[tuple[str, Demand]]:
        """`output_fault:<name>` for each output that does not do what it was told.

        A new order has its read-back time. Once the read-back has agreed, the first that says otherwise is a
        fault: a relay that opened by itself must not close by itself. One that is not to be had any more is
        one as soon as the relay may have opened by itself. An output that has not spoken yet right after the
        start is `starting`.
        """
        for name, spec in self._specs.items():
            back = self._devices[name].readback(name, now_ns)
            if back is self.energised:
                self._agreed_ns[name] = now_ns
            elif now_ns >= self._patience_ns(name, spec, back):
                if back is None and now_ns - started_ns < grace_ns and name not in self._agreed_ns:
                    yield "starting", Demand(detail=f"waiting for {name}")
                else:
                    yield f"output_fault:{name}", Demand(detail=f"reads back {_WORDS[back]}")

    def _patience_ns(self, name: str, spec: OutputSpec, back: bool | None) -> int:
        """Until when a read-back may be other than ordered."""
        agreed_ns = self._agreed_ns.get(name)
        if agreed_ns is None:
            return self._ordered_ns + spec.readback_ns
        return agreed_ns + UNSEEN_NS if back is None else agreed_ns

    def dropped(self, now_ns: int) -> bool:
        """Whether every output is read back de-energised."""
        return all(device.readback(name, now_ns) is False for name, device in self._devices.items())


_WORDS = {None: "nothing", True: "energised", False: "de-energised"}
