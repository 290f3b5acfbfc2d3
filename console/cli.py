"""`guardian`: the command line of the people who look after robots (PROTOCOL 7)."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.live import Live

from agent.core.responses import Response, by_label
from agent.core.trust import EVERYONE, is_name
from agent.errors import WardenError
from console.board import Board
from console.errors import DONE, FAILED, ConsoleError
from console.keys import new_recipient, new_signer
from console.options import AsJson, Setup, with_setup
from console.session import ANSWER_TIMEOUT_S, STOP_TIMEOUT_S, Session
from console.show import Show, ShowJson, ShowText
from console.texts import SILENT
from console.told import STATE_FRESH_S, Stage, Update, outcome

MAX_REASON = 500
UNKNOWN_GROUP = "信任文件中该组没有机器人 the trust file has no robot in this group: none is waited for"
OLD_STATE = "状态过旧，机器人可能离线 this state is old: the robot may be off or cut off"
RETRIES = 3
MAX_PORT = 65535
app = typer.Typer(
    name="guardian",
    help="监护人控制台 Stop, pause and resume robots, and see what they do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Strength(StrEnum):
    """How a robot is stopped."""

    HOLD = Response.HOLD.label
    SAFE_MODE = Response.SAFE_MODE.label
    EMERGENCY_STOP = Response.EMERGENCY_STOP.label


def _robot(value: str) -> str:
    if not is_name(value):
        raise typer.BadParameter("must be 1 to 64 of A-Z a-z 0-9 _ . : -")
    return value


def _optional_name(value: str | None) -> str | None:
    return None if value is None else _robot(value)


def _robots(values: list[str] | None) -> list[str]:
    return [_robot(value) for value in values or []]


def _host_port(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise typer.BadParameter(f"must be host:port, with a port up to {MAX_PORT}")
    return host.strip("[]"), int(port)


def _address(value: str | None) -> str | None:
    if value is not None:
        _host_port(value)
    return value


def _reason(value: str) -> str:
    if len(value) > MAX_REASON:
        raise typer.BadParameter(f"at most {MAX_REASON} characters")
    return value


Robot = Annotated[str, typer.Argument(metavar="ROBOT", help="Robot id 机器人编号.", callback=_robot)]
MaybeRobot = Annotated[
    str | None, typer.Argument(metavar="ROBOT", help="Robot id 机器人编号.", callback=_optional_name)
]
Group = Annotated[
    str | None, typer.Option(help="A group instead of one robot 一组机器人.", callback=_optional_name)
]
Everyone = Annotated[bool, typer.Option("--all", help="Every robot 所有机器人.")]
Reason = Annotated[str, typer.Option(help="Why, for the record 理由.", callback=_reason)]
Timeout = Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds to wait for answers.")]


@app.command()
def keygen(
    kid: Annotated[str, typer.Argument(help="The name of your key, such as g.li.", callback=_robot)],
    folder: Annotated[Path, typer.Option("--dir", help="Where the files go.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    recipient: Annotated[
        bool, typer.Option("--recipient", help="A pair that opens sealed logs, not one that signs 日志密钥.")
    ] = False,
    suite: Annotated[
        int | None, typer.Option(min=1, max=2, help="Of a recipient: 1 X25519 (default), 2 SM2 国密.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key pair, and print the public half for the department 生成密钥."""
    if suite is not None and not recipient:
        raise typer.BadParameter("--suite goes with --recipient")
    show = _show(as_json)
    try:
        if recipient:
            pair = new_recipient(folder, kid, suite or 1, overwrite=force)
        else:
            pair = new_signer(folder, kid, overwrite=force)
    except WardenError as error:
        _end_with(show, error)
    if as_json:
        files = {"private": str(pair.private), "public": str(pair.public)}
        typer.echo(json.dumps({"kid": kid, **files, "jwk": pair.jwk}))
    else:
        typer.echo(json.dumps(pair.jwk))
        typer.echo(f"guardian: {pair.advice}", err=True)


@app.command()
@with_setup
def stop(
    setup: Setup,
    robot: MaybeRobot = None,
    group: Group = None,
    everyone: Everyone = False,
    response: Annotated[Strength, typer.Option(help="How 停车方式.")] = Strength.EMERGENCY_STOP,
    reason: Reason = "",
    timeout: Timeout = STOP_TIMEOUT_S,
) -> None:
    """Stop a robot, a group or all, and wait until standstill is seen 停车."""
    _stop(setup, _target(robot, group, everyone), by_label(response.value), reason, timeout)


