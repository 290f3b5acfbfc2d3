"""Input edge -> permit withdrawn and relay order written."""

from hil.bench.figures import Figure
from hil.bench.program import ProgramError
from hil.bench.rig import Rig
from hil.bench.samples import OURS, REFERENCE, SEED, Bound, Leg, Samples

ANSWER_S = 10.0
_LOADED = Figure(ratio={"p50": 1.5, "p99": 2.0, "p99.9": 2.0})
LEGS = (
    Leg("read", "读到输入", "edge read from the line"),
    Leg("withdrawn", "许可撤回", "permit withdrawn", loaded=_LOADED),
    Leg("written", "继电器指令写出", "relay order written", loaded=_LOADED),
    Leg("arrived", "指令到达节点", "relay order at the node"),
)
"""In the order in which node.c tells them."""


def measure(rig: Rig, bound: Bound, samples: Samples) -> None:
    """The harness alternates by itself; here its lines are taken, and a robot that stays stopped resumed."""
    rig.bring_up()
    rig.guardian.hang_up()
    rig.node.say(f"run {bound.count} {SEED}")
    ending = False
    while (words := rig.node.hear(ANSWER_S)) != ["done"]:
        if not words:
            raise ProgramError("node", f"said nothing for {ANSWER_S:g} s")
        _take(rig, words[0], words[1], words[2:], samples)
        if bound.over and not ending:
            ending = True
            rig.node.say("end")


def _take(rig: Rig, kind: str, who: str, times: list[str], samples: Samples) -> None:
    if kind == "sample":
        edge_ns, *effects = map(int, times)
        for leg, effect_ns in zip(LEGS, effects, strict=True):
            samples.add(leg.name, OURS if who == "ours" else REFERENCE, effect_ns - edge_ns)
        if who == "reference":
            samples.on_sample()
        return
    why = ", ".join(rig.causes()) if who == "ours" else who
    samples.incidents[f"{kind}: {why}"] += 1
    if (kind, who) == ("stuck", "ours"):
        rig.bring_up()
        rig.guardian.hang_up()
