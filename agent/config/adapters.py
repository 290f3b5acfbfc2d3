"""The plan's robot adapters and protocols against the adapters' own rules."""

from collections.abc import Iterator

from agent.config.errors import Problem
from agent.config.model import PlanModel, ProtocolModel
from agent.core.plan import DeviceSpec, Protocol, ProtocolStep
from agent.core.responses import by_label
from drivers.adapters import registry
from drivers.base import SettingsError

LINK = "link"
"""The adapter every plan has without naming it: the robot's own software, over the robot link."""
STOP_STEPS = {"virtual": ("stop_generation", "stop_transmission")}
"""What a robot of this kind is asked when a stop begins, unless the plan says; others: `stop_motion`."""
NETWORK = frozenset({"http"})
"""Adapters that `reflex` may not have: it never uses the network (DESIGN, "Processes")."""
REFLEX_ONLY = frozenset({LINK})
"""Adapters that only `reflex` can have: the robot link is its own."""


def check_adapters(model: PlanModel) -> tuple[dict[str, DeviceSpec], list[Problem]]:
    """Every adapter that is good by itself, and what is wrong with the others and with the protocols."""
    specs = {LINK: DeviceSpec(LINK, registry.check_adapter(LINK, {}))}
    problems: list[Problem] = []
    for name, item in model.adapters.items():
        try:
            settings = registry.check_adapter(item.driver, dict(item.model_extra or {}))
        except SettingsError as error:
            problems.append(Problem(f"adapters.{name}.{error.key}", error.bound))
        else:
            specs[name] = DeviceSpec(item.driver, settings)
    for protocol in model.protocol:
        problems += _check_protocol(protocol, specs)
    ids = [protocol.id for protocol in model.protocol]
    problems += [
        Problem(f"protocol.{name}", "two protocols have this id") for name in {*ids} if ids.count(name) > 1
    ]
    return specs, problems


def _check_protocol(protocol: ProtocolModel, specs: dict[str, DeviceSpec]) -> Iterator[Problem]:
    for number, step in enumerate(protocol.steps):
        key = f"protocol.{protocol.id}.steps.{number}"
        spec = specs.get(step.adapter)
        if spec is None:
            yield Problem(
                f"{key}.adapter", f"no adapter is named {step.adapter!r}; known are {', '.join(specs)}"
            )
            continue
        wrong = NETWORK if protocol.channel == "reflex" else REFLEX_ONLY
        if spec.driver in wrong:
            other = "remote" if protocol.channel == "reflex" else "reflex"
            yield Problem(f"{key}.adapter", f'{spec.driver!r} needs channel = "{other}" for this protocol')
        try:
            registry.check_args(spec.driver, step.args)
        except SettingsError as error:
            yield Problem(f"{key}.args.{error.key}", error.bound)


def protocols_of(model: PlanModel) -> tuple[Protocol, ...]:
    """The plan's protocols, or what a robot of its kind is asked where it names none."""
    if not model.protocol:
        words = STOP_STEPS.get(model.robot.kind, ("stop_motion",))
        steps = tuple(ProtocolStep(word, LINK, model.times.still_ms, {}) for word in words)
        return (Protocol("stop", by_label("hold"), "reflex", steps),)
    return tuple(
        Protocol(
            id=given.id,
            response=by_label(given.response),
            channel=given.channel,
            steps=tuple(ProtocolStep(s.step, s.adapter, s.deadline_ms, dict(s.args)) for s in given.steps),
        )
        for given in model.protocol
    )
