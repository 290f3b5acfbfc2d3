"""The label values that are known beforehand, and every series of one robot made from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

from agent.core.responses import Response, by_label
from agent.metrics.meter import Meter
from agent.metrics.table import METRICS
from agent.processes import PROCESSES
from agent.realtime import KINDS as REALTIME_KINDS

CHANNELS: Final = ("reflex", "remote")
STREAMS: Final = ("safety", "net", "tele")
REACTION_PATHS: Final = ("input", "robot", "peer", "command", "link")
"""What called for the stop: an input's edge, the robot's end or silence, the other module, a person's signed
command, the link to the guardian."""
COMMANDS: Final = (
    *("stop", "resume", "power_off", "request_maintenance", "maintenance", "suspend", "reinstate", "retire"),
    *("drill", "ping"),
)
UNKNOWN_COMMAND: Final = "unknown"
"""The label `cmd` of what was refused before its claims could be believed, or names no command."""
OUTCOMES: Final = ("done", "failed", "late")
STAGES: Final = ("accepted", "actuated", "verified", "refused", "failed")
CODES: Final = (
    *("malformed", "too_large", "unknown_key", "bad_signature", "revoked", "wrong_audience", "expired"),
    *("not_yet_valid", "replayed", "not_entitled", "training_expired", "stale_challenge", "wrong_epoch"),
    *("cause_active", "reset_needed", "reevaluation_needed", "same_person", "in_maintenance", "not_stopped"),
    *("retired", "rate_limited", "not_verified_in_time"),
)
"""PROTOCOL 3, in its order; with `accepted` the values of the label `result`."""
BAD_INPUT_SOURCES: Final = ("robot_link", "module_link", "mqtt", "http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presets:
    """The label values of one robot's series, so that each one exists from the start.

    `inputs`: names of the plan's inputs. `causes`: id of each cause -> label of its response (`safe_mode`);
    those that do not stop have no series. `certificates`: names for `certificate_expiry...`. `sources`: of
    bad input, beside `BAD_INPUT_SOURCES` (the plan's devices).
    """

    robot_id: str
    version: str
    digest: str
    causes: Mapping[str, str]
    inputs: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def preset_all(meter: Meter, presets: Presets) -> None:
    """Every series of the table whose labels are known beforehand; the host's come with its first sample."""
    for name, *labels in _known_series(presets):
        meter.preset(name, *labels)
    meter.set("build_info", 1, presets.version, presets.digest, presets.robot_id)


def _known_series(presets: Presets) -> Iterator[tuple[str, ...]]:
    values: dict[str, tuple[str, ...]] = {
        "channel": CHANNELS,
        "response": tuple(response.label for response in Response),
        "module": tuple(process.name for process in PROCESSES),
        "kind": REALTIME_KINDS,
        "path": REACTION_PATHS,
        "stream": STREAMS,
        "cmd": COMMANDS,
        "stage": STAGES,
        "outcome": OUTCOMES,
        "input": presets.inputs,
        "name": presets.certificates,
        "source": (*BAD_INPUT_SOURCES, *presets.sources),
    }
    for metric in METRICS:
        if not metric.name.startswith("host_") and metric.name not in _OWN_WAY:
            yield from ((metric.name, *row) for row in product(*(values[label] for label in metric.labels)))
    yield from (
        ("stops_total", channel, cause, response)
        for channel, (cause, response) in product(CHANNELS, presets.causes.items())
        if by_label(response).stops
    )
    yield from (
        ("commands_total", command, result)
        for command, result in product((*COMMANDS, UNKNOWN_COMMAND), ("accepted", *CODES))
        if (command, result) != (UNKNOWN_COMMAND, "accepted")
    )


_OWN_WAY = frozenset({"build_info", "stops_total", "commands_total"})
"""Not every combination of their label values can happen."""
