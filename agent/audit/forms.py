"""JSON as the format has it, read strictly: a text has one meaning and, where it is signed, one spelling.

Everything raises FormatError and nothing else, whatever the bytes are.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from agent.audit.errors import FormatError
from agent.core.trust import decode_base64url

MAX_INT: Final = 2**63 - 1
"""Numbers are 64 bits wide in the writer; what is larger was not written by it."""
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_BOOT: Final = re.compile(r"[0-9a-f]{32}")
_MAX_SHOWN: Final = 60
_COMPACT: Final = (",", ":")
_SPACED: Final = (", ", ": ")


def read_object(data: bytes, *, floats: bool = False) -> dict[str, Any]:
    """One JSON object; refused: a field that stands twice, NaN, infinity, and fractions unless `floats`."""
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_constant=refuse,
            parse_float=float if floats else refuse,
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON as the format has it: {_short(error)}") from None
    if not isinstance(value, dict):
        raise FormatError("not a JSON object")
    return value


def read_canonical(data: bytes, *, spaces: bool = True) -> dict[str, Any]:
    """One JSON object as `json.dumps` spells it, with or without escapes and, where allowed, `spaces`."""
    value = read_object(data)
    for separators in (_COMPACT, _SPACED) if spaces else (_COMPACT,):
        for ascii_only in (False, True):
            if _spelled(value, separators, ascii_only=ascii_only) == data:
                return value
    raise FormatError("spelled in another way than the writer does (spaces, escapes or numbers)")


def _spelled(value: object, separators: tuple[str, str], *, ascii_only: bool) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()
    except (ValueError, RecursionError):
        return b""  # lone surrogates, which no writer could have put there


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def refuse(text: str) -> NoReturn:
    """For `json`: what it takes for a number and the format does not."""
    raise ValueError(f"{text[:_MAX_SHOWN]} is no number of the format")


def _short(error: BaseException) -> str:
    # A decoder's message may quote what it read, which is an attacker's text on its way to a terminal.
    return ascii(str(error) or type(error).__name__)[1:-1][:_MAX_SHOWN]


# ---- one value


Check = Callable[[object], bool]


def is_int(value: object) -> bool:
    """A whole number from 0 to 2^63 - 1."""
    return type(value) is int and 0 <= value <= MAX_INT


def is_text(value: object) -> bool:
    """Any text."""
    return isinstance(value, str)


def is_hash(value: object) -> bool:
    """32 bytes in lower-case hexadecimal."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def is_boot(value: object) -> bool:
    """16 bytes in lower-case hexadecimal."""
    return isinstance(value, str) and _BOOT.fullmatch(value) is not None


def as_bytes(value: object) -> bytes | None:
    """What a base64url text without padding stands for; None for all else."""
    return None if isinstance(value, str) and "=" in value else decode_base64url(value)


def is_texts(value: object) -> bool:
    """A list of texts, none twice."""
    return isinstance(value, list) and all(map(is_text, value)) and len(set(value)) == len(value)


def is_bool(value: object) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_object(fields: Mapping[str, Check]) -> Check:
    """An object with these fields and no others."""

    def check(value: object) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() == fields.keys()
            and all(good(value[name]) for name, good in fields.items())
        )

    return check


def is_list(item: Check) -> Check:
    """A list of such."""

    def check(value: object) -> bool:
        return isinstance(value, list) and all(map(item, value))

    return check


def is_one_of(*values: object) -> Check:
    """One of these, of the same type: `True` is not 1."""

    def check(value: object) -> bool:
        return any(type(value) is type(known) and value == known for known in values)

    return check


def either(*checks: Check) -> Check:
    """What one of them takes."""

    def check(value: object) -> bool:
        return any(good(value) for good in checks)

    return check


def require(value: Mapping[str, object], fields: Mapping[str, Check], where: str) -> None:
    """FormatError naming the first field that is missing, unknown or wrong."""
    for name in fields:
        if name not in value:
            raise FormatError(f"{where}: {name} is missing")
    for name in value:
        if name not in fields:
            raise FormatError(f"{where}: {ascii(name)[:_MAX_SHOWN]} is not known here")
    for name, good in fields.items():
        if not good(value[name]):
            raise FormatError(f"{where}: {name} is wrong")
