"""The sealed log put together from the plan: memory, lock, state key, ledger, streams.

The order is the format's: the ledger is repaired before the streams, which end what an earlier process left
open and say so in it.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.core.plan import Plan
from agent.logformat.layout import LEDGER_FILE
from agent.logformat.suites import Suite, suite_by_number
from agent.recorder.sealed.folder import open_locked
from agent.recorder.sealed.keys import load_state_key, recipients_of
from agent.recorder.sealed.ledger import Birth, Ledger
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.memory import MemoryReport, protect
from agent.recorder.sealed.orders import Office
from agent.recorder.sealed.parts import Clocks, Sealing, parsed
from agent.recorder.sealed.retention import Retention
from agent.tokens import load_public_jwk, load_roots, load_trust

HOUR_NS: Final = 3600 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Setting:
    """What a `config` entry says: set at the genesis, and wherever the plan has changed since."""

    recipients: tuple[str, ...]
    opening: str
    plan: str
    suite: int

    def body(self) -> dict[str, object]:
        """Of the entry."""
        return {
            "recipients": list(self.recipients),
            "opening": self.opening,
            "plan": self.plan,
            "suite": self.suite,
        }


class Store:
    """The open log of one robot. `memory`: what protects the keys; `log`, `ledger`: its parts."""

    def __init__(self, plan: Plan, clocks: Clocks | None = None) -> None:
        """`clocks` is for tests. LogError; KeyFileError, TrustFileError for what cannot be used."""
        wanted = plan.recorder
        self.folder = Path(wanted.dir)
        self.memory: MemoryReport = protect()
        suite = suite_by_number(wanted.suite)
        recipients = recipients_of(map(Path, wanted.recipients), suite.number)
        self._fd = open_locked(self.folder)
        try:
            clocks = clocks or Clocks()
            key = load_state_key(self._fd, self.folder, credential=wanted.state_credential)
            kids = tuple(kid for kid, _ in recipients)
            about = {"version": plan.agent_version, "digest": plan.agent_digest}
            birth = Birth(plan.robot.id, suite.number, kids, wanted.opening, about)
            self.ledger = Ledger(self.folder, self._fd, birth=birth, key=key, clocks=clocks)
            self.retention = Retention(
                self.folder,
                self.ledger,
                office=office_of(plan),
                witnesses=witnesses_of(plan),
                days=wanted.retention_days,
                wall_ns=clocks.wall_ns,
            )
            self.ledger.on_entry = self.retention.observe
            setting = Setting(kids, wanted.opening, plan.digest, suite.number)
            if setting != last_setting(self.folder / LEDGER_FILE):
                self.ledger.append("config", setting.body())
            self.ledger.append("boot", {"plan": plan.digest, "agent": about, "state": self.ledger.kept_by})
            # Before the streams are looked at: they would take a half deleted segment for a torn one.
            self.retention.finish()
            self.published = Published(self.ledger)
            self.log = SealedLog(
                self.folder, _sealing(plan, suite, recipients), self.ledger, folder_fd=self._fd, clocks=clocks
            )
        except BaseException:
            self.close()
            raise

    @property
    def ledger_torn(self) -> int:
        """1 where the ledger itself had a torn end, else 0."""
        return int(self.ledger.recovered is not None)

    def close(self) -> None:
        """Seals what is open and lets go; idempotent."""
        for part in ("log", "ledger"):
            if hasattr(self, part):
                getattr(self, part).close()
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
        self._fd = -1


class Published:
    """The ledger as its witnesses see it: fills `agent.recorder.relay.Ledger`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def head(self) -> tuple[int, str] | None:
        """See `relay.Ledger`."""
        head = self._ledger.head
        return head.n, head.hash

    def entries_after(self, n: int, limit: int) -> list[tuple[int, bytes, str]]:
        """See `relay.Ledger`."""
        suite = suite_by_number(self._ledger.suite)
        return [(m, line, suite.hash(line).hex()) for m, line in self._ledger.entries_after(n, limit)]

    def append(self, kind: str, body: Mapping[str, object]) -> None:
        """See `relay.Ledger`."""
        self._ledger.append(kind, body)


def witnesses_of(plan: Plan) -> dict[str, bytes]:
    """Ed25519 public keys, by kid, of the plan's witnesses; KeyFileError."""
    return dict(load_public_jwk(Path(path)) for path in plan.recorder.witnesses)


def office_of(plan: Plan) -> Office:
    """Who may order what, by the trust file as it stands now; KeyFileError, TrustFileError."""
    if plan.remote is None:
        return Office(plan.robot.id, {}, None)
    roots = load_roots(map(Path, plan.remote.root_keys))
    return Office(plan.robot.id, roots, load_trust(Path(plan.remote.trust), roots))


def _sealing(plan: Plan, suite: Suite, recipients: Sequence[tuple[str, bytes]]) -> Sealing:
    wanted = plan.recorder
    return Sealing(
        plan.robot.id,
        suite,
        tuple(recipients),
        wanted.opening,
        frozenset(wanted.compress),
        wanted.segment_bytes,
        wanted.segment_hours * HOUR_NS,
    )


def last_setting(path: Path) -> Setting | None:
    """What the newest `config` in the ledger says; None without one."""
    found: Mapping[str, Any] | None = None
    with path.open("rb") as file:
        for line in file:
            if b'"kind":"config"' in line:
                with suppress(ValueError, LookupError, TypeError):  # damaged: no setting of ours
                    entry = parsed(line)
                    found = entry["body"] if entry["kind"] == "config" else found
    if found is None:
        return None
    try:
        return Setting(tuple(found["recipients"]), found["opening"], found["plan"], found["suite"])
    except (KeyError, TypeError):
        return None
