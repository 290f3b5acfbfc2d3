"""Every word a guardian can meet is said in Chinese and in English."""

from collections.abc import Mapping

import pytest

from agent.core.causes import Clear
from agent.core.commands import Code
from agent.core.responses import Response
from console.show import RESULTS, STYLES
from console.texts import (
    CLEARS,
    CODES,
    RESPONSES,
    SILENT,
    SILENT_NO_STOP,
    STAGES,
    UNVERIFIED,
    Text,
    advice,
    of,
)

PROTOCOL_STAGES = {"accepted", "actuated", "verified", "refused", "failed"}


def test_the_tables_are_whole() -> None:
    assert set(CODES) == set(Code)
    assert set(RESPONSES) == {response.label for response in Response}
    assert set(CLEARS) == {clear.label for clear in Clear}
    assert set(STAGES) == set(STYLES) == PROTOCOL_STAGES | {"sent", "silent", "unverified"}
    assert set(RESULTS) == {0, 1, 3, 4}


@pytest.mark.parametrize("table", [RESPONSES, STAGES, CLEARS, RESULTS])
def test_every_text_is_in_both_languages(table: Mapping[object, Text]) -> None:
    for text in table.values():
        assert is_chinese(text.zh)
        assert text.en.isascii()


def test_every_code_says_what_to_do_in_both_languages() -> None:
    for row in (*CODES.values(), SILENT, SILENT_NO_STOP, UNVERIFIED):
        for text in (row.meaning, row.remedy):
            assert is_chinese(text.zh)
            assert text.en.isascii()
            assert text.en


def test_what_is_not_known_is_shown_as_it_came() -> None:
    assert advice("sulking") is None
    assert of(RESPONSES, "dance") == "dance"
    assert of(RESPONSES, "hold") == "暂停 hold"


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)