@app.command()
@with_setup
def hold(
    setup: Setup,
    robot: MaybeRobot = None,
    group: Group = None,
    everyone: Everyone = False,
    reason: Reason = "",
    timeout: Timeout = STOP_TIMEOUT_S,
) -> None:
    """Pause under power: `stop --response hold` 暂停."""
    _stop(setup, _target(robot, group, everyone), Response.HOLD, reason, timeout)


@app.command()
@with_setup
def resume(
    setup: Setup,
    robot: Robot,
    reason: Reason = "",
    retry: Annotated[bool, typer.Option("--retry", help="Try again when the state moved meanwhile.")] = False,
    timeout: Timeout = ANSWER_TIMEOUT_S,
) -> None:
    """Show why a robot is stopped, and let it run again if nothing stands before it 恢复."""

    async def work(show: Show) -> int:
        async with Session(setup.profile()) as session:
            _warn(show, session)
            state = await session.state(robot, timeout_s=timeout)
            show.state(state, session.now_s - state.iat)
            if session.now_s - state.iat > STATE_FRESH_S:
                show.warning(OLD_STATE)
            retries = RETRIES if retry else 0
            stages = session.resume(robot, state=state, reason=reason, timeout_s=timeout, retries=retries)
            return await _follow(show, "resume", stages)

    _run(setup, work)


@app.command()
@with_setup
def ping(setup: Setup, robot: Robot, timeout: Timeout = ANSWER_TIMEOUT_S) -> None:
    """Measure the way to a robot and back 测试连接."""

    async def work(show: Show) -> int:
        async with Session(setup.profile()) as session:
            _warn(show, session)
            return await _follow(show, "ping", session.ping(robot, timeout_s=timeout))

    _run(setup, work)


@app.command()
@with_setup
def watch(
    setup: Setup,
    robots: Annotated[
        list[str] | None, typer.Argument(metavar="ROBOT", help="None: all.", callback=_robots)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when each ROBOT's state was shown once.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="End after so many seconds.")] = None,
) -> None:
    """See states and events as they come, until Ctrl-C 实时查看."""
    if once and not robots:
        raise typer.BadParameter("--once needs the ids of the robots")

    async def work(show: Show) -> int:
        async with Session(setup.profile()) as session:
            _warn(show, session)
            if once:
                return await _once(show, session, robots or [], timeout or ANSWER_TIMEOUT_S)
            return await _watch(show, session, session.watch(robots or [], timeout_s=timeout))

    _run(setup, work, interrupted=DONE)


@app.command()
@with_setup
def witness(
    setup: Setup,
    state: Annotated[Path, typer.Option(help="Folder of what was witnessed 见证档案.", show_default=False)],
    robots: Annotated[
        list[str] | None, typer.Argument(metavar="ROBOT", help="None: all.", callback=_robots)
    ] = None,
    genesis: Annotated[
        list[Path] | None, typer.Option(help="A robot's registered genesis; for several, several times.")
    ] = None,
    silence_s: Annotated[
        float, typer.Option(min=1, max=604800, help="Alarm after so many seconds without an entry.")
    ] = 900.0,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve Prometheus there.", callback=_address)
    ] = None,
) -> None:
    """Keep what robots' ledgers say, and raise an alarm when one is rewritten or falls silent 见证."""
    from console.witness.command import Options
    from console.witness.command import witness as follow

    address = _host_port(metrics) if metrics else None
    options = Options(state, tuple(robots or ()), tuple(genesis or ()), silence_s, address)
    _run(setup, lambda _: follow(setup, options), interrupted=DONE)


