"""`reflex`, the stress-response module (应激处置模块): watches, reacts within milliseconds, needs no network.

Sample → step → act runs inside the very callback that saw the edge (DESIGN, "How each process runs").
"""

import asyncio
import os
import time
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from agent.channel import Channel, Sample, Trigger
from agent.commanding import CHALLENGED, carry_out, refusal
from agent.core import evaluate as ev
from agent.core.causes import PEER_STOP, row_id
from agent.core.commands import Code, Command
from agent.core.cut import cuts_of, worst_cut
from agent.core.envelope import Scalar, WallTime
from agent.core.machine import Demand, Outcome
from agent.core.peer import UNHEARD, watch_peer
from agent.core.plan import Plan
from agent.core.readings import Quality, Reading
from agent.core.responses import Response
from agent.core.resume import HALVES
from agent.devices import Devices, wanted
from agent.gate import load_gate
from agent.keeping import NO_TASKS, Keeping
from agent.link import Connection, Message
from agent.outputs import Outputs
from agent.peer_link import channel_state, read_state
from agent.permit import PermitReader, PermitWriter
from agent.protocols import Protocols
from agent.robot_link import RobotLink
from agent.shell import TICK_NS, Shell, Ticker
from agent.tokens import TokenError

WALL_NS = 1_000_000_000
"""The wall clock's hours are looked at once a second; `hours` are in minutes."""
TELEMETRY_TICKS = 100
"""Telemetry goes on to guardians at 1 Hz (PROTOCOL 3)."""


