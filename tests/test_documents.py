"""What the documents point at is there: files, tests, make targets, built-in causes."""

import re
from pathlib import Path

import pytest

from agent.config import load_plan
from agent.core.causes import BUILT_INS, Clear
from agent.core.responses import Response

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SAFETY = (ROOT / "SAFETY.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")

LINK = re.compile(r"\]\(([^)#:]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
HAZARDS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in SAFETY.splitlines()
    if line.startswith("| ") and "---" not in line
][1:]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("document", ["README.md", "SAFETY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document: str) -> None:
    links = LINK.findall((ROOT / document).read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_opens_with_the_two_commands() -> None:
    assert re.findall(r"^\$ (make \w+)", README, re.MULTILINE)[:2] == ["make demo", "make test"]


def test_make_targets_that_are_named_exist() -> None:
    inline = " ".join(CODE.findall(FENCED.sub("", README)))
    named = set(re.findall(r"make ([a-z]+(?:-[a-z]+)*)", inline))
    assert named
    assert named <= targets()


def test_every_response_and_clear_condition_is_explained() -> None:
    explained = {cells[0] for line in README.splitlines() if (cells := CODE.findall(line))}
    assert {response.label for response in Response} <= explained
    assert {clear.label for clear in Clear} <= explained


def test_hazards_have_all_their_columns() -> None:
    assert len(HAZARDS) > 20
    assert [row[0] for row in HAZARDS if len(row) != 5 or not all(row)] == []


@pytest.mark.parametrize("row", HAZARDS, ids=lambda row: row[0][:40])
def test_a_hazard_names_tests_that_exist(row: list[str]) -> None:
    named = CODE.findall(row[-1])
    assert named
    for name in named:
        path, _, test = name.partition("::")
        source = ROOT / "tests" / path
        assert source.exists(), name
        assert not test or f"def {test}(" in source.read_text("utf-8"), name


def test_causes_that_safety_names_exist() -> None:
    known = {row.id for row in BUILT_INS}
    named = {
        word
        for row in HAZARDS
        for word in CODE.findall(" ".join(row[1:3]))
        if word.endswith(
            ("_lost", "_gone", "_hung", "_fault", "_stale", "_still", "_jump", "_unwell", "_host")
        )
    }
    assert named
    assert named <= known


def test_the_example_plan_is_in_order() -> None:
    plan = load_plan(ROOT / "config" / "plans" / "example.toml", offline=True)
    assert {output.channel for output in plan.outputs.values()} == {"reflex", "remote"}
