"""asyncapi.yaml says what the code does: words, commands and their arguments come from the same tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import agent
from agent.core.causes import Clear
from agent.core.commands import COMMANDS, Code
from agent.core.responses import Response
from agent.metrics import STAGES

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "asyncapi.yaml").read_text("utf-8"))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
COMMAND_CLAIMS: dict[str, Any] = SCHEMAS["commandClaims"]


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(reference: str) -> object:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_every_reference_leads_somewhere() -> None:
    found = list(references(DOCUMENT))
    assert found
    assert [reference for reference in found if resolve(reference) is None] == []


def test_the_version_is_the_agents() -> None:
    assert DOCUMENT["info"]["version"] == agent.__version__


def test_words_are_those_of_the_tables() -> None:
    assert SCHEMAS["response"]["enum"] == [response.label for response in Response]
    assert SCHEMAS["cause"]["properties"]["clear"]["enum"] == [clear.label for clear in Clear]
    assert SCHEMAS["replyClaims"]["properties"]["stage"]["enum"] == list(STAGES)
    assert set(SCHEMAS["code"]["enum"]) == {code.value for code in Code}


def test_commands_are_those_of_the_table() -> None:
    assert set(COMMAND_CLAIMS["properties"]["cmd"]["enum"]) == set(COMMANDS)
    assert [row["properties"]["cmd"]["const"] for row in COMMAND_CLAIMS["oneOf"]] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_are_those_of_the_table(command: str) -> None:
    (row,) = (r for r in COMMAND_CLAIMS["oneOf"] if r["properties"]["cmd"]["const"] == command)
    args = row["properties"]["args"]
    rule = COMMANDS[command]
    assert set(args.get("properties", {})) == set(rule.args)
    assert set(args.get("required", [])) == {name for name, arg in rule.args.items() if arg.required}
    # What cannot be read in a stop counts as left out, so nothing there is refused.
    assert ("additionalProperties" in args) == (not rule.stops)
