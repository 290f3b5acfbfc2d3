"""What a witness tells Prometheus (PROTOCOL 6): `http://<address>/metrics`, from a thread of its own."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from console.errors import ConsoleError
from console.witness.notices import Kind
from console.witness.record import Witness
from console.witness.service import WitnessService

LABELS: Final = ("robot_id",)
ALARMS: Final = tuple(kind.value.code for kind in Kind if kind.value.alarm)
"""Each is there from the start, at 0: of a series that begins at 1 Prometheus sees no increase."""


class MetricsError(ConsoleError):
    """The address cannot be listened on. `address`: host and port; `reason`: the system's words."""

    def __init__(self, address: tuple[str, int], reason: str) -> None:
        super().__init__(f"--metrics: {address[0]}:{address[1]}: cannot be listened on: {reason}")
        self.address = address
        self.reason = reason


class WitnessCollector(Collector):
    """Reads what the witness knows at the moment; it is asked from another thread, so it copies first."""

    def __init__(self, witness: Witness, service: WitnessService) -> None:
        self._witness = witness
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """All series."""
        service = self._service
        connected = GaugeMetricFamily("warden_witness_connected", "1 while the broker is connected.")
        connected.add_metric((), float(service.connected_since_s is not None))
        dropped = CounterMetricFamily("warden_witness_dropped", "Packets that came too fast to be kept.")
        dropped.add_metric((), service.dropped)
        refused = CounterMetricFamily(
            "warden_witness_not_kept", "What the witness's own disk did not take.", labels=("what",)
        )
        refused.add_metric(("entry",), self._witness.not_kept)
        refused.add_metric(("alarm",), self._witness.alarms.not_kept)
        free = GaugeMetricFamily(
            "warden_witness_space_free_ratio", "Share of the witness's disk that is free."
        )
        free.add_metric((), self._witness.free_ratio())
        yield from (connected, dropped, refused, free, *self._robots())

    def _robots(self) -> Iterator[Metric]:
        entry = GaugeMetricFamily("warden_witness_entry", "Last entry witnessed, -1 for none.", labels=LABELS)
        stamp = GaugeMetricFamily(
            "warden_witness_last_entry_timestamp_seconds", "When that was.", labels=LABELS
        )
        silent = GaugeMetricFamily("warden_witness_silent", "1 during a silence alarm.", labels=LABELS)
        lost = GaugeMetricFamily("warden_witness_unfollowed", "1 when its record is unusable.", labels=LABELS)
        alarms = CounterMetricFamily(
            "warden_witness_alarms", "Alarms, earlier starts' too.", labels=(*LABELS, "alarm")
        )
        counts = dict(self._witness.alarms.counts)
        for robot_id, robot in list(self._witness.robots.items()):
            head = robot.head
            entry.add_metric((robot_id,), -1 if head is None else head.n)
            stamp.add_metric((robot_id,), 0 if head is None else self._witness.wall_of(robot.since_s))
            silent.add_metric((robot_id,), float(robot.silent))
            lost.add_metric((robot_id,), float(bool(robot.trouble)))
            for code in ALARMS:
                alarms.add_metric((robot_id, code), counts[robot_id][code] if robot_id in counts else 0)
        yield from (entry, stamp, silent, lost, alarms)


def serve(collector: WitnessCollector, address: tuple[str, int]) -> int:
    """Begins to answer; the port (a free one for 0). Raises MetricsError."""
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, _ = start_http_server(address[1], address[0], registry)
    except OSError as error:
        raise MetricsError(address, error.strerror or str(error)) from None
    return int(server.server_port)
