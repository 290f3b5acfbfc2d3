"""A frame's records at once, where they are spelled as the writer spells them; else one by one (frames.py).

What is taken here `read_record` would take too, and tell the same of it.
"""

import json
import re
from collections.abc import Sequence
from typing import Final

from agent.audit import forms
from agent.audit.frames import Record

Row = tuple[str, str, str, str, str, str, str, str]
"""The fields of a `Record` as they are spelled: w, b, c, s, o, q, k, body."""

_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_WALL: Final = "([1-8][0-9]{9,18})"
_NUMBER: Final = "([1-9][0-9]{0,17})"
"""Neither can be more than `forms.MAX_INT`; what these leave out, such as 0, is rare."""
_PLAIN: Final = r'"([^"\\\n]{0,200})"'
_LINE: Final = re.compile(
    rf'^{{"w":{_WALL},"b":{_NUMBER},"c":"([sux])","s":{_PLAIN},"o":"([0-9a-f]{{32}})","q":{_NUMBER},"k":{_PLAIN},"d":({{.*}})}}$',
    re.MULTILINE,
)
"""One line: nothing in it takes a newline."""
_decode: Final = json.JSONDecoder(parse_constant=forms.refuse).raw_decode


def read_rows(texts: Sequence[bytes]) -> list[Row] | None:
    """A row of each text; None where one of them is spelled in another way, or is no record."""
    lines = b"\n".join(texts)
    try:
        told = lines.decode()
        rows: list[Row] = _LINE.findall(told)
        if not len(rows) == len(texts) == lines.count(b"\n") + 1 or not _is_printable(lines, told):
            return None
        for row in rows:
            body = row[-1]
            if _decode(body)[1] != len(body):
                return None
    except (ValueError, RecursionError):
        return None
    return rows


def _is_printable(lines: bytes, told: str) -> bool:
    """All but the newlines; ASCII, which nearly everything is, takes a fifth of the time."""
    return not lines.translate(None, _PRINTABLE).strip(b"\n") or told.replace("\n", "").isprintable()


def row_of(record: Record) -> Row:
    """The same of a record that was read alone."""
    w, b, c, s, o, q, k, body = record
    return str(w), str(b), c, s, o, str(q), k, body
