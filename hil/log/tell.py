"""What the three campaigns tell people and machines with: progress, tables, JSON."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hil.bench.environment import environment, load_average

__all__ = ["add_common", "counter", "load_average", "show", "whole", "write_json"]

WIDTH = 150
"""Of a table where nobody's terminal says otherwise."""


@contextmanager
def counter(words: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A line on standard error that counts, gone at the end; yields what adds to it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(words, total=total)
        yield lambda count: progress.advance(task, count)


def show(table: Table, about: Mapping[str, object]) -> None:
    """The table, and under it on what and with which load it was made."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    words = {**environment(), **about}
    console.print(
        "[dim]" + ", ".join(f"{key} {value}" for key, value in words.items() if value != "") + "[/]",
        soft_wrap=True,
    )


def write_json(path: Path, about: Mapping[str, object], results: Sequence[object]) -> None:
    """One object: `environment` and `results`."""
    told = {"environment": {**environment(), **about}, "results": results}
    path.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def add_common(parser: argparse.ArgumentParser, folder: Path | None = None) -> None:
    """`--folder` and `--json`."""
    beside = folder or Path(tempfile.gettempdir())
    parser.add_argument(
        "--folder", type=_folder, default=beside, help="temporary folders are made in it (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")


def _folder(text: str) -> Path:
    if not os.access(text, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"a folder that can be written to, not {text!r}")
    return Path(text)


def whole(least: int, most: int) -> Callable[[str], int]:
    """An argument's type: a whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return read
