"""What the modules count, as one table (PROTOCOL 6), and the meter each of them counts with.

A module counts in its own `Meter` and sends `Meter.answer()` when monitor asks; only monitor knows
Prometheus. Standard library only: `reflex` imports this.
"""

from agent.metrics.meter import MAX_LABEL_CHARS, MAX_SERIES, OTHER, Meter, Snapshot
from agent.metrics.presets import (
    BAD_INPUT_SOURCES,
    CHANNELS,
    CODES,
    COMMANDS,
    REACTION_PATHS,
    STAGES,
    STREAMS,
    UNKNOWN_COMMAND,
    Presets,
    preset_all,
)
from agent.metrics.table import BY_NAME, METRICS, REACTION_BUCKETS, STAGE_BUCKETS, Kind, Metric

__all__ = [
    "BAD_INPUT_SOURCES",
    "BY_NAME",
    "CHANNELS",
    "CODES",
    "COMMANDS",
    "MAX_LABEL_CHARS",
    "MAX_SERIES",
    "METRICS",
    "OTHER",
    "REACTION_BUCKETS",
    "REACTION_PATHS",
    "STAGES",
    "STAGE_BUCKETS",
    "STREAMS",
    "UNKNOWN_COMMAND",
    "Kind",
    "Meter",
    "Metric",
    "Presets",
    "Snapshot",
    "preset_all",
]
