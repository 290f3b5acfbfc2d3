"""What the commands of `warden` share: exit codes, the plan, and how they speak (PROTOCOL 7)."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from agent.config import ConfigError, load_plan
from agent.core.plan import Plan

DONE, FAILED, USAGE, REFUSED, NO_ANSWER = range(5)


def path_option(*names: str, help: str) -> Any:  # noqa: A002, ANN401 - as typer's own
    """An option that takes a path, and leaves it to the command to say what is wrong with what is there.

    By default typer calls a file that may not be read wrong usage: 2, which `log verify` has for tampering.
    """
    return typer.Option(*names, help=help, readable=False, show_default=False)


Config = Annotated[Path, path_option("--config", "-c", help="The plan file. / 应急方案文件。")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Progress = Callable[[int, int], None]
"""Told bytes done, and bytes in all."""


def say(line: str) -> None:
    """One line on standard output."""
    sys.stdout.write(line + "\n")


def hint(line: str) -> None:
    """One line on standard error, that is no error: what goes with an answer that a program may read."""
    sys.stderr.write(f"{clean(line)}\n")


def clean(text: str) -> str:
    """What a terminal cannot obey and any encoding can carry: a log's content may be an attacker's."""
    return "".join(character if character.isprintable() else "?" for character in text)


def tell(told: Mapping[str, object], *, on_error: bool = False) -> None:
    """One JSON object on standard output; `on_error`: on standard error, as the output is the records'."""
    line = json.dumps(told, ensure_ascii=False)
    target = sys.stderr if on_error else sys.stdout
    target.write("".join(map(_escaped, line)) + "\n")


def _escaped(character: str) -> str:
    """JSON leaves some characters as they are that a terminal obeys; all of them stand inside strings."""
    return character if character.isprintable() else json.dumps(character)[1:-1]


def end(code: int, line: str, *, as_json: bool = False, on_error: bool = False) -> NoReturn:
    """Ends the command with one line about an error, or one object; `on_error` as in `tell`."""
    if as_json:
        tell({"error": line, "exit": code}, on_error=on_error)
    else:
        sys.stderr.write(f"warden: {'; '.join(map(clean, line.splitlines()))}\n")
    raise typer.Exit(code)


def load(
    path: Path, *, offline: bool = False, module: str = "", simulate: bool = False, as_json: bool = False
) -> Plan:
    """The checked plan; ends the command with REFUSED when there is none."""
    try:
        return load_plan(path, offline=offline, module=module, simulate=simulate)
    except ConfigError as error:
        end(REFUSED, str(error), as_json=as_json)


@contextmanager
def progress(title: str, *, shown: bool = True) -> Iterator[Progress | None]:
    """A bar on standard error, where somebody looks on; None where nobody does, or when not `shown`."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
