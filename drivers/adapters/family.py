"""The processes of one target, held by pidfd, signalled together and looked at until the effect is seen.

Searching takes some hundred small reads. They are done in slices between the loop's other business, so
that no beat and no button waits for them.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final

from drivers.adapters import procfs
from drivers.adapters.kin import Kin, TargetError
from drivers.adapters.procfs import Stat

READS_PER_TURN: Final = 48
"""Small files read before the loop gets its turn: 12 us each on a two-core machine, some 0.6 ms together."""
MAX_ROUNDS: Final = 8
"""Looks until everyone is stopped; one that sleeps uninterruptibly never is, and is not waited for."""
MAX_HELD: Final = 256
"""Processes held at a time, a descriptor each (a unit has 1024); the rest is found as these end."""
_ASLEEP: Final = procfs.STOPPED | {"D"}


@dataclass(slots=True)
class Member:
    """One process, held."""

    stat: Stat
    fd: int
    told: set[int] = field(default_factory=set)
    """Signals it was sent."""
    stopped: bool = False
    """At the last look, no thread of it ran."""


class Family:
    """All that belongs to one target. Nothing is signalled before a look has found and confirmed it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kin: Kin) -> None:
        self._loop = loop
        self._kin = kin
        self._rounds = 0
        self._stood = False
        self._members: dict[int, Member] = {}
        self._turn: asyncio.Handle | None = None
        self._watched: set[int] = set()
        self.unheld = 0
        """Found at the last look, not held (too many, or no descriptor left), and so not signalled."""
        self.trouble = ""
        """Why the last look said nothing for certain; "" when it did."""

    def __len__(self) -> int:
        return len(self._members) + self.unheld

    @property
    def looking(self) -> bool:
        """True from `look` until its `then`."""
        return self._turn is not None

    @property
    def unsure(self) -> int:
        """Processes that may belong, but cannot be looked at."""
        return self._kin.unsure

    @property
    def stopped(self) -> int:
        """Members of whom no thread ran at the last look."""
        return sum(member.stopped for member in self._members.values())

    def look(self, then: Callable[[], None]) -> None:
        """Find everyone anew, slice by slice, then call `then` once. Nothing else may be looking."""
        self._turn = self._loop.call_soon(self._slice, self._search(), then)

    def signal(self, number: int) -> tuple[int, int]:
        """Send `number` to every member that has not had it: (how many that were, how many refused it)."""
        untold = [member for member in self._members.values() if number not in member.told]
        if self._kin.whole_groups:
            self._signal_groups(untold, number)
        refused = 0
        for member in untold:
            if number not in member.told:
                member.told.add(number)
                refused += not procfs.send(member.fd, number)
        return len(untold), refused

    def end_all(self) -> tuple[int, int]:
        """One round of ending everyone, each after a look: (how many were told now, how many refused it).

        Stopped first, and killed when a look that began after all of them stood finds nobody else: what
        cannot run cannot fork, and no parent is killed before its children are known.
        """
        told, _ = self.signal(signal.SIGSTOP)
        stood_before, self._stood = self._stood, told == 0 and self.stopped == len(self)
        self._rounds += 1
        if not (stood_before and self._stood) and self._rounds < MAX_ROUNDS:
            return max(told, 1), 0
        self._rounds = MAX_ROUNDS
        killed, refused = self.signal(signal.SIGKILL)
        return told + killed, refused

    def insist(self, number: int) -> None:
        """Send `number` again to every member that still runs: someone else may have undone it."""
        for member in self._members.values():
            if not member.stopped:
                procfs.send(member.fd, number)

    def watch(self, on_all_ended: Callable[[], None]) -> None:
        """Call `on_all_ended` when the last present member has ended; new members need a new `watch`."""
        for member in self._members.values():
            if member.fd not in self._watched:
                self._watched.add(member.fd)
                self._loop.add_reader(member.fd, self._one_ended, member.fd, on_all_ended)

    def close(self) -> None:
        """Let go of all; nobody is signalled. Idempotent."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        while self._members:
            self._release(self._members.popitem()[1])

    # ------------------------------------------------------------------------------------------ one look

    def _slice(self, search: Generator[None, None, None], then: Callable[[], None]) -> None:
        for _ in range(READS_PER_TURN):
            try:
                next(search)
            except StopIteration:
                self._turn = None
                then()
                return
        self._turn = self._loop.call_soon(self._slice, search, then)

    def _search(self) -> Generator[None, None, None]:
        self.trouble = ""
        try:
            held = {pid: member.stat.start_ticks for pid, member in self._members.items()}
            found = yield from self._kin.find(held)
            self._check_harmless(found)
            self._drop_ended()
            self._hold(found)
            yield from self._look_at_threads()
        except TargetError as error:
            self.trouble = error.reason
        except OSError as error:  # no descriptor left, or /proc is not there
            self.trouble = f"processes cannot be looked at: {os.strerror(error.errno or 0)}"

    @staticmethod
    def _check_harmless(found: list[Stat]) -> None:
        """Raises TargetError where this process or the machine's first one would be hit."""
        for entry in found:
            if entry.pid in {1, os.getpid()}:
                whom = "the agent itself" if entry.pid != 1 else "process 1"
                raise TargetError(f"{whom} belongs to the target")

    def _drop_ended(self) -> None:
        for pid, member in tuple(self._members.items()):
            if procfs.ended(member.fd):
                self._release(self._members.pop(pid))

    def _hold(self, found: list[Stat]) -> None:
        """Pin who is new, then ask once more whether it belongs: what holds at both ends held in between."""
        fresh: dict[int, Member] = {}
        self.unheld = 0
        try:
            for entry in found:
                self._pin(entry, fresh)
            confirmed = {entry.pid for entry in self._kin.confirm([each.stat for each in fresh.values()])}
        except (TargetError, OSError):
            for member in fresh.values():
                self._release(member)
            raise
        for pid, member in fresh.items():
            if pid in confirmed and not procfs.ended(member.fd):
                self._members[pid] = member
            else:
                self._release(member)

    def _pin(self, entry: Stat, fresh: dict[int, Member]) -> None:
        held = self._members.get(entry.pid)
        if held is not None:
            held.stat = entry if entry.start_ticks == held.stat.start_ticks else held.stat
            return
        if len(self._members) + len(fresh) >= MAX_HELD:
            self.unheld += entry.state not in "ZX"
            return
        try:
            fd = procfs.open_pidfd(entry.pid)
        except OSError:  # no descriptor left
            self.unheld += 1
            return
        if fd is None:
            return
        fresh[entry.pid] = Member(entry, fd)
        again = procfs.read_stat(entry.pid)
        if again is None or again.start_ticks != entry.start_ticks or procfs.ended(fd):
            self._release(fresh.pop(entry.pid))

    def _look_at_threads(self) -> Generator[None, None, None]:
        for pid, member in tuple(self._members.items()):
            states = []
            for tid in procfs.thread_ids(pid):
                states.append(procfs.thread_state(pid, tid))
                yield
            member.stopped = procfs.STOPPED.issuperset(states) or self._stops_when_it_wakes(pid, states)

    @staticmethod
    def _stops_when_it_wakes(pid: int, states: list[str]) -> bool:
        """True when the threads that do not stand sleep in the kernel, and stop before they run another line.

        So a parent waits in vfork for a child that was stopped before its exec: for ever, and never as `T`.
        """
        return _ASLEEP.issuperset(states) and ("T" in states or procfs.stop_pending(pid))

    # ------------------------------------------------------------------------------------------ signals, ends

    def _signal_groups(self, untold: list[Member], number: int) -> None:
        """Groups led by a member get it as one, so that a process forked in this very moment gets it too."""
        for leader in untold:
            group = leader.stat.pgrp
            if group != leader.stat.pid or group == os.getpgrp() or number in leader.told:
                continue
            if procfs.send_group(leader.fd, number):
                for member in untold:
                    # Asked afterwards: one that left the group since it was found has not had it.
                    if procfs.group_of(member.stat.pid) == group:
                        member.told.add(number)

    def _one_ended(self, fd: int, on_all_ended: Callable[[], None]) -> None:
        self._unwatch(fd)
        if not self._watched:
            on_all_ended()

    def _unwatch(self, fd: int) -> None:
        if fd in self._watched:
            self._watched.remove(fd)
            self._loop.remove_reader(fd)

    def _release(self, member: Member) -> None:
        self._unwatch(member.fd)
        os.close(member.fd)
