"""`warden`: run, check, status, log, demo (PROTOCOL 7).

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 no answer in time. An error is one line naming the
file, the key and the bound; no traceback reaches a user.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli_parts import DONE, FAILED, NO_ANSWER, REFUSED, USAGE, Config, Json, end, load, say
from agent.config import ConfigError, load_plan
from agent.core.plan import Plan
from agent.errors import WardenError
from agent.log_cli import log_app
from agent.processes import PROCESSES

BROKERS = ("auto", "mosquitto", "embedded")
"""Of `warden demo`."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(log_app, name="log")


@app.command()
def run(
    config: Config,
    module: Annotated[
        str | None, typer.Argument(help="reflex, remote, recorder or monitor; all if left out.")
    ] = None,
    simulate: Annotated[
        bool, typer.Option(help="Every device simulated, with a panel to press and break. / 模拟所有设备。")
    ] = False,
) -> None:
    """Run the agent, or one module of it, in the foreground until SIGTERM (运行)."""
    from agent import launch

    if module is not None and module not in {row.name for row in PROCESSES}:
        end(USAGE, f"module: must be one of {', '.join(row.name for row in PROCESSES)}, not {module!r}")
    if module is not None and simulate:
        end(USAGE, "--simulate runs all four modules: name none")
    plan = load(config, module=module or "", simulate=simulate)
    if module in (None, "remote"):
        _check_trust(plan)
    if module is not None:
        launch.run_one(plan, module)
    raise typer.Exit(launch.run_all(plan, simulate=simulate))


def _check_trust(plan: Plan, *, as_json: bool = False) -> None:
    """Keys and trust, before anything starts: they must open, and the robot must be in the trust file."""
    from agent.config.rights import check_rights

    try:
        check_rights(plan)
    except WardenError as error:
        end(REFUSED, str(error), as_json=as_json)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The plan file. / 应急方案文件。")],
    offline: Annotated[
        bool, typer.Option(help="Leave out what only the robot can know: ports, keys, users.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a whole plan: every key, device, certificate and right (检查应急方案)."""
    from agent.config.notes import notes

    try:
        plan = load_plan(file, offline=offline)
    except ConfigError as error:
        if as_json:
            problems = [{"key": p.key, "bound": p.bound} for p in error.problems]
            say(json.dumps({"ok": False, "file": str(file), "problems": problems}, ensure_ascii=False))
        else:
            sys.stderr.write("".join(f"warden: {line}\n" for line in error.lines()))
        raise typer.Exit(REFUSED) from None
    if not offline:
        _check_trust(plan, as_json=as_json)
    about: dict[str, Any] = {
        "ok": True,
        "file": str(file),
        "robot_id": plan.robot.id,
        "digest": plan.digest,
        "inputs": sorted(plan.inputs),
        "outputs": sorted(plan.outputs),
        "conditions": len(plan.conditions),
        "notes": [{"key": note.key, "note": note.bound} for note in notes(plan)],
    }
    if as_json:
        say(json.dumps(about, ensure_ascii=False))
        return
    say(
        f"{file}: good / 通过: {plan.robot.id} {plan.robot.name}, risk {plan.robot.risk}, "
        f"sha256 {plan.digest[:16]}…"
    )
    say(f"  inputs {', '.join(plan.inputs) or 'none'}; outputs {', '.join(plan.outputs) or 'none'}")
    for note in notes(plan):
        say(f"  note: {note.key}: {note.bound}")


@app.command()
def status(config: Config, as_json: Json = False) -> None:
    """What the robot may do now, from the permits and the module links, with no network (当前状态)."""
    from agent import status as view

    plan = load(config, offline=True, as_json=as_json)
    seen = view.gather(plan)
    if as_json:
        say(json.dumps(seen, ensure_ascii=False))
    else:
        view.show(plan, seen)
    raise typer.Exit(DONE if any(m["alive"] for m in seen["modules"].values()) else NO_ANSWER)


@app.command()
def drop(
    config: Config,
    module: Annotated[
        str | None, typer.Argument(help="Only the outputs of reflex, or of remote; all if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """De-energise every output of a plan; systemd runs it after a module has ended (断开所有输出)."""
    from drivers.drop import drop as drop_outputs

    if module not in (None, "reflex", "remote"):
        end(USAGE, f"module: must be reflex or remote, not {module!r}", as_json=as_json)
    plan = load(config, offline=True, as_json=as_json)
    wanted = {n: spec.device for n, spec in plan.outputs.items() if module in (None, spec.channel)}
    dropped = drop_outputs(wanted)
    if as_json:
        told = {name: one.outcome.name.lower() for name, one in dropped.items()}
        say(json.dumps({"outputs": told}, ensure_ascii=False))
    else:
        for name, one in dropped.items():
            say(f"{name}: {one.outcome.value}{': ' if one.detail else ''}{one.detail}")
    raise typer.Exit(DONE if all(one.outcome.is_dropped for one in dropped.values()) else FAILED)


@app.command()
def tmpfiles(config: Config) -> None:
    """Print the tmpfiles.d lines of this robot: folders that root must own (see systemd/tmpfiles.d)."""
    from agent.processes import tmpfiles as lines

    plan = load(config, offline=True)
    say(lines(plan.robot.id, run_dir=Path(plan.run_dir), state_dir=Path(plan.state_dir)).rstrip())


@app.command()
def drivers(as_json: Json = False) -> None:
    """List the drivers with their settings: unit, range, default (驱动列表)."""
    from agent.listing import show_drivers
    from drivers.registry import describe

    rows = describe()
    if as_json:
        say(json.dumps({"drivers": rows}, ensure_ascii=False))
    else:
        show_drivers(rows)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Leave it running, with the commands to try.")] = False,
    broker: Annotated[str, typer.Option(help="auto, mosquitto or embedded.")] = "auto",
    as_json: Json = False,
) -> None:
    """The whole job, live, with simulated node and robot: under a minute (演示)."""
    from hil.demo import run_demo

    if broker not in BROKERS:
        end(USAGE, f"--broker: must be one of {', '.join(BROKERS)}, not {broker!r}", as_json=as_json)
    raise typer.Exit(run_demo(keep=keep, broker=broker, as_json=as_json))


def main() -> None:
    """Entry point."""
    try:
        app()
    except WardenError as error:
        sys.stderr.write(f"warden: {error}\n")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
