"""Every metric that exists, one row each (PROTOCOL 6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from agent.processes import PROCESSES

Kind = Literal["counter", "gauge", "histogram"]

ANYONE: Final = frozenset(process.name for process in PROCESSES)
_REFLEX: Final = frozenset({"reflex"})
_REMOTE: Final = frozenset({"remote"})
_RECORDER: Final = frozenset({"recorder"})
_MONITOR: Final = frozenset({"monitor"})
_CHANNELS: Final = _REFLEX | _REMOTE

REACTION_BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0),
)
"""Seconds; PROTOCOL 6 gives the ends .0001 and 1, and the default ttl (0.1) is a bound."""
STAGE_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds; up to the longest `still_ms` a plan may allow a stop before it is verified."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    `name`: without the prefix `warden_`. `when_down`: what a gauge is taken for before it was ever set and
    while the module that reports it is down, so that no dashboard shows a dead module's permit; None: 0
    before, and its last value while the module is down. `by`: the modules that may report it; what another
    one says is not believed (`remote` faces the network and must not speak for `reflex`).
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    when_down: float | None = None
    by: frozenset[str] = ANYONE


_NEVER = "Unix time; 0 until it first happens."

METRICS: tuple[Metric, ...] = (
    # What runs here.
    Metric(
        "build_info",
        "gauge",
        "Always 1: version and source digest of the agent.",
        ("version", "digest", "robot_id"),
        by=_MONITOR,
    ),
    Metric("module_up", "gauge", "1 while the module is connected and answers.", ("module",), by=_MONITOR),
    Metric(
        "realtime",
        "gauge",
        "1 where the system granted it: fifo, memory_locked, collector_off.",
        ("module", "kind"),
    ),
    Metric(
        "loop_lag_seconds",
        "histogram",
        "How late a module's periodic turn began.",
        ("module",),
        REACTION_BUCKETS,
    ),
    # Permits and stops.
    Metric(
        "response",
        "gauge",
        "1 for the response in force in the channel, 0 for the others.",
        ("channel", "response"),
        by=_CHANNELS,
    ),
    Metric(
        "motion_permitted",
        "gauge",
        "1 while the channel permits motion; 0 when its module is down.",
        ("channel",),
        when_down=0,
        by=_CHANNELS,
    ),
    Metric(
        "power_permitted",
        "gauge",
        "1 while the channel permits power; 0 when its module is down.",
        ("channel",),
        when_down=0,
        by=_CHANNELS,
    ),
    Metric(
        "epoch",
        "gauge",
        "Stops and starts counted by the channel's permit; never falls.",
        ("channel",),
        by=_CHANNELS,
    ),
    Metric(
        "stops_total",
        "counter",
        "Stops by channel, first cause and response.",
        ("channel", "cause", "response"),
        by=_CHANNELS,
    ),
    Metric(
        "protocol_steps_total",
        "counter",
        "Steps of the response protocols, by how they ended: done, failed, late.",
        ("channel", "outcome"),
        by=_CHANNELS,
    ),
    Metric(
        "reaction_seconds",
        "histogram",
        "From what called for a stop to the permit withdrawn and the outputs ordered.",
        ("path",),
        REACTION_BUCKETS,
        by=_CHANNELS,
    ),
    # Inputs and the robot.
    Metric(
        "input_state",
        "gauge",
        "1 closed, that is safe (a quantity: believed); 0 open; -1 not known, which counts as a stop.",
        ("input",),
        when_down=-1,
        by=_REFLEX,
    ),
    Metric(
        "input_faults_total",
        "counter",
        "Times the input became stale, faulty or discrepant.",
        ("input",),
        by=_REFLEX,
    ),
    Metric("robot_beats_total", "counter", "Beats of the robot's own software.", by=_REFLEX),
    Metric(
        "robot_last_beat_timestamp_seconds",
        "gauge",
        f"Last beat of the robot's own software. {_NEVER}",
        by=_REFLEX,
    ),
    # People's commands.
    Metric(
        "commands_total",
        "counter",
        "Commands by name and result (accepted, or the code of the refusal).",
        ("cmd", "result"),
        by=_CHANNELS,
    ),
    Metric(
        "command_stage_seconds",
        "histogram",
        "From the packet read to each stage of its command.",
        ("cmd", "stage"),
        STAGE_BUCKETS,
        by=_CHANNELS,
    ),
    Metric(
        "mqtt_connected",
        "gauge",
        "1 while the guardian's link to the broker stands.",
        when_down=0,
        by=_REMOTE,
    ),
    Metric("mqtt_reconnects_total", "counter", "Connections to the broker after the first one.", by=_REMOTE),
    # Records.
    Metric("log_records_total", "counter", "Records made durable.", ("stream",), by=_RECORDER),
    Metric("log_lost_total", "counter", "Records that no room was left for.", ("stream",)),
    Metric("log_bytes", "gauge", "Bytes of the stream on the disk.", ("stream",), by=_RECORDER),
    Metric("log_last_commit_timestamp_seconds", "gauge", f"Last record made durable. {_NEVER}", by=_RECORDER),
    Metric(
        "log_oldest_timestamp_seconds", "gauge", f"Oldest record kept. {_NEVER}", ("stream",), by=_RECORDER
    ),
    Metric(
        "log_commit_seconds",
        "histogram",
        "From the write to the end of the sync, per commit.",
        buckets=REACTION_BUCKETS,
        by=_RECORDER,
    ),
    Metric("log_write_errors_total", "counter", "Commits that the disk refused.", by=_RECORDER),
    Metric("log_recovered_total", "counter", "Torn ends found and set aside at a start.", by=_RECORDER),
    Metric("log_incidents_total", "counter", "Stops recorded with what came before and after.", by=_RECORDER),
    Metric("log_ledger_entry", "gauge", "Number of the ledger's last entry.", by=_RECORDER),
    Metric(
        "log_witnessed_entry",
        "gauge",
        "Last ledger entry that a witness acknowledged; -1 for none.",
        by=_RECORDER,
    ),
    Metric(
        "log_witness_last_timestamp_seconds",
        "gauge",
        f"Last acknowledgement of a witness. {_NEVER}",
        by=_RECORDER,
    ),
    Metric(
        "log_state_sealed",
        "gauge",
        "1 when the ledger's signing state is kept by a sealed credential, 0 when by a key file beside it.",
        by=_RECORDER,
    ),
    Metric(
        "log_space_level",
        "gauge",
        "What a filling disk means now: 0 nothing, 1 alarm, 2 telemetry thinned, 3 none, 4 no new tasks, "
        "5 reserve only.",
        by=_RECORDER,
    ),
    Metric("log_space_free_ratio", "gauge", "Share of the log's disk that is free.", by=_RECORDER),
    # What goes bad with time, and what others send.
    Metric(
        "certificate_expiry_timestamp_seconds",
        "gauge",
        "End of the certificate's validity. Unix time; 0 when it could not be read.",
        ("name",),
        by=_REMOTE | _MONITOR,
    ),
    Metric(
        "clock_synchronised",
        "gauge",
        "1 while the kernel says that the wall clock is disciplined.",
        by=_MONITOR,
    ),
    Metric(
        "bad_input_total",
        "counter",
        "Frames, packets and tokens refused, by where they came in.",
        ("source",),
    ),
    # The host.
    Metric("host_cpu_seconds_total", "counter", "Processor time since boot.", ("mode",), by=_MONITOR),
    Metric("host_load1", "gauge", "Load average over 1 minute.", by=_MONITOR),
    Metric("host_load5", "gauge", "Load average over 5 minutes.", by=_MONITOR),
    Metric("host_load15", "gauge", "Load average over 15 minutes.", by=_MONITOR),
    Metric("host_memory_bytes", "gauge", "Memory of the host.", ("kind",), by=_MONITOR),
    Metric(
        "host_disk_size_bytes",
        "gauge",
        "Size of the file system behind the folder.",
        ("folder",),
        by=_MONITOR,
    ),
    Metric("host_disk_free_bytes", "gauge", "Room left there for ordinary users.", ("folder",), by=_MONITOR),
    Metric(
        "host_temperature_celsius",
        "gauge",
        "Temperature, where the host has a sensor.",
        ("sensor",),
        by=_MONITOR,
    ),
    Metric("host_boot_timestamp_seconds", "gauge", "When the host started. Unix time.", by=_MONITOR),
)

BY_NAME: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in METRICS})
