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
from agent.core.causes import PEER_STOP
from agent.core.machine import Demand, Outcome
from agent.core.peer import UNHEARD, watch_peer
from agent.core.plan import Plan
from agent.core.responses import Response
from agent.desk import Desk
from agent.devices import Devices, wanted
from agent.dialogue import Effect
from agent.errors import WardenError
from agent.gate import load_gate
from agent.ledger_link import LedgerLink
from agent.link import Client, Connection, Message
from agent.mqtt import MqttLink, Outgoing
from agent.network_log import NetworkLog
from agent.outputs import Outputs
from agent.peer_link import channel_state, read_causes, read_state
from agent.permit import PermitReader, PermitWriter
from agent.processes import allowed_uids
from agent.protocols import Protocols
from agent.publisher import Publisher
from agent.shell import TICK_NS, Shell, Ticker
from agent.tokens import load_private_key

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
            topics=[
                f"warden/v1/{robot_id}/cmd",
                *(f"warden/v1/group/{g}/cmd" for g in self._groups()),
                f"warden/v1/{robot_id}/ledger/ack",
            ],
            will=Outgoing(f"warden/v1/{robot_id}/link", b'{"online": false}', 1, retain=True),
            on_packet=self._packet,
            on_link=self._linked,
            on_dropped=self._dropped,
        )
        self.network = NetworkLog(self.shell.sink.emit, lambda: self.mqtt.about.get("peer", ""))
        self.mqtt.on_sent = self.network.sent
        self.ledger = LedgerLink(
            robot_id,
            self.mqtt,
            offer=self.shell.sink.offer,
            bad=lambda reason: self.shell.bad_input("mqtt", reason),
        )
        self.shell.sink.on_message = self.ledger.told
        self.publisher = Publisher(plan, self.mqtt, load_private_key(Path(plan.remote.signing_key)))
        self.desk = Desk(
            self.shell,
            channel=self.channel,
            gate=self.gate,
            publisher=self.publisher,
            peer=lambda: self.peer,
            effect=self._effect,
            ask_reflex=self.reflex.send,
        )
        self.protocols = Protocols(self.shell)
        self._link_seen_ns = now_ns
        self._links = 0
        self.dropped = 0
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
        self.ticker = Ticker(self.shell, self._tick, self.shell.tick_ns(2 * TICK_NS))
        self.mqtt.start()

    def close(self) -> None:
        """The permit first, then the outputs; says farewell on the link; idempotent."""
        self.channel.close()
        self.devices.close()
        self.protocols.close()
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
        if self.reflex.connected and not self.reflex.send({"type": "beat"}):
            self._lose_peer()
        self.protocols.tick(now_ns)
        self.desk.look(now_ns)
        self.publisher.tick(now_ns, self)
        self.network.tick(now_ns)
        self.ledger.tick()

    def _edge(self) -> None:
        now_ns = time.monotonic_ns()
        self.channel.turn(now_ns, Trigger("input", now_ns))
        self.desk.look(now_ns)

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

    def _packet(self, topic: str, payload: bytes, retained: bool) -> None:
        """Acted on first, counted after."""
        if topic == self.ledger.ack_topic:
            self.ledger.acknowledged(payload, retained=retained)
        else:
            self.desk.take(topic, payload, retained=retained)
        self.network.received(topic, len(payload))

    @property
    def log_head(self) -> dict[str, object] | None:
        """How far the ledger goes, for the state."""
        return self.ledger.head

    def _linked(self, up: bool, why: str) -> None:
        if up:
            self._links += 1
            if self._links > 1:
                self.shell.meter.inc("mqtt_reconnects_total")
            self.publisher.greet(self)
        self.shell.meter.set("mqtt_connected", float(up))
        self.network.link(up=up, why=why, about=self.mqtt.about)

    def _dropped(self) -> None:
        """A message for people that no link could take; the state is told anew at the next connection."""
        self.dropped += 1

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
            self.desk.verdict(message)
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
        self.desk.look(now_ns)

    # ---------------------------------------------------------------------------------- people and records

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
        if outcome.rose:
            self.shell.tidy_soon()
            self.protocols.begin(outcome.was, state.response, state.epoch + self.peer.epoch, now_ns)
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
