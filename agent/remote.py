"""`remote`, the remote emergency-control module (实时远程应急控制模块): guardians' commands over MQTT.

It holds its own permit and outputs and stops the robot with `reflex` dead or hostile. It verifies every
command and cuts inside the message callback; it can stop the robot and never start it alone: a resume goes on
to `reflex` as the signed token, and `reflex` judges for itself.
"""

import asyncio
import os
import threading
import time
from pathlib import Path

from agent.channel import Channel, Sample, Trigger
from agent.commanding import CHALLENGED, carry_out, demanded, refusal
from agent.core.causes import PEER_STOP
from agent.core.commands import Code, Command, Seen
from agent.core.machine import Demand, Outcome
from agent.core.peer import UNHEARD, watch_peer
from agent.core.plan import Plan
from agent.core.responses import Response
from agent.devices import Devices, wanted
from agent.dialogue import Dialogue, Effect, Entry
from agent.errors import WardenError
from agent.gate import load_gate
from agent.link import Client, Connection, Message
from agent.mqtt import MAX_PACKET, MqttLink, Outgoing
from agent.outputs import Outputs
from agent.peer_link import channel_state, read_causes, read_state
from agent.permit import PermitReader, PermitWriter
from agent.processes import allowed_uids
from agent.publisher import Publisher
from agent.shell import Shell, Ticker
from agent.tokens import TokenError, load_private_key

VERDICT_NS = 1_000_000_000
"""`reflex` answers a command in well under a millisecond; after a second it will not."""
TOGETHER = frozenset({"resume", "reinstate", "retire", "maintenance"})
"""Commands that take effect in both channels or in none: `reflex` judges first."""
_STACK_BYTES = 1 << 20
"""Stack of the client's connecting thread: the default of 8 MiB would be locked into memory whole."""