@app.command()
@with_setup
def order(
    setup: Setup,
    out: Annotated[
        Path,
        typer.Option(help="The order goes here, a new file 指令文件.", readable=False, show_default=False),
    ],
    draft: Annotated[
        Path | None, typer.Argument(help="Of `warden log due` 草案.", readable=False, show_default=False)
    ] = None,
    release: Annotated[
        str | None, typer.Option(metavar="HOLD", help="End this hold instead 解除保留.", show_default=False)
    ] = None,
    robot: Annotated[
        str | None, typer.Option(help="Whose hold 机器人编号.", callback=_optional_name, show_default=False)
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the record 理由.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without a question.")] = False,
) -> None:
    """Sign an order to delete from a robot's log, or to end a hold, for the department 签发日志指令."""
    from console.order import read_draft, release_of, sign_order

    if (draft is None) == (release is None) or (release is None) != (robot is None):
        raise typer.BadParameter("give DRAFT, or --release with --robot")

    def agreed() -> bool:
        return yes or typer.confirm("签发 sign?", err=True)

    try:
        wanted = read_draft(draft) if draft is not None else release_of(robot or "", release or "")
        signed = sign_order(
            wanted,
            out,
            profile=setup.profile(),
            reason=reason,
            show=lambda line: typer.echo(line, err=True),
            agreed=agreed,
        )
    except WardenError as error:
        _end_with(_show(setup.as_json), error)
    if setup.as_json:
        typer.echo(json.dumps({"type": "order", **signed}))
    else:
        typer.echo(f"{out}: 已签发 signed by {signed['kid']}; on the robot: warden log {_next(signed)}")


def _next(signed: Mapping[str, object]) -> str:
    return f"{'hold --release' if 'hold' in signed else 'delete --order'} FILE --config PLAN"


def main() -> None:
    """The entry point of `guardian` and of `python -m console`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Chinese on a terminal that cannot show it must not end a stop with a traceback.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="guardian")


def _target(robot: str | None, group: str | None, everyone: bool) -> tuple[str | None, str]:
    """The robot, or None and the group."""
    if sum((robot is not None, group is not None, everyone)) != 1:
        raise typer.BadParameter("give one of ROBOT, --group and --all")
    return robot, group or EVERYONE


def _stop(
    setup: Setup, target: tuple[str | None, str], response: Response, reason: str, timeout_s: float
) -> None:
    async def send(show: Show) -> int:
        # A stop goes out even when nothing is there to believe the answer by.
        async with Session(setup.profile(), trust_required=False) as session:
            _warn(show, session)
            robot, group = target
            if robot is not None:
                stages = session.stop(robot, response=response, reason=reason, timeout_s=timeout_s)
            else:
                stages = session.stop_group(group, response=response, reason=reason, timeout_s=timeout_s)
                if not session.trust.members(group):
                    show.warning(f"{UNKNOWN_GROUP}: {group}")
            return await _follow(show, "stop", stages)

    async def work(show: Show) -> int:
        try:
            return await send(show)
        except (WardenError, asyncio.CancelledError):
            show.warning(str(SILENT.remedy))
            raise

    _run(setup, work)


async def _follow(show: Show, cmd: str, stages: AsyncIterator[Stage]) -> int:
    told = []
    async for stage in stages:
        show.stage(cmd, stage)
        told.append(stage)
    exit_code = outcome(told)
    show.result(cmd, told, exit_code)
    return exit_code


async def _once(show: Show, session: Session, robots: list[str], timeout_s: float) -> int:
    for robot in robots:
        state = await session.state(robot, timeout_s=timeout_s)
        show.state(state, session.now_s - state.iat)
    return DONE


async def _watch(show: Show, session: Session, updates: AsyncIterator[Update]) -> int:
    if not isinstance(show, ShowText) or not show.console.is_terminal:
        async for update in updates:
            show.update(update)
        return DONE
    board = Board(lambda: session.now_s)
    with Live(board, console=show.console, refresh_per_second=4):
        async for update in updates:
            if not board.take(update):
                show.update(update)
    return DONE


def _run(setup: Setup, work: Callable[[Show], Awaitable[int]], interrupted: int = FAILED) -> NoReturn:
    """Runs a command to its exit code; every error of ours becomes one line."""
    show = _show(setup.as_json)

    async def whole() -> int:
        return await work(show)

    try:
        exit_code = asyncio.run(whole())
    except KeyboardInterrupt:
        exit_code = interrupted
    except WardenError as error:
        _end_with(show, error)
    raise typer.Exit(exit_code)


def _end_with(show: Show, error: WardenError) -> NoReturn:
    exit_code = error.exit_code if isinstance(error, ConsoleError) else FAILED
    show.error(error, exit_code)
    raise typer.Exit(exit_code) from None


def _warn(show: Show, session: Session) -> None:
    for warning in session.warnings:
        show.warning(warning)


def _show(as_json: bool) -> Show:
    return ShowJson() if as_json else ShowText()
