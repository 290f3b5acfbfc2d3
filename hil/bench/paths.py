"""The table of paths that are measured (DESIGN, "Figures to reach")."""

from collections.abc import Callable
from dataclasses import dataclass

from hil.bench import estop, frozen, mqtt_stop, peer_killed
from hil.bench.rig import Rig
from hil.bench.samples import Bound, Leg, Samples


@dataclass(frozen=True, slots=True)
class Path:
    """One row. `samples`: how many by default; `weight`: its share of the time; `reference`: what C does."""

    name: str
    zh: str
    en: str
    reference: str
    legs: tuple[Leg, ...]
    samples: int
    weight: int
    measure: Callable[[Rig, Bound, Samples], None]


PATHS = (
    Path(
        "estop",
        "输入变化到停机",
        "input edge → stop",
        "C on epoll, its own pseudo-terminal: CRC, both contacts, permit, relay frame",
        estop.LEGS,
        1000,
        4,
        estop.measure,
    ),
    Path(
        "mqtt",
        "监护人停机指令到许可撤回",
        "guardian's stop published → stop",
        "libmosquitto, the same broker and bytes, nothing verified",
        mqtt_stop.LEGS,
        500,
        4,
        mqtt_stop.measure,
    ),
    Path(
        "peer",
        "另一模块被杀到许可撤回",
        "remote killed (SIGKILL) → stop",
        "C on pidfd and epoll",
        peer_killed.LEGS,
        25,
        5,
        peer_killed.measure,
    ),
    Path(
        "frozen",
        "模块冻结到机器人停机",
        "module frozen (SIGSTOP) → stop",
        "",
        frozen.LEGS,
        20,
        2,
        frozen.measure,
    ),
)
BY_NAME = {path.name: path for path in PATHS}
