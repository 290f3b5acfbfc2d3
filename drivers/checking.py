"""Settings models turned into plain words: what a field takes, and which bound a plan broke.

The only shared file here that imports pydantic; the registry loads it when a plan is checked or described.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from drivers.base import SettingsError
from drivers.registry import FieldWords

_SHOWN = 60
"""Characters of a refused value that a message repeats: enough to find it, too few to fill a terminal."""


def check(model: type[BaseModel], kind: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The checked settings with defaults, JSON-able; raises SettingsError for the first key that is wrong."""
    try:
        return model.model_validate(dict(settings)).model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
    key = str(problem["loc"][0])
    raise SettingsError(kind, key, _reason(model, key, problem["type"], problem["input"]))


def describe(model: type[BaseModel]) -> list[FieldWords]:
    """One row per field, in the model's order."""
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return [
        {
            "key": key,
            "takes": _takes(field),
            "required": key in required,
            "default": field.get("default"),
            "description": field["description"],
        }
        for key, field in schema["properties"].items()
    ]


def _reason(model: type[BaseModel], key: str, problem: str, value: object) -> str:
    fields = model.model_json_schema()["properties"]
    if problem == "extra_forbidden":
        return f"unknown key; known are {', '.join(fields)}"
    takes = _takes(fields[key])
    if problem == "missing":
        return f"is missing; it must be {takes}"
    return f"must be {takes}, is {_shown(value)}"


def _takes(field: Mapping[str, object]) -> str:
    """Type and range of a field, from its JSON schema; `format` is the model's own words."""
    match field:
        case {"format": str(words)}:
            return words
        case {"enum": list(values)}:
            return f"one of {', '.join(map(str, values))}"
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"a whole number from {low} to {high}"
        case _:
            raise TypeError(f"a settings field without a range: {field}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
