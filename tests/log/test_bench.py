"""The benchmark measures what it says. How fast anything is, no test asks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hil.log.__main__ import main
from hil.log.bench import Row, shape, table
from hil.log.contenders import PLAIN, SQLITE, SUITE1, SUITE2, contenders, has_suite2, texts
from hil.log.measures import sizes
from hil.log.mix import RECORDS_PER_S, SAFETY_EVERY, Mix
from hil.log.reading import MB, reading


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mapping[str, Any]]:
    folder = tmp_path_factory.mktemp("bench")
    told = folder / "bench.json"
    command = ["bench", "--rounds", "1", "--mb", "1", "--folder", str(folder), "--json", str(told)]
    assert main(command) == 0
    assert list(folder.iterdir()) == [told], "nothing is left behind"
    return {row["name"]: row for row in json.loads(told.read_text())["results"]}


def test_every_figure_of_the_log_has_a_row(rows: Mapping[str, Mapping[str, Any]]) -> None:
    told = [row for row in rows.values() if row["reached"] is not None]
    asked = {row["name"]: row["at_least"] or row["at_most"] for row in told}
    assert set(asked.values()) >= {0.65, 1.5, 50, 5, 200, 100}
    assert (0.35 in asked.values()) == has_suite2()


def test_every_row_has_samples_and_the_load_beside_it(rows: Mapping[str, Mapping[str, Any]]) -> None:
    for row in rows.values():
        assert row["samples"] > 0
        assert row["p50"] > 0
        assert row["load"] >= 0


def test_reading_says_what_was_read(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """The figures are of the log's own bytes; what is written out has rows of its own."""
    for suite in (1, 2) if has_suite2() else (1,):
        told = {name: row["p50"] for name, row in rows.items() if name.startswith(f"suite {suite},")}
        verified, opened, both, json, records, _ = told.values()
        assert both < min(verified, opened)
        assert 150 < json / records * 1e6 < 400, "bytes of JSON a record has"


def test_a_log_is_read_whole(tmp_path: Path) -> None:
    found = reading(tmp_path, 1, 1, 1, lambda _: None)
    assert (found.code, found.open_code) == (0, 0)
    assert found.records % 20 == 0
    assert found.records > found.bytes / MB * 10_000
    assert found.told_bytes == found.bytes, "one segment: the part is all of it"


def test_a_frame_of_twenty_adds_what_the_format_says() -> None:
    for each in sizes(frames=3).values():
        assert each.overhead == pytest.approx(44 / 20 + 2)
        assert each.kept < each.json


def test_everybody_keeps_the_same_records(tmp_path: Path) -> None:
    records = Mix(1, 0).safety(3)
    with contenders(tmp_path) as everybody:
        assert {PLAIN, SQLITE, SUITE1} <= everybody.keys()
        assert (SUITE2 in everybody) == has_suite2()
        for commit in everybody.values():
            commit(records, texts(records))
    assert (tmp_path / "plain.jsonl").read_bytes() == (tmp_path / "json.jsonl").read_bytes()
    assert (tmp_path / "plain.jsonl").read_bytes() == b"".join(texts(records))


def test_a_second_of_the_mix() -> None:
    mix = Mix(1, 0)
    seconds = [mix.second(number) for number in range(SAFETY_EVERY)]
    for number, second in enumerate(seconds):
        assert len(second) == RECORDS_PER_S
        assert [record.stream for record in second].count("safety") == (number == 0)
        assert second[-1].stream == "tele"
    numbers = [record.seq for second in seconds for record in second if record.source == "remote"]
    assert len(set(numbers)) == len(numbers)
    assert [numbers[0], *sorted(numbers)[1:]] == sorted(numbers)


def test_a_shape_shows_where_the_samples_are() -> None:
    assert shape([1_000, 60_000]) == "█" + " " * 23
    assert shape([10**9]) == " " * 23 + "█"
    assert shape([50_000, 50_000, 500_000]) == "█       ▄" + " " * 15


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (Row("", "×", 1, 0.7, at_least=0.65), True),
        (Row("", "×", 1, 0.6, at_least=0.65), False),
        (Row("", "×", 1, 1.4, at_most=1.5), True),
        (Row("", "×", 1, 1.6, at_most=1.5), False),
        (Row("", "×", 1, 1.6), None),
    ],
)
def test_a_figure_is_reached_or_not(row: Row, reached: bool | None) -> None:
    assert row.reached is reached
    assert table([row]).row_count == 1
