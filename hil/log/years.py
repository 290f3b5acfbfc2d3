"""`python -m hil.log years`: half a year of records with time compressed, one ordered deletion, and verify.

Two runs on the same machine. `full`: every second of a few days is written. `span`: 190 days and more, of
which one second in so many is written, so that days pass: rotation by age, a checkpoint and a receipt of the
witness every 300 s, retention, and a deletion under the department's order. What 190 days at full rate would
take is computed from the first.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from hil.log.robot import Robot, Span
from hil.log.tell import add_common, counter, load_average, show, whole, write_json
from hil.log.verdict import Verdict, verify_span

DAY_S = 86_400
SPAN_DAYS, SCALE = 200, 30
"""Ten days more than anything is kept, so that something may be deleted; one second of 30 is written."""
FULL_HOURS = 120
"""These two together take about a quarter of an hour on two busy cores."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand."""
    about = "190 days with time compressed, retention, one ordered deletion / 时间压缩的一百九十天"
    parser = commands.add_parser("years", help=about, description=about)
    parser.add_argument(
        "--hours", type=whole(0, 10**5), default=FULL_HOURS, help=f"at full rate ({FULL_HOURS})"
    )
    parser.add_argument("--days", type=whole(0, 10**4), default=SPAN_DAYS, help=f"thinned ({SPAN_DAYS})")
    parser.add_argument(
        "--scale", type=whole(1, 10**6), default=SCALE, help=f"one second of so many is written ({SCALE})"
    )
    parser.add_argument("--suite", type=int, choices=(1, 2), default=1)
    add_common(parser)
    parser.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """1 where verify does not say what is true of it."""
    spans = [
        Span("full", arguments.hours * 3600, 1),
        Span("span", arguments.days * DAY_S, arguments.scale),
    ]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        verdicts = [_run(Path(made) / span.name, span, arguments.suite) for span in spans if span.seconds]
    about: dict[str, object] = {"load_average": load_average()}
    show(table(verdicts), about)
    if arguments.json is not None:
        write_json(arguments.json, about, [verdict.as_dict() for verdict in verdicts])
    return 0 if all(verdict.good for verdict in verdicts) else 1


def _run(folder: Path, span: Span, suite: int) -> Verdict:
    begun_s = time.monotonic()
    with counter(f"{span.name}: {span.seconds // 3600} h", span.seconds // span.scale) as advance:
        robot = Robot(folder, span, suite, advance)
        written = robot.run()
    return verify_span(robot, written, time.monotonic() - begun_s)


def table(verdicts: Sequence[Verdict]) -> Table:
    """For people."""
    made = Table(title="时间压缩 time compressed", title_justify="left", title_style="bold")
    made.add_column("")
    for verdict in verdicts:
        made.add_column(verdict.title, justify="right")
    for name in verdicts[0].rows() if verdicts else ():
        made.add_row(name, *(verdict.rows()[name] for verdict in verdicts))
    made.caption = "* computed from what was measured in the same column; all else was measured"
    made.caption_justify = "left"
    return made