class Remote:
    """The module."""

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop) -> None:
        if plan.remote is None:
            raise WardenError("the plan has no [remote]")
        threading.stack_size(_STACK_BYTES)
        now_ns = time.monotonic_ns()
        self.shell = Shell(plan, "remote", loop)
        self.plan = plan
        self.loop = loop
        self.shell.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.shell.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.devices = Devices(self.shell, self._edge)
        specs = {name: plan.outputs[name] for name in wanted(plan, "remote")[1]}
        self.outputs = Outputs(specs, self.devices.by_output, now_ns)
        self.peer = UNHEARD
        self.peer_causes: list[dict[str, object]] = []
        self.channel = Channel(
            loop,
            "remote",
            plan,
            permit=PermitWriter(self.shell.folder / "remote.permit"),
            outputs=self.outputs,
            latch_path=self.shell.state_folder / "remote.latch",
            sink=self.shell.sink,
            meter=self.shell.meter,
            sample=self._sample,
            tell_peer=self._tell_peer,
            tell_people=self._tell_people,
            now_ns=now_ns,
        )
        self.gate = load_gate(plan, self.channel.trust_version, self.channel.last_wall_ns)
        self.channel.trust_version = self.gate.trust.version
        self.seen: Seen[_Answer] = Seen()
        self.dialogue = Dialogue(self._tell_stage, still_ns=plan.times.still_ns)
        self._permits = tuple(
            PermitReader(self.shell.folder / f"{name}.permit") for name in ("reflex", "remote")
        )
        self.reflex = Client(
            loop,
            self.shell.folder / "reflex.sock",
            hello={"role": "remote", "boot": self.shell.boot, "pid": os.getpid()},
            allowed_uids=allowed_uids(("reflex",)),
            on_open=lambda _: self._tell_peer(),
            on_message=self._heard,
            on_end=self._peer_ended,
            on_bad=lambda reason: self.shell.bad_input("module_link", reason),
            retry_ms=(20, 200),
        )
        robot_id = plan.robot.id
        self.mqtt = MqttLink(
            loop,
            plan.remote,
            identifier=f"warden-{robot_id}",
            topics=[f"warden/v1/{robot_id}/cmd", *(f"warden/v1/group/{g}/cmd" for g in self._groups())],
            will=Outgoing(f"warden/v1/{robot_id}/link", b'{"online": false}', 1, retain=True),
            on_packet=self._packet,
            on_link=self._linked,
            on_dropped=self._dropped,
        )
        self.publisher = Publisher(plan, self.mqtt, load_private_key(Path(plan.remote.signing_key)))
        self._link_seen_ns = now_ns
        self._links = 0
        self.dropped = 0
        self._beats = 0
        self._commands = 0
        self._asked: dict[int, tuple[Entry, Command]] = {}
        self.ticker: Ticker | None = None

    def _groups(self) -> list[str]:
        return sorted({*self.gate.groups, "all"})

    def start(self) -> None:
        """The permit says stop before anything is opened."""
        self.channel.turn(time.monotonic_ns())
        self.shell.status = self._status
        self.devices.open()
        self.shell.start()
        self.reflex.start()
        self.ticker = Ticker(self.shell, self._tick)
        self.mqtt.start()

    def close(self) -> None:
        """The permit first, then the outputs; says farewell on the link; idempotent."""
        self.channel.close()
        self.devices.close()
        if self.ticker is not None:
            self.ticker.close()
        self.reflex.close()
        self.publisher.farewell()
        self.loop.run_until_complete(self._end_mqtt())
        self.shell.close()

    async def _end_mqtt(self) -> None:
        await self.mqtt.drain(0.5)
        await self.mqtt.close()

    # --------------------------------------------------------------------------------------- what wakes it

    def _tick(self, now_ns: int) -> None:
        self.devices.tick(now_ns)
        self.channel.watch_clocks()
        self.channel.turn(now_ns, Trigger("link", now_ns))
        self._beats += 1
        if self._beats % 2 == 0 and self.reflex.connected and not self.reflex.send({"type": "beat"}):
            self._lose_peer()
        self._give_up_waiting(now_ns)
        self._look(now_ns)
        self.publisher.tick(now_ns, self)

    def _edge(self) -> None:
        now_ns = time.monotonic_ns()
        self.channel.turn(now_ns, Trigger("input", now_ns))
        self._look(now_ns)

    def _sample(self, now_ns: int) -> Sample:
        plan, started_ns = self.plan, self.channel.started_ns
        active = dict(watch_peer(plan.rows, plan.times, started_ns, self.peer, now_ns))
        active.update(self.outputs.faults(now_ns, started_ns, plan.times.start_grace_ns))
        if self.mqtt.connected:
            self._link_seen_ns = now_ns
        elif plan.remote is not None and now_ns - self._link_seen_ns > plan.remote.link_lost_ns:
            active["link_lost"] = Demand()
        # How a stop of reflex ends is known only from reflex: keep it as it was while reflex is not heard.
        unknown = frozenset() if self.peer.connected else frozenset({PEER_STOP})
        return Sample(active, unknown)

    def _linked(self, up: bool, why: str) -> None:
        if up:
            self._links += 1
            if self._links > 1:
                self.shell.meter.inc("mqtt_reconnects_total")
            self.publisher.greet(self)
        self.shell.meter.set("mqtt_connected", float(up))
        self.shell.sink.emit("mqtt_link", {"up": up, "why": why}, stream="net")

    def _dropped(self) -> None:
        """A message for people that no link could take; the state is told anew at the next connection."""
        self.dropped += 1

    # ----------------------------------------------------------------------------------- people's commands

    def _packet(self, topic: str, payload: bytes, retained: bool) -> None:
        """One command, judged and acted on inside the client's callback."""
        read_ns = time.monotonic_ns()
        if len(payload) > MAX_PACKET:
            self._ill_formed(Code.TOO_LARGE, f"{len(payload)} bytes on {topic}")
            return
        try:
            opened = self.gate.open(payload)
        except TokenError as error:
            self._ill_formed(Code(error.code), str(error))
            return
        if opened.jti is None:
            self._ill_formed(Code.MALFORMED, f"no usable jti from {opened.kid}")
            return
        entry = Entry(opened.kid, opened.jti, opened.cmd, read_ns)
        if self._answered_before(entry):
            return
        if opened.command is None:
            self._refuse(entry, Code.MALFORMED if opened.refusal is None else opened.refusal.code)
            return
        entry.exp = opened.command.exp
        self._carry_out(entry, opened.command, payload, retained=retained)

    def _ill_formed(self, code: Code, reason: str) -> None:
        """It gets no reply (PROTOCOL 3): counted, and recorded at a bounded rate."""
        self.shell.meter.inc("commands_total", "unknown", code)
        self.shell.bad_input("mqtt", reason)

    def _answered_before(self, entry: Entry) -> bool:
        now_s = time.time()
        answer = self.seen.first_answer(entry.kid, entry.jti, now_s)
        if answer is None:
            answer = _Answer()
            self.seen.remember(entry.kid, entry.jti, exp=0.0, answer=answer, now_s=now_s)
            return False
        if answer.token:
            self.publisher.repeat(entry.kid, answer.token)
        return True

    def _carry_out(self, entry: Entry, command: Command, token: bytes, *, retained: bool) -> None:
        self._record_command(entry, command, retained=retained)
        if command.cmd in TOGETHER:
            self._ask_reflex(entry, command, token)
            return
        trigger = Trigger("command", entry.read_ns)
        carry_out(self.channel, command, trigger)
        if demanded(command) is None:
            self.dialogue.accept(entry)
            return
        if command.cmd == "suspend":
            self._forward(token)
        # Acted on already; acknowledged only when it is on the disk.
        self.channel.when_durable(lambda: self._await_stop(entry))

    def _await_stop(self, entry: Entry) -> None:
        self.dialogue.await_stop(entry)
        self._look(time.monotonic_ns())

    def _forward(self, token: bytes) -> int | None:
        self._commands += 1
        sent = self.reflex.send({"type": "command", "token": token.decode(), "n": self._commands})
        return self._commands if sent else None

    def _ask_reflex(self, entry: Entry, command: Command, token: bytes) -> None:
        code = refusal(self.channel, command, self.peer)
        if code is not None:
            self._refuse(entry, code, command)
            return
        number = self._forward(token)
        if number is None:
            self.dialogue.fail(entry, Code.NOT_VERIFIED_IN_TIME)
        else:
            self._asked[number] = (entry, command)

    def _verdict(self, message: Message) -> None:
        number, code = message.get("n"), message.get("code")
        asked = self._asked.pop(number, None) if isinstance(number, int) else None
        if asked is None:
            return
        entry, command = asked
        if code is not None:
            self._refuse(entry, _code(code), command)
            return
        if command.cmd == "resume" and (late := self._moved_on(command)) is not None:
            self._refuse(entry, late, command)
            return
        carry_out(self.channel, command, Trigger("command", entry.read_ns))
        then = self.dialogue.await_start if command.cmd == "resume" else self.dialogue.accept
        if command.cmd == "retire":
            then = self.dialogue.await_stop
        self.channel.when_durable(lambda: then(entry))

    def _moved_on(self, command: Command) -> Code | None:
        """Between the question and `reflex`'s answer this channel may have stopped anew."""
        if command.args.epoch != self.channel.state.epoch + self.peer.epoch:
            return Code.WRONG_EPOCH
        return next(iter(self.channel.blockers), None)

    def _give_up_waiting(self, now_ns: int) -> None:
        for number, (entry, _) in tuple(self._asked.items()):
            if now_ns - entry.read_ns > VERDICT_NS:
                del self._asked[number]
                self.dialogue.fail(entry, Code.NOT_VERIFIED_IN_TIME)

    def _refuse(self, entry: Entry, code: Code, command: Command | None = None) -> None:
        self.dialogue.refuse(entry, code)
        if command is not None and command.cmd in CHALLENGED:
            self.channel.refuse(time.monotonic_ns())
            self.publisher.changed()

    def _tell_stage(self, entry: Entry, stage: str, code: Code | None) -> None:
        after_ns = time.monotonic_ns() - entry.read_ns
        token = self.publisher.reply(entry, stage, code, after_ns // 1000)
        answer = self.seen.first_answer(entry.kid, entry.jti, time.time())
        if answer is not None and not answer.token:
            answer.token = token
            result = code.value if code is not None and stage == "refused" else "accepted"
            self.shell.meter.inc("commands_total", entry.cmd if entry.cmd in _KNOWN else "unknown", result)
        if entry.cmd in _KNOWN:
            self.shell.meter.observe("command_stage_seconds", after_ns / 1e9, entry.cmd, stage)
        body = {"kid": entry.kid, "jti": entry.jti, "cmd": entry.cmd, "stage": stage, "reason": code}
        self.shell.sink.emit("command_stage", {**body, "after_us": after_ns // 1000})

    def _record_command(self, entry: Entry, command: Command, *, retained: bool) -> None:
        body = {
            "kid": entry.kid,
            "jti": entry.jti,
            "cmd": command.cmd,
            "reason": command.args.reason,
            "notes": list(command.notes),
            "retained": retained,
        }
        # Recorded from the loop's next turn on: the stop comes first.
        self.loop.call_soon(self.shell.sink.emit, "command", body)

    # ------------------------------------------------------------------------------------ the other module

    def _tell_peer(self) -> None:
        if self.reflex.connected and not self.reflex.send(self._own_state()):
            self._lose_peer()

    def _own_state(self) -> dict[str, object]:
        return channel_state(self.channel, still=False, now_ns=time.monotonic_ns())

    def _lose_peer(self) -> None:
        """It does not read what it is told: as good as gone."""
        if self.reflex.connection is not None:
            self.reflex.connection.close()
        self.peer = self.peer.lost()

    def _peer_ended(self, _: Connection) -> None:
        self.peer = self.peer.lost()
        now_ns = time.monotonic_ns()
        self.channel.turn(now_ns, Trigger("peer", now_ns))

    def _heard(self, _: Connection, message: Message) -> None:
        now_ns = time.monotonic_ns()
        kind = message["type"]
        if kind == "beat":
            self.peer = self.peer.beaten(now_ns, still=message.get("still") is True)
        elif kind == "state":
            self._peer_told(message, now_ns)
        elif kind == "verdict":
            self._verdict(message)
        elif kind == "telemetry":
            self.publisher.telemetry(message.get("data"))

    def _peer_told(self, message: Message, now_ns: int) -> None:
        try:
            self.peer = read_state(message, now_ns)
        except ValueError as error:
            self.shell.bad_input("module_link", f"state from reflex: {error}")
            return
        self.peer_causes = read_causes(message)
        self.channel.turn(now_ns, Trigger("peer", now_ns))
        self.publisher.changed()
        self._look(now_ns)

    # ---------------------------------------------------------------------------------- people and records

    def _look(self, now_ns: int) -> None:
        if self.dialogue.waiting:
            self.dialogue.look(self._effect(now_ns), now_ns)

    def _effect(self, now_ns: int) -> Effect:
        """Seen on the permits themselves, as the robot sees them, and on the outputs' read-back."""
        motion = [permit.read().motion_until_ns > now_ns for permit in self._permits]
        off = self.channel.state.power_limit_ns == 0
        dropped = self.outputs.dropped(now_ns) if off else True
        return Effect(
            withdrawn=not any(motion) and dropped,
            still=self.peer.connected and self.peer.still,
            running=all(motion),
        )

    def _tell_people(self, outcome: Outcome, now_ns: int) -> None:
        state, meter = self.channel.state, self.shell.meter
        for response in Response:
            meter.set("response", float(response == state.response), "remote", response.label)
        meter.set("motion_permitted", float(not state.response.stops), "remote")
        meter.set("power_permitted", float(self.outputs.energised or state.power_limit_ns is None), "remote")
        meter.set("epoch", state.epoch, "remote")
        self.publisher.changed()
        if outcome.rose or outcome.raised or outcome.cleared:
            self.publisher.event(self, outcome)

    def _status(self) -> dict[str, object]:
        now_ns = time.monotonic_ns()
        trip = self.mqtt.round_trip_s
        return {
            "channel": channel_state(self.channel, still=False, now_ns=now_ns),
            "mqtt": {
                "connected": self.mqtt.connected,
                "dropped": self.dropped,
                "round_trip_ms": None if trip == float("inf") else round(trip * 1000, 3),
            },
            "peer_connected": self.peer.connected,
            "devices": self.devices.counters,
            "latch_problem": self.channel.latch_problem,
        }


def _code(told: object) -> Code:
    """What the other module said; anything that is no code of PROTOCOL 3 is `malformed`."""
    try:
        return Code(str(told))
    except ValueError:
        return Code.MALFORMED


class _Answer:
    """The first answer a command got; empty while it is awaited."""

    token = ""


_KNOWN = frozenset(
    {
        *("stop", "resume", "power_off", "request_maintenance", "maintenance"),
        *("suspend", "reinstate", "retire", "ping"),
    }
)
