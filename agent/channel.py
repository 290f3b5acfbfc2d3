"""One channel's shell round the pure machine: sample → step → act. `reflex` and `remote` hold one each.

On a trip the order is fixed (DESIGN, principle 4): permit, outputs, the other module, then, with nothing on
the stop path waiting for them, the latch file, people and the record.
"""

import os
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import latch
from agent.core.causes import row_id, row_of, subject
from agent.core.commands import Code
from agent.core.machine import (
    Cause,
    Demand,
    Inputs,
    Outcome,
    State,
    own_response,
    permit_fields,
    step,
)
from agent.core.peer import PeerView
from agent.core.plan import Plan
from agent.core.responses import PERMIT_RULES, Deadline, Response
from agent.core.resume import ResumeRequest, blockers, refusal
from agent.events import EventSink
from agent.metrics import Meter
from agent.outputs import Outputs
from agent.permit import PermitWriter

CLOCK_STEP_NS = 250_000_000
"""LOG.md: wall against boot time off by more than this is a step."""
SLEEP_NS = 100_000_000
"""CLOCK_BOOTTIME gains on CLOCK_MONOTONIC only while the machine sleeps."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one turn saw; see `agent.core.machine.Inputs`."""

    active: Mapping[str, Demand] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    unreset: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Trigger:
    """What woke a turn: the path of the metric `reaction_seconds` and when it was seen."""

    path: str
    seen_ns: int


