"""A judgement as a tally is given it."""

from collections.abc import Iterable

from hil.log.judge import Judged


def judged(*, code: int, lost: int = 0, kinds: Iterable[str] = ()) -> Judged:
    return Judged(code, dict.fromkeys(kinds, 1), lost)
