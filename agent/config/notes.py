"""What is worth saying of a plan that is good: nothing is wrong, and someone may have meant otherwise."""

from collections.abc import Iterator

from agent.config.errors import Problem
from agent.core.plan import Plan

CHANNELS = ("reflex", "remote")


def notes(plan: Plan) -> Iterator[Problem]:
    """Key and words, Chinese beside English; none of them keeps a plan from being used."""
    named = {condition.input for condition in plan.conditions}
    for name in plan.inputs:
        if name not in named:
            yield Problem(f"inputs.{name}", UNNAMED)
    for channel in CHANNELS:
        if not any(spec.channel == channel for spec in plan.outputs.values()):
            yield Problem("outputs", f"{channel} {NO_OUTPUT}")


UNNAMED = (
    "no condition names it: it stops the robot when it is stale or faulty, and whatever it reads does nothing"
    " / 没有条件使用该输入：仅在失联或故障时停机，读数本身不起作用"
)
NO_OUTPUT = (
    "has no output of its own: only its permit holds the robot / 该通道没有自己的输出，仅由运行许可约束机器人"
)