class Channel:
    """One of the two channels. Everything runs on the module's one thread; `turn` is the stop path."""

    def __init__(  # noqa: PLR0913 - the parts of one channel, all by keyword
        self,
        loop: AbstractEventLoop,
        name: str,
        plan: Plan,
        *,
        permit: PermitWriter,
        outputs: Outputs,
        latch_path: Path,
        sink: EventSink,
        meter: Meter,
        sample: Callable[[int], Sample],
        tell_peer: Callable[[], object],
        tell_people: Callable[[Outcome, int], None],
        now_ns: int,
    ) -> None:
        """Takes up what the latch file and the permit remember; stopped until the first `turn`, and after."""
        self.name = name
        self.plan = plan
        self.started_ns = now_ns
        self.unreset: frozenset[str] = frozenset()
        self.durable_epoch = 0
        self._saved_ticket = self._stop_ticket = 0
        self.latch_problem = ""
        self._permit = permit
        self._outputs = outputs
        self._sink = sink
        self._meter = meter
        self._sample = sample
        self._tell_peer = tell_peer
        self._tell_people = tell_people
        self._pulses: dict[str, Demand] = {}
        self._granted = self._refused = False
        self._lift: frozenset[str] = frozenset()
        self._motion_until_ns = 0
        self._boot_offset_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        self._wall_offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        found = self._recall(latch_path)
        self.standing = dict(found.standing)
        self.trust_version = found.trust_version
        self.last_wall_ns = found.wall_ns
        self.state = self._first_state(found, now_ns)
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._epochs: dict[int, int] = {}
        self._saver = latch.Saver(loop, latch_path, on_saved=self._saved, on_failed=self._save_failed)

    # ------------------------------------------------------------------ taking up where the last one ended

    def _recall(self, path: Path) -> latch.Latched:
        try:
            found = latch.load(path)
        except latch.LatchError as error:
            # What was latched is not known any more, and may have been a suspension: the department looks at
            # it. The epoch is taken above any count of stops, so that it cannot go back.
            self._pulses["tampered"] = Demand(detail=str(error)[:120])
            self._pulses["suspended"] = Demand(detail="the latch file is damaged")
            return latch.Latched(epoch=max(self._permit_epoch(), int(time.time()) - _EPOCH_BASE_S))
        if found is None and self._permit_epoch():
            # This channel has run since the machine started, and always leaves a latch file.
            self._pulses["tampered"] = Demand(detail=f"{path} is gone"[:120])
        return found or latch.Latched()

    def _permit_epoch(self) -> int:
        return 0 if self._permit.found is None else self._permit.found.epoch

    def _first_state(self, found: latch.Latched, now_ns: int) -> State:
        """The permit file tells the last epoch exactly.

        After a power cut it is gone, and stops may have been counted that never reached the disk: leave
        their numbers out.
        """
        lost = 0 if self._permit.found is not None or not found.epoch else _UNSAVED_STOPS
        epoch = max(found.epoch + lost, self._permit_epoch())
        wall_ns = time.time_ns()
        causes = tuple(
            replace(cause, since_ns=now_ns - (wall_ns - found.since_wall_ns.get(cause.key, wall_ns)))
            for cause in found.causes
            if row_id(cause.key) != "starting"
        )
        self._pulses["starting"] = Demand()
        # Power that a stop had taken away does not come back with the restart.
        return State(epoch=epoch, half=os.urandom(8), causes=causes, power_limit_ns=0)

    @property
    def latched_keys(self) -> frozenset[str]:
        """The keys that are latched now, for `evaluate.remember` after a restart."""
        return frozenset(cause.key for cause in self.state.causes)

    # --------------------------------------------------------------------------------------- the stop path

    def demand(self, key: str, demand: Demand | None = None) -> None:
        """Raises a cause at the next turn, which the caller makes at once."""
        self._pulses[key] = demand or Demand()

    def cut(self, response: Response, now_ns: int) -> None:
        """Withdraws ahead of the turn that the caller makes at once, and that decides (`agent.core.cut`)."""
        if not self._motion_until_ns:
            return
        powerless = PERMIT_RULES[response].power is Deadline.WITHDRAWN
        self._permit.withdraw(power_until_ns=0 if powerless else _AS_IT_IS_NS)
        if powerless:
            self._outputs.order(False, now_ns)

    def turn(self, now_ns: int, trigger: Trigger | None = None) -> Outcome:
        """One turn: sample, step, act. Costs tens of microseconds when nothing changes."""
        if self._motion_until_ns and now_ns >= self._motion_until_ns:
            # Our own permit ran out: the robot has stopped by itself, and must not start by itself either.
            late_ms = (now_ns - self._motion_until_ns) // 1_000_000
            self._pulses["host_unwell"] = Demand(detail=f"the permit ran out {late_ms} ms before its renewal")
        seen = self._sample(now_ns)
        self.unreset = seen.unreset
        inputs = Inputs(
            active={**seen.active, **self._held(), **self._pulses},
            fresh=os.urandom(8),
            durable_epoch=self.state.epoch if self.durable else -1,
            unknown=seen.unknown,
            unreset=seen.unreset,
            granted=self._granted,
            refused=self._refused,
            lift=self._lift,
        )
        self._pulses = {}
        self._granted = self._refused = False
        self._lift = frozenset()
        before = self.state
        self.state, outcome = step(self.plan.rows, before, inputs, now_ns, self.plan.times.ss1_ns)
        self._act(before, outcome, now_ns, trigger)
        return outcome

    def _held(self) -> dict[str, Demand]:
        return {key: Demand(detail=detail) for key, detail in self.standing.items()}

    def _act(self, before: State, outcome: Outcome, now_ns: int, trigger: Trigger | None) -> None:
        times = self.plan.times
        fields = permit_fields(
            self.state,
            now_ns,
            ttl_ns=times.ttl_ns,
            ss1_ns=times.ss1_ns,
            restricted_speed_permille=self.plan.envelope.restricted_speed_permille,
        )
        if outcome.rose:
            self._permit.withdraw(power_until_ns=fields.power_until_ns)
        self._permit.write(
            motion_until_ns=fields.motion_until_ns,
            power_until_ns=fields.power_until_ns,
            epoch=fields.epoch,
            speed_permille=fields.speed_permille,
            response=fields.response,
        )
        self._motion_until_ns = fields.motion_until_ns
        self._outputs.order(now_ns < fields.power_until_ns, now_ns)
        if self.state is not before:
            self._tell_peer()
            if outcome.rose and trigger is not None:
                self._meter.observe(
                    "reaction_seconds", (time.monotonic_ns() - trigger.seen_ns) / 1e9, trigger.path
                )
            self._save(now_ns, stop=outcome.rose or bool(outcome.raised))
            self._tell_people(outcome, now_ns)
            self._record(before, outcome)

    # -------------------------------------------------------------------------------------- the latch file

    def _save(self, now_ns: int, *, stop: bool) -> None:
        """`stop`: something was latched that must be on the disk before anything is resumed."""
        data = latch.encode(
            self.state,
            now_ns=now_ns,
            wall_ns=time.time_ns(),
            standing=self.standing,
            trust_version=self.trust_version,
        )
        ticket = self._saver.save(data)
        self._epochs[ticket] = self.state.epoch
        if stop:
            self._stop_ticket = ticket

    @property
    def durable(self) -> bool:
        """Whether every stop that this channel has latched is on the disk."""
        return self._saved_ticket >= self._stop_ticket

    def when_durable(self, call: Callable[[], None]) -> None:
        """Calls once the newest state is on the disk; at once if it already is."""
        if not self._epochs:
            call()
        else:
            self._waiting.append((max(self._epochs), call))

    def _saved(self, ticket: int) -> None:
        self.latch_problem = ""
        self._saved_ticket = ticket
        done = [number for number in self._epochs if number <= ticket]
        self.durable_epoch = max([self.durable_epoch, *(self._epochs.pop(number) for number in done)])
        ready = [call for number, call in self._waiting if number <= ticket]
        self._waiting = [item for item in self._waiting if item[0] > ticket]
        for call in ready:
            call()

    def _save_failed(self, reason: str) -> None:
        if reason != self.latch_problem:
            self.latch_problem = reason
            self._sink.emit("latch_failed", {"channel": self.name, "reason": reason})

    # ---------------------------------------------------------------------------------------------- resume

    def resume_refusal(self, request: ResumeRequest, peer: PeerView) -> Code | None:
        """Why this channel refuses a resume, or None; a refusal renews the challenge at the next turn."""
        code = refusal(
            self.name,
            self.state,
            request,
            robot_epoch=self.state.epoch + peer.epoch,
            unreset=self.unreset,
            peer_stops=peer.response.stops,
        )
        if code is None and not self.durable:
            code = Code.CAUSE_ACTIVE  # the stop is not on the disk yet
        return code

    def refuse(self, now_ns: int) -> None:
        """A resume was refused: a new challenge (PROTOCOL 3)."""
        self._refused = True
        self.turn(now_ns)

    def grant(self, now_ns: int) -> None:
        """Takes a resume that `resume_refusal` found in order."""
        self._granted = True
        self.turn(now_ns)

    def lift(self, key: str, now_ns: int) -> None:
        """The department's re-evaluation lifts a cause; the robot stays stopped."""
        self._lift = frozenset({key})
        self.turn(now_ns)

    def stand(self, key: str, detail: str | None, now_ns: int) -> None:
        """Keeps a cause true until it is ended by another command (detail None)."""
        if detail is None:
            self.standing.pop(key, None)
        else:
            self.standing[key] = detail[:120]
        self.turn(now_ns)

    @property
    def blockers(self) -> tuple[Code, ...]:
        """The codes that stand before a resume here."""
        return blockers(self.state, self.unreset)

    @property
    def own(self) -> int:
        """The worst response this channel demands by itself."""
        return int(own_response(self.state))

    # -------------------------------------------------------------------------------------- host and clock

    def watch_clocks(self) -> None:
        """Once per tick: did the machine sleep, did the wall clock step? Raised at the next turn."""
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        boot_offset_ns = boot_ns - time.monotonic_ns()
        if boot_offset_ns - self._boot_offset_ns > SLEEP_NS:
            slept_ms = (boot_offset_ns - self._boot_offset_ns) // 1_000_000
            self.demand("suspended_host", Demand(detail=f"slept {slept_ms} ms"))
        self._boot_offset_ns = boot_offset_ns
        wall_offset_ns = time.time_ns() - boot_ns
        step_ms = (wall_offset_ns - self._wall_offset_ns) // 1_000_000
        if abs(wall_offset_ns - self._wall_offset_ns) > CLOCK_STEP_NS:
            self.demand("clock_jump", Demand(detail=f"by {step_ms} ms"))
        self._wall_offset_ns = wall_offset_ns

    # ------------------------------------------------------------------------------------ metrics, records

    def _record(self, before: State, outcome: Outcome) -> None:
        for kind, keys in (("raised", outcome.raised), ("gone", outcome.gone), ("cleared", outcome.cleared)):
            for key in keys:
                self._sink.emit(f"cause_{kind}", {"channel": self.name, **self._about(key)})
        if self.state.response != before.response or outcome.rose:
            body = {
                "channel": self.name,
                "from": before.response.label,
                "to": self.state.response.label,
                "epoch": self.state.epoch,
                "causes": [cause.key for cause in self.state.causes],
            }
            self._sink.emit("response", body)
        if outcome.rose:
            first = next(c for c in self.state.causes if c.response == self.state.response)
            self._meter.inc("stops_total", self.name, row_id(first.key), self.state.response.label)

    def _about(self, key: str) -> dict[str, object]:
        found = next((cause for cause in self.state.causes if cause.key == key), None)
        row = row_of(self.plan.rows, key)
        response = row.response if found is None else found.response
        detail = "" if found is None else found.detail
        return {"id": row.id, "subject": subject(key), "response": response.label, "detail": detail}

    def causes_view(self, now_ns: int) -> list[dict[str, object]]:
        """The causes as PROTOCOL 3 publishes them, oldest first."""
        wall_ns = time.time_ns()
        return [self._cause_view(cause, wall_ns - now_ns) for cause in self.state.causes]

    def _cause_view(self, cause: Cause, wall_minus_mono_ns: int) -> dict[str, object]:
        row = row_of(self.plan.rows, cause.key)
        about = subject(cause.key)
        return {
            "id": row.id,
            "response": cause.response.label,
            "active": cause.active,
            "clear": cause.clear.label,
            "since": round((cause.since_ns + wall_minus_mono_ns) / 1e9, 3),
            "text": {
                "zh": f"{row.zh}({about})" if about else row.zh,
                "en": f"{row.en} ({about})" if about else row.en,
            },
            "channel": self.name,
            "subject": about,
            "detail": cause.detail,
        }

    def close(self) -> None:
        """Withdraws the permit and drops the outputs, then waits for the latch file; idempotent."""
        self._permit.withdraw()
        self._outputs.order(False, time.monotonic_ns())
        self._permit.close()
        self._saver.close()


_UNSAVED_STOPS = 64
"""More than can be counted before one of them is on the disk: nothing leaves a stop before it is saved, so
each response counts at most once (hold, safe mode, …), and a mirrored stop a few times more."""
_AS_IT_IS_NS = 1 << 62
"""The permit's writer never lengthens power in a withdrawal: so far ahead means as it is."""
_EPOCH_BASE_S = 1_700_000_000
"""Epochs taken from the clock count seconds from here (2023-11-14): above any count of stops, inside u32."""
