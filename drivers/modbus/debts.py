"""Which units of a serial line may still answer a question that was given up. Pure: time is an argument.

A debt is a read that was not answered. It is settled by the answer to a probe that was sent after it, because
units and lines keep the order. A probe that comes back names itself by its number. One that is refused does
not, and the refusal may be of an earlier probe, sent before the debt was made: it counts as the answer to the
earliest probe that is still out, so that a lost one costs another probe and never a wrong proof.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple


class Sent(NamedTuple):
    """A question's place in the order of all, and when it went out."""

    order: int
    now_ns: int


@dataclass(slots=True)
class Account:
    """One unit's."""

    debt: Sent | None = None
    probes: deque[Sent] = field(default_factory=deque)
    proves: bool = False
    """It has answered a probe before: from then on nothing else settles a debt."""


class Debts:
    """All units of one line."""

    def __init__(self, late_ns: int) -> None:
        """`late_ns`: after this no read is answered by a unit that ignores probes, nor a probe refused."""
        self._late_ns = late_ns
        self._accounts: dict[int, Account] = {}

    def begin(self, unit: int, now: Sent) -> None:
        """At a new line anybody may have asked anything, a probe as well."""
        self.owe(unit, now)
        self._account(unit).probes.append(now)

    def owe(self, unit: int, read: Sent) -> None:
        """`read` was not answered; or whatever was asked by then may not have been."""
        self._account(unit).debt = read

    def owes(self, unit: int, now_ns: int) -> bool:
        """Whether an answer to an earlier question may still come."""
        account = self._account(unit)
        if account.debt is not None and not account.proves and self._is_over(account.debt, now_ns):
            account.debt = None
        return account.debt is not None

    def probe(self, unit: int, probe: Sent) -> None:
        """A probe goes out."""
        probes = self._account(unit).probes
        while probes and self._is_over(probes[0], probe.now_ns):
            probes.popleft()
        probes.append(probe)

    def came_back(self, unit: int) -> None:
        """The latest probe came back, so everything before it is over."""
        account = self._account(unit)
        account.debt, account.proves = None, True
        account.probes.clear()

    def was_refused(self, unit: int) -> None:
        """Some probe was refused."""
        account = self._account(unit)
        account.proves = True
        earliest = account.probes.popleft()
        if account.debt is not None and account.debt.order < earliest.order:
            account.debt = None

    def _is_over(self, sent: Sent, now_ns: int) -> bool:
        return now_ns - sent.now_ns >= self._late_ns

    def _account(self, unit: int) -> Account:
        return self._accounts.setdefault(unit, Account())
