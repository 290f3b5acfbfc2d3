"""What came out: one table per path for people, one object for machines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from hil.bench.figures import COLUMNS, Figure, ratios, summary
from hil.bench.paths import Path
from hil.bench.samples import OURS, REFERENCE, Leg, Samples

US, MS = 1_000, 1_000_000
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Result:
    """One path in one condition. `busy`: how many cores were kept busy; `load_average`: at its end."""

    path: Path
    busy: int
    load_average: Sequence[float]
    samples: Samples

    @property
    def condition(self) -> str:
        """As the table calls it."""
        return f"{self.busy} 核满载 busy cores" if self.busy else "空闲 idle"


@dataclass(frozen=True, slots=True)
class Line:
    """One leg of one result, worked out."""

    leg: Leg
    times: Mapping[str, Sequence[int]]
    """Who -> nanoseconds."""
    figure: Figure

    @property
    def summaries(self) -> dict[str, dict[str, int | None]]:
        """Who -> percentiles."""
        return {who: summary(samples) for who, samples in self.times.items() if samples}

    @property
    def ratio(self) -> dict[str, float | None]:
        """Ours to the reference's."""
        return ratios(self.summaries.get(OURS, {}), self.summaries.get(REFERENCE, {}))

    @property
    def reached(self) -> dict[str, bool | None]:
        """Column -> whether DESIGN's figure is reached there."""
        return self.figure.reached(self.summaries.get(OURS, {}), self.ratio)


def lines(result: Result) -> Iterator[Line]:
    """Every leg of one result, in order."""
    for leg in result.path.legs:
        times = {who: result.samples.legs.get((leg.name, who), []) for who in (OURS, REFERENCE)}
        yield Line(leg, times, leg.wanted(loaded=result.busy > 0))


# For people -----------------------------------------------------------------------------------------------


def table(path: Path, results: Sequence[Result]) -> Table:
    """Of one path, in every condition it was measured in."""
    reference = f"\n[dim]C: {path.reference}[/]" if path.reference else ""
    made = Table(
        title=f"{path.zh} {path.en}{reference}",
        title_justify="left",
        title_style="bold",
        caption_justify="left",
    )
    made.add_column("")
    made.add_column("")
    for name in (*COLUMNS, "n"):
        made.add_column(name, justify="right")
    for result in results:
        made.add_row(f"[bold]{result.condition}[/]", f"[dim]load {result.load_average[0]:.1f}[/]")
        for line in lines(result):
            _add_line(made, line)
        made.add_section()
    made.caption = "\n".join(map(_incidents, results)).strip() or None
    return made


def _incidents(result: Result) -> str:
    told = [f"{what} ({count})" for what, count in sorted(result.samples.incidents.items())]
    return f"[yellow]{result.condition}: {'; '.join(told)}[/]" if told else ""


def _add_line(made: Table, line: Line) -> None:
    heads = iter((line.leg.zh, line.leg.en))
    for who, found in line.summaries.items():
        cells = [_time(found[name]) for name in COLUMNS]
        made.add_row(next(heads, ""), who, *cells, str(len(line.times[who])))
    if len(line.summaries) > 1:
        cells = [_verdict(_times(line.ratio[name]), name, line) for name in COLUMNS]
        made.add_row(next(heads, ""), "warden / C", *cells)
    elif OURS in line.summaries and line.leg.figure.ratio:
        made.add_row(next(heads, ""), "[yellow]no C reference here / 无对照[/]")
    asked = [_bound(line.figure, name) for name in COLUMNS]
    if any(asked):
        cells = [_verdict(text, name, line) for text, name in zip(asked, COLUMNS, strict=True)]
        made.add_row(next(heads, ""), "[dim]to reach 目标[/]", *cells)


def _verdict(text: str, name: str, line: Line) -> str:
    colour = {True: "green", False: "red"}.get(line.reached.get(name) is True, "")
    return f"[{colour}]{text}[/]" if line.reached.get(name) is not None else text


def _time(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return NOTHING
    if nanoseconds < MS:
        return f"{nanoseconds / US:.0f} µs"
    return f"{nanoseconds / MS:.2f} ms" if nanoseconds < 100 * MS else f"{nanoseconds / MS:.0f} ms"


def _times(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f} ×"


def _bound(figure: Figure, name: str) -> str:
    parts = [
        *([f"≤ {figure.ratio[name]:g} ×"] if name in figure.ratio else []),
        *([f"≤ {figure.at_most_ns[name] / MS:g} ms"] if name in figure.at_most_ns else []),
    ]
    return ", ".join(parts)


# For machines ---------------------------------------------------------------------------------------------


def as_json(result: Result) -> dict[str, object]:
    """One result; times in nanoseconds, null where there are too few samples."""
    return {
        "path": result.path.name,
        "busy_cores": result.busy,
        "load_average": list(result.load_average),
        "reference": result.path.reference,
        "incidents": dict(result.samples.incidents),
        "legs": [_leg_json(line) for line in lines(result)],
    }


def _leg_json(line: Line) -> dict[str, object]:
    return {
        "leg": line.leg.name,
        "about": line.leg.en,
        "nanoseconds": {
            who: {**found, "samples": len(line.times[who])} for who, found in line.summaries.items()
        },
        "ratio": line.ratio,
        "to_reach": {"ratio": dict(line.figure.ratio), "at_most_ns": dict(line.figure.at_most_ns)},
        "reached": line.reached,
    }
