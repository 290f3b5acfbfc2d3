"""Settings models in plain words."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from drivers.base import SettingsError
from drivers.checking import check, describe


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int = Field(ge=1, le=9, description="How big.")
    speed: Literal[1, 2, 4] = Field(default=2, description="How fast.")
    number: int = Field(default=0, alias="register", ge=0, le=5, description="Which one.")
    word: str = Field(
        default="a", pattern="^[a-z]$", description="A word.", json_schema_extra={"format": "a small letter"}
    )


class Boundless(BaseModel):
    size: int


@pytest.mark.parametrize(
    ("settings", "key", "bound"),
    [
        ({}, "size", "is missing; it must be a whole number from 1 to 9"),
        ({"size": 0}, "size", "must be a whole number from 1 to 9, is 0"),
        ({"size": 10}, "size", "must be a whole number from 1 to 9, is 10"),
        ({"size": "3"}, "size", "must be a whole number from 1 to 9, is '3'"),
        ({"size": True}, "size", "must be a whole number from 1 to 9, is True"),
        ({"size": 3.0}, "size", "must be a whole number from 1 to 9, is 3.0"),
        ({"size": 1, "speed": 3}, "speed", "must be one of 1, 2, 4, is 3"),
        ({"size": 1, "register": 6}, "register", "must be a whole number from 0 to 5, is 6"),
        ({"size": 1, "number": 3}, "number", "unknown key; known are size, speed, register, word"),
        ({"size": 1, "word": "A\n"}, "word", "must be a small letter, is 'A\\n'"),
        ({"size": 1, "word": "x" * 99}, "word", f"must be a small letter, is '{'x' * 58}…"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(settings: dict[str, object], key: str, bound: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check(Model, "thing", settings)
    assert (caught.value.kind, caught.value.key, caught.value.bound) == ("thing", key, bound)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("size", [1, 9])
def test_bounds_are_within(size: int) -> None:
    assert check(Model, "thing", {"size": size}) == {"size": size, "speed": 2, "register": 0, "word": "a"}


def test_describe() -> None:
    assert describe(Model) == [
        {
            "key": "size",
            "takes": "a whole number from 1 to 9",
            "required": True,
            "default": None,
            "description": "How big.",
        },
        {
            "key": "speed",
            "takes": "one of 1, 2, 4",
            "required": False,
            "default": 2,
            "description": "How fast.",
        },
        {
            "key": "register",
            "takes": "a whole number from 0 to 5",
            "required": False,
            "default": 0,
            "description": "Which one.",
        },
        {
            "key": "word",
            "takes": "a small letter",
            "required": False,
            "default": "a",
            "description": "A word.",
        },
    ]


def test_a_field_without_a_range_is_a_mistake_of_the_model() -> None:
    with pytest.raises(TypeError, match="without a range"):
        check(Boundless, "thing", {"size": "x"})
