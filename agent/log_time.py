"""Times on the command line of `warden log`: ISO 8601 with a zone, or a plain date."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final

from agent.cli_parts import USAGE, end, hint

CHINA: Final = timezone(timedelta(hours=8), "Asia/Shanghai")
"""A plain date is a day there, as in the regulation and in the trust file; no zone data is read."""
FOREVER_NS: Final = 2**63 - 1
"""In the year 2262; the format's own bound."""
BOUND: Final = (
    "must be a date (2027-01-15: the whole day in China, UTC+8) or a time with its zone "
    "(2027-01-15T08:00:00+08:00, 2027-01-15T00:00:00Z), from 1970 to 2262"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_NS: Final = 86_400 * 1_000_000_000
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII
)


def parse_ns(text: str, *, last: bool = False) -> int:
    """Nanoseconds since 1970, UTC; of a plain date its beginning, or with `last` its last nanosecond.

    ValueError, whose message is the bound, for all else. Nine digits after the point count: `decrypt` prints
    as many, and what it prints must find the same record again.
    """
    try:
        found = _day(text, last=last) if _DATE.fullmatch(text) else _moment(text)
    except (ValueError, OverflowError):
        raise ValueError(BOUND) from None
    if not 0 <= found <= FOREVER_NS:
        raise ValueError(BOUND)
    return found


def _day(text: str, *, last: bool) -> int:
    begin = _since_epoch(datetime.combine(date.fromisoformat(text), time(), CHINA))
    return begin + _DAY_NS - 1 if last else begin


def _moment(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    seconds, fraction, zone = found.groups()
    whole = datetime.fromisoformat(f"{seconds}{'+00:00' if zone == 'Z' else zone}")
    return _since_epoch(whole) + int((fraction or "").ljust(9, "0"))


def _since_epoch(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000


def show_ns(wall_ns: int) -> str:
    """A moment for people: to the second, in China, with the zone beside it."""
    second = min(max(wall_ns, 0), FOREVER_NS) // 1_000_000_000
    # Added to the epoch: datetime.fromtimestamp() would ask the C library about this machine's time zone.
    return (_EPOCH + timedelta(seconds=second)).astimezone(CHINA).isoformat(sep=" ")


def time_ns(option: str, text: str, *, last: bool = False, as_json: bool = False) -> int:
    """What an option's TIME says, as `parse_ns`; says how a plain date was taken; ends with wrong usage."""
    try:
        found = parse_ns(text, last=last)
    except ValueError as error:
        end(USAGE, f"{option}: {error}, not {text[:40]!r}", as_json=as_json)
    if _DATE.fullmatch(text) and not as_json:
        hint(f"{option} {text}: {'the end' if last else 'the beginning'} of that day in China (UTC+8)")
    return found