class Reflex:
    """The module. `start` opens everything; after it every callback is one whole turn."""

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop) -> None:
        now_ns = time.monotonic_ns()
        self.shell = Shell(plan, "reflex", loop)
        self.plan = plan
        self.devices = Devices(self.shell, self._edge, self._telemetry)
        outputs = {name: plan.outputs[name] for name in wanted(plan, "reflex")[1]}
        self.shell.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.shell.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.outputs = Outputs(outputs, self.devices.by_output, now_ns)
        self.channel = Channel(
            loop,
            "reflex",
            plan,
            permit=PermitWriter(self.shell.folder / "reflex.permit"),
            outputs=self.outputs,
            latch_path=self.shell.state_folder / "reflex.latch",
            sink=self.shell.sink,
            meter=self.shell.meter,
            sample=self._sample,
            tell_peer=self._tell_peer,
            tell_people=self._tell_people,
            now_ns=now_ns,
        )
        self.gate = load_gate(plan, self.channel.trust_version, self.channel.last_wall_ns)
        self.channel.trust_version = self.gate.trust.version
        self.robot = RobotLink(
            loop,
            self.shell.folder / "robot.sock",
            allowed_uids=frozenset(plan.link_uids) or frozenset({os.geteuid()}),
            welcome=self._welcome,
            on_hello=self._robot_here,
            on_gone=self._robot_left,
            on_beat=self._beaten,
            on_event=self._robot_event,
            on_step_result=self._step_result,
            authorise=self._authorise,
            epoch=self._robot_epoch,
            now_ns=time.monotonic_ns,
            on_bad=lambda reason: self.shell.bad_input("robot_link", reason),
        )
        self.protocols = Protocols(self.shell, self.robot.send)
        self.memory = ev.remember(plan, self.channel.latched_keys, now_ns)
        self.verdict = ev.Verdict()
        self._cuts = cuts_of(plan)
        self._readings: Mapping[str, Reading] = {}
        self.peer = UNHEARD
        self._other_permit = PermitReader(self.shell.folder / "remote.permit")
        self._peer_connection: Connection | None = None
        self._zone = ZoneInfo(plan.envelope.timezone) if plan.envelope.hours or plan.envelope.days else None
        self._wall: WallTime | None = None
        self._wall_due_ns = 0
        self._beats = 0
        self.keeping = Keeping(self.shell.sink, lost_ns=plan.times.recorder_lost_ns, now_ns=now_ns)
        self.ticker: Ticker | None = None

    def start(self) -> None:
        """The permit says stop before anything is opened."""
        self.channel.turn(time.monotonic_ns())
        self.shell.on_message = self._heard
        self.shell.on_end = self._peer_ended
        self.shell.status = self._status
        self.devices.open()
        self.shell.start()
        self.robot.start()
        self.ticker = Ticker(self.shell, self._tick, self.shell.tick_ns(TICK_NS))

    def close(self) -> None:
        """The permit first, then the outputs; idempotent."""
        self.channel.close()
        self.devices.close()
        self.protocols.close()
        if self.ticker is not None:
            self.ticker.close()
        self.robot.close()
        self._other_permit.close()
        self.shell.close()

    # --------------------------------------------------------------------------------------- what wakes it

    def _tick(self, now_ns: int) -> None:
        self.devices.tick(now_ns)
        self.channel.watch_clocks()
        self._look_at_wall(now_ns)
        self.channel.turn(now_ns, Trigger("input", now_ns))
        self._beats += 1
        if self._beats % 2 == 0:
            self._beat_peer()
        self.protocols.tick(now_ns)
        self.keeping.tick(self.robot.telemetry if self.robot.since_ns else {})
        if self._beats % TELEMETRY_TICKS == 0:
            self._pass_on_telemetry()

    def _edge(self) -> None:
        """An input changed: cut first where the plan says so, then take the turn that decides."""
        now_ns = time.monotonic_ns()
        self._readings = self.devices.readings(now_ns)
        response = worst_cut(self._cuts, self._readings)
        if response is not None:
            self.channel.cut(response, now_ns)
        self.channel.turn(now_ns, Trigger("input", now_ns))

    def _react(self, path: str) -> None:
        now_ns = time.monotonic_ns()
        self.channel.turn(now_ns, Trigger(path, now_ns))

    def _sample(self, now_ns: int) -> Sample:
        seen = ev.Observations(
            readings=self._readings or self.devices.readings(now_ns),
            telemetry=self.robot.telemetry,
            robot_since_ns=self.robot.since_ns,
            last_beat_ns=self.robot.last_beat_ns,
            stopped_ns=self.channel.state.stopped_ns,
            powered=self.channel.state.power_limit_ns != 0,
            wall=self._wall,
        )
        self._readings = {}  # an edge's own readings are for its own turn
        before = self.verdict
        self.memory, self.verdict = ev.evaluate(self.plan, self.memory, seen, now_ns)
        self._count_inputs(before)
        active = self.verdict.active
        times, started_ns = self.plan.times, self.channel.started_ns
        active.update(watch_peer(self.plan.rows, times, started_ns, self.peer, now_ns))
        active.update(self.outputs.faults(now_ns, started_ns, times.start_grace_ns))
        active.update(self.keeping.demands(now_ns))
        # Whether remote still stops is known only from remote.
        unknown = self.verdict.unknown if self.peer.connected else self.verdict.unknown | {PEER_STOP}
        return Sample(active, unknown, self.verdict.unreset)

    def _look_at_wall(self, now_ns: int) -> None:
        if self._zone is not None and now_ns >= self._wall_due_ns:
            local = datetime.now(self._zone)
            self._wall = WallTime(local.weekday(), local.hour * 60 + local.minute)
            self._wall_due_ns = now_ns + WALL_NS

    # ------------------------------------------------------------------------------------ the robot's side

    def _telemetry(self, key: str) -> tuple[Scalar, int] | None:
        return self.robot.telemetry.get(key)

    def _robot_epoch(self) -> int:
        """As the robot reads it: the sum of the two permits' epochs (PROTOCOL 1)."""
        return self.channel.state.epoch + self._other_permit.read().epoch

    def _welcome(self) -> Mapping[str, object]:
        return {
            "robot_id": self.plan.robot.id,
            "permits": [str(self.shell.folder / f"{name}.permit") for name in HALVES],
            "ttl_ms": self.plan.times.ttl_ns // 1_000_000,
            "epoch": self._robot_epoch(),
        }

    def _robot_left(self) -> None:
        now_ns = time.monotonic_ns()
        self.channel.turn(now_ns, Trigger("robot", now_ns))
        self.protocols.robot_gone(now_ns)

    def _robot_here(self) -> None:
        self.shell.sink.emit("robot_connected", {"name": self.robot.name})
        self._react("robot")
        self._tell_robot()

    def _beaten(self) -> None:
        """What a beat tells is looked at by the next tick, 10 ms on: a beat comes every 20 ms by itself."""
        self.shell.meter.inc("robot_beats_total")
        self.shell.meter.set("robot_last_beat_timestamp_seconds", time.time())

    def _robot_event(self, kind: str, detail: str) -> None:
        self.shell.sink.emit("robot_event", {"kind": kind, "detail": detail})
        if kind == "unlawful_content":
            self.channel.demand("unlawful_content", Demand(detail=detail[:120]))
            self._react("robot")

    def _step_result(self, step_id: str, done: bool, detail: str) -> None:
        if not self.protocols.robot_told(step_id, done, detail, time.monotonic_ns()):
            self.shell.bad_input("robot_link", f"step_result for {step_id!r}, which is not under way")

    def _authorise(self, task: str) -> tuple[bool, str]:
        """Deny by default (clause 3.2(b)): only listed tasks, only while the robot may run."""
        tasks = self.plan.envelope.tasks
        if self._worst().stops:
            return False, "stopped"
        if self.keeping.level >= NO_TASKS:
            return False, "log_space"
        if task not in tasks:
            self.shell.sink.emit("task_refused", {"task": task})
            return False, "task_not_authorised"
        return True, ""

    def _worst(self) -> Response:
        return max(self.channel.state.response, self.peer.response)

    def _tell_robot(self) -> None:
        state = self.channel.state
        causes = [*(row_id(cause.key) for cause in state.causes), *(row_id(key) for key in self.peer.causes)]
        worst = self._worst()
        self.robot.send(
            {
                "type": "state",
                "response": worst.label,
                "epoch": self._robot_epoch(),
                "speed_permille": self._speed_permille(worst),
                "causes": list(dict.fromkeys(causes)),
            }
        )

    def _speed_permille(self, worst: Response) -> int:
        if worst.stops:
            return 0
        return self.plan.envelope.restricted_speed_permille if worst == Response.RESTRICT else 1000

    # ------------------------------------------------------------------------------------ the other module

    def _tell_peer(self) -> None:
        if self._peer_connection is not None and not self._peer_connection.send(self._peer_state()):
            self._lose_peer()

    def _peer_state(self) -> dict[str, object]:
        # What the sample saw before this turn's step was perhaps another state's standstill.
        still = self.verdict.still and self.channel.state.response.stops
        return channel_state(self.channel, still=still, now_ns=time.monotonic_ns())

    def _beat_peer(self) -> None:
        beat = {"type": "beat", "still": self.verdict.still}
        if self._peer_connection is not None and not self._peer_connection.send(beat):
            self._lose_peer()

    def _pass_on_telemetry(self) -> None:
        """For guardians to see (PROTOCOL 3). Not on the stop path: a packet that does not fit is left out."""
        if self._peer_connection is not None and self.robot.since_ns:
            told = {key: value for key, (value, _) in self.robot.telemetry.items()}
            self._peer_connection.send({"type": "telemetry", "data": told})

    def _lose_peer(self) -> None:
        """It does not read what it is told: as good as gone. Seen at the next turn."""
        if self._peer_connection is not None:
            self._peer_connection.close()
            self._peer_connection = None
            self.peer = self.peer.lost()

    def _peer_ended(self, connection: Connection) -> None:
        if connection is self._peer_connection:
            self._peer_connection = None
            self.peer = self.peer.lost()
            self._react("peer")

    def _heard(self, connection: Connection, message: Message) -> None:
        kind = message["type"]
        if kind == "hello":
            self._greeted(connection)
            return
        if connection is not self._peer_connection:
            self.shell.bad_input("module_link", "not the connected remote")
        elif kind == "beat":
            self.peer = self.peer.beaten(time.monotonic_ns(), still=False)
        elif kind == "state":
            self._peer_told(message)
        elif kind == "command":
            self._command(connection, message)

    def _greeted(self, connection: Connection) -> None:
        """One `remote` at a time: a second one must not be able to take the first one's place."""
        if connection.role != "remote" or connection is self._peer_connection:
            return
        if self._peer_connection is not None:
            self.shell.bad_input("module_link", f"a second remote (pid {connection.peer_pid})")
            connection.close()
            return
        self._peer_connection = connection
        self._tell_peer()

    def _peer_told(self, message: Message) -> None:
        now_ns = time.monotonic_ns()
        try:
            peer = read_state(message, now_ns)
        except ValueError as error:
            self.shell.bad_input("module_link", f"state from remote: {error}")
            return
        changed = (peer.response, peer.causes, peer.epoch) != (
            self.peer.response,
            self.peer.causes,
            self.peer.epoch,
        )
        self.peer = peer
        self.channel.turn(now_ns, Trigger("peer", now_ns))
        if changed:
            self._tell_robot()

    # ----------------------------------------------------------------------------------- people's commands

    def _command(self, connection: Connection, message: Message) -> None:
        """A command that `remote` passes on. `remote` is not believed: the signature is checked here."""
        token = message.get("token")
        number = message.get("n")
        code: Code | None = Code.MALFORMED
        if isinstance(token, str):
            code = self._judge(token)
        connection.send({"type": "verdict", "n": number, "code": code})

    def _judge(self, token: str) -> Code | None:
        try:
            opened = self.gate.open(token.encode())
        except TokenError as error:
            self.shell.bad_input("module_link", f"command from remote: {error}")
            return Code(error.code)
        if opened.command is None:
            refusal = opened.refusal
            return Code.MALFORMED if refusal is None else refusal.code
        code = self._carry_out(opened.command)
        body = {"cmd": opened.cmd, "kid": opened.kid, "jti": opened.jti, "code": code}
        self.shell.sink.emit("command_judged", body)
        return code

    def _carry_out(self, command: Command) -> Code | None:
        now_ns = time.monotonic_ns()
        code = refusal(self.channel, command, self.peer)
        if code is None:
            carry_out(self.channel, command, Trigger("command", now_ns))
        elif command.cmd in CHALLENGED:
            self.channel.refuse(now_ns)
        return code

    # ---------------------------------------------------------------------------------- people and records

    def _tell_people(self, outcome: Outcome, now_ns: int) -> None:
        """The robot's own software is told of every change, and asked to stop when a stop begins.

        People are told by `remote`, which has heard already.
        """
        self._tell_robot()
        if outcome.rose:
            self.shell.tidy_soon()
            self.protocols.begin(outcome.was, self.channel.state.response, self._robot_epoch(), now_ns)
        self._show()

    def _show(self) -> None:
        state, meter = self.channel.state, self.shell.meter
        for response in Response:
            meter.set("response", float(response == state.response), "reflex", response.label)
        meter.set("motion_permitted", float(not state.response.stops), "reflex")
        meter.set("power_permitted", float(self.outputs.energised or state.power_limit_ns is None), "reflex")
        meter.set("epoch", state.epoch, "reflex")

    def _count_inputs(self, before: ev.Verdict) -> None:
        for name, quality in self.verdict.qualities.items():
            if quality is Quality.GOOD:
                value = float(self.verdict.closed.get(name, True) or False)
            else:
                value = -1.0
                if before.qualities.get(name) is Quality.GOOD:
                    self.shell.meter.inc("input_faults_total", name)
            self.shell.meter.set("input_state", value, name)

    def _status(self) -> dict[str, object]:
        now_ns = time.monotonic_ns()
        return {
            "channel": channel_state(self.channel, still=self.verdict.still, now_ns=now_ns),
            "inputs": {
                name: {"closed": self.verdict.closed.get(name), "quality": quality.name.lower()}
                for name, quality in self.verdict.qualities.items()
            },
            "robot": {"connected": bool(self.robot.since_ns), "name": self.robot.name},
            "peer_connected": self.peer.connected,
            "devices": self.devices.counters,
            "latch_problem": self.channel.latch_problem,
        }
