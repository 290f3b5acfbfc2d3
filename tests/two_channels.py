"""Both channels joined as `reflex` and `remote` join them; time, wire, disk and people are the test's.

Everything that decides is the product's: `Channel`, `evaluate`, `watch_peer`, `commanding`, `peer_link`, the
latch files and the permits. What is here is the glue of agent/reflex.py and agent/desk.py without sockets: a
wire of JSON texts in order, and signatures as names that only `Joined.sign` can make.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.channel import Sample, Trigger
from agent.commanding import CHALLENGED, carry_out, refusal
from agent.core import evaluate as ev
from agent.core.causes import MS, PEER_STOP
from agent.core.commands import Args, Code, Command
from agent.core.peer import UNHEARD, PeerView, watch_peer
from agent.core.plan import Plan
from agent.core.readings import Reading
from agent.core.resume import stopped_since
from agent.core.trust import Role
from agent.peer_link import channel_state, read_state
from tests.channels import Life
from tests.core.factories import CLOSED, FAR, NEAR, NOW_NS, OPEN, SPLIT, but, small_plan

TICK_NS = 10 * MS
ROLES = {"reinstate": Role.DEPARTMENT, "suspend": Role.DEPARTMENT, "retire": Role.DEPARTMENT}
TOGETHER = frozenset({"resume", "reinstate", "retire", "maintenance"})
"""Commands that `reflex` judges first (agent/desk.py)."""
CONTACTS: dict[str, Reading] = {"closed": CLOSED, "open": OPEN, "split": SPLIT}


@dataclass
class World:
    """What is true outside: the button, the distance, the robot's software."""

    contact: str = "closed"
    near: bool = False
    robot_since_ns: int = 0
    last_beat_ns: int = 0
    robot_beats: bool = True
    telemetry: dict[str, tuple[bool, int]] = field(default_factory=dict)


class Watcher:
    """Told what each channel sees and accepts, before it acts; a test's model overrides it."""

    def sampled(self, side: "Side", now_ns: int) -> None:
        """A turn begins; the channel sees the world and its view of the other as they are now."""

    def asked(self, side: "Side", number: int) -> None:
        """`remote` found a resume in order and asks `reflex`."""

    def obeys(self, side: "Side", command: Command, number: int) -> None:
        """A command is about to take effect in this channel."""

    def wrote(self, side: "Side") -> None:
        """Everything of this channel is on its disk."""


class Side:
    """One channel's process."""

    name = ""

    def __init__(self, joined: "Joined") -> None:
        self.joined = joined
        self.peer: PeerView = UNHEARD
        self.life = Life(
            self.name,
            joined.plan,
            joined.folder,
            now_ns=joined.now_ns,
            sample=self._sample_and_tell,
            tell_peer=self.tell_peer,
        )
        self.frozen = False
        self.channel = self.life.channel

    def _sample_and_tell(self, now_ns: int) -> Sample:
        self.joined.watcher.sampled(self, now_ns)
        return self.sample(now_ns)

    def sample(self, now_ns: int) -> Sample:
        """As the module's `_sample`."""
        plan, started_ns = self.joined.plan, self.channel.started_ns
        active = dict(watch_peer(plan.rows, plan.times, started_ns, self.peer, now_ns))
        active.update(self.life.outputs.faults(now_ns, started_ns, plan.times.start_grace_ns))
        return Sample(active, frozenset() if self.peer.connected else frozenset({PEER_STOP}))

    @property
    def still(self) -> bool:
        return False

    def turn(self) -> None:
        self.channel.turn(self.joined.now_ns)

    def tell_peer(self) -> None:
        self.post(channel_state(self.channel, still=self.still, now_ns=self.joined.now_ns))

    def post(self, message: Mapping[str, object]) -> bool:
        return self.joined.post(self.name, message)

    def hear(self, message: Mapping[str, Any]) -> None:
        now_ns = self.joined.now_ns
        if message["type"] == "beat":
            self.peer = self.peer.beaten(now_ns, still=False)
        elif message["type"] == "state":
            try:
                self.peer = read_state(message, now_ns)
            except ValueError:
                return
            self.turn()
        else:
            self.hear_more(message)

    def hear_more(self, message: Mapping[str, Any]) -> None:
        """What only one of the two understands."""

    def lose_peer(self) -> None:
        self.peer = self.peer.lost()
        if not self.frozen:
            self.turn()


class ReflexSide(Side):
    """agent/reflex.py without its descriptors."""

    name = "reflex"

    def __init__(self, joined: "Joined") -> None:
        self.verdict = ev.Verdict()
        super().__init__(joined)
        self.memory = ev.remember(joined.plan, self.channel.latched_keys, joined.now_ns)

    @property
    def still(self) -> bool:
        return self.verdict.still

    def sample(self, now_ns: int) -> Sample:
        world, base = self.joined.world, super().sample(now_ns)
        state = self.channel.state
        seen = ev.Observations(
            readings={"estop": CONTACTS[world.contact], "range": NEAR if world.near else FAR},
            telemetry=world.telemetry,
            robot_since_ns=world.robot_since_ns,
            last_beat_ns=world.last_beat_ns,
            stopped_ns=state.stopped_ns,
            powered=state.power_limit_ns != 0,
        )
        self.memory, self.verdict = ev.evaluate(self.joined.plan, self.memory, seen, now_ns)
        active = {**self.verdict.active, **base.active}
        return Sample(active, self.verdict.unknown | base.unknown, self.verdict.unreset)

    def hear_more(self, message: Mapping[str, Any]) -> None:
        if message["type"] != "command":
            return
        command = self.joined.signed.get(message["token"])
        code = Code.BAD_SIGNATURE if command is None else self._carry_out(command)
        self.post({"type": "verdict", "n": message["n"], "code": code})

    def _carry_out(self, command: Command) -> Code | None:
        code = refusal(self.channel, command, self.peer)
        if code is None:
            self.joined.obey(self, command, 0)
        elif command.cmd in CHALLENGED:
            self.channel.refuse(self.joined.now_ns)
        return code


class RemoteSide(Side):
    """agent/remote.py and its desk without MQTT."""

    name = "remote"

    def __init__(self, joined: "Joined") -> None:
        self.asked: dict[int, tuple[int, Command]] = {}
        self.asks = 0
        super().__init__(joined)

    def take(self, token: str) -> None:
        """A person's command from the network, once or again."""
        command = self.joined.signed[token]
        if command.cmd in TOGETHER:
            self._ask_reflex(token, command)
            return
        self.joined.obey(self, command, 0)
        if command.cmd == "suspend":
            self._forward(token)

    def _forward(self, token: str) -> int | None:
        self.asks += 1
        sent = self.post({"type": "command", "token": token, "n": self.asks})
        return self.asks if sent else None

    def _ask_reflex(self, token: str, command: Command) -> None:
        if refusal(self.channel, command, self.peer) is not None:
            self._refuse(command)
            return
        number = self._forward(token)
        if number is not None:
            self.joined.watcher.asked(self, number)
            self.asked[number] = (self.joined.now_ns, command)

    def hear_more(self, message: Mapping[str, Any]) -> None:
        asked = self.asked.pop(message.get("n", 0), None)
        if asked is None:
            return
        asked_ns, command = asked
        late = command.cmd == "resume" and self._moved_on(asked_ns, command)
        if message["code"] is not None or late:
            self._refuse(command)
        else:
            self.joined.obey(self, command, message["n"])

    def _moved_on(self, asked_ns: int, command: Command) -> bool:
        """Between the question and the answer this channel may have stopped anew."""
        state = self.channel.state
        wrong_epoch = command.args.epoch != state.epoch + self.peer.epoch
        return wrong_epoch or bool(self.channel.blockers) or stopped_since(state, asked_ns)

    def _refuse(self, command: Command) -> None:
        if command.cmd in CHALLENGED:
            self.channel.refuse(self.joined.now_ns)


class Joined:
    """The robot: two processes, a wire between them, a world around them."""

    def __init__(self, folder: Path, watcher: Watcher, plan: Plan | None = None) -> None:
        self.folder = folder
        self.watcher = watcher
        self.plan = plan or small_plan()
        self.now_ns = NOW_NS
        self.world = World()
        self.signed: dict[str, Command] = {}
        self.wires: dict[str, deque[str]] = {"reflex": deque(), "remote": deque()}
        self.connected = False
        self.flows = True
        self.hostile = False
        self.sides: dict[str, Side | None] = {"reflex": None, "remote": None}
        self._ticks = 0

    # ---- processes

    @property
    def reflex(self) -> ReflexSide | None:
        side = self.sides["reflex"]
        return side if isinstance(side, ReflexSide) else None

    @property
    def remote(self) -> RemoteSide | None:
        side = self.sides["remote"]
        return side if isinstance(side, RemoteSide) else None

    def start(self, name: str) -> None:
        """As systemd starts it: a life on what the last one left."""
        make: Callable[[Joined], Side] = ReflexSide if name == "reflex" else RemoteSide
        side = self.sides[name] = make(self)
        side.turn()

    def kill(self, name: str) -> None:
        """Kill -9."""
        side = self.sides[name]
        if side is not None:
            self.sides[name] = None
            side.life.kill()
            self.cut()

    def power_cut(self) -> None:
        """Both processes end and the permits, in memory, are gone."""
        for name in self.sides:
            self.kill(name)
            (self.folder / f"{name}.permit").unlink(missing_ok=True)

    # ---- the wire

    def post(self, sender: str, message: Mapping[str, object]) -> bool:
        if self.connected:
            self.wires["remote" if sender == "reflex" else "reflex"].append(json.dumps(message))
        return self.connected

    def join(self) -> None:
        """`remote` connects; each tells the other how it stands."""
        reflex, remote = self.reflex, self.remote
        if self.connected or self.hostile or reflex is None or remote is None:
            return
        if not (reflex.frozen or remote.frozen):
            self.connected = True
            remote.tell_peer()
            reflex.tell_peer()

    def cut(self) -> None:
        """The connection ends: both see it, and what was under way is lost."""
        self.connected = False
        for wire in self.wires.values():
            wire.clear()
        for side in self.sides.values():
            if side is not None:
                side.lose_peer()

    def deliver(self) -> None:
        """All that is under way, answers included; a frozen process reads nothing."""
        moved = True
        while moved and self.flows:
            moved = False
            for name, wire in self.wires.items():
                side = self.sides[name]
                if wire and side is not None and not side.frozen:
                    side.hear(json.loads(wire.popleft()))
                    moved = True
                elif name == "remote" and self.hostile:
                    wire.clear()

    # ---- time

    def tick(self, count: int = 1) -> None:
        """Time passes as the modules' own 10 ms ticks see it."""
        for _ in range(count):
            self.now_ns += TICK_NS
            self._ticks += 1
            self._beat_of_the_robot()
            for side in self._at_work():
                side.turn()
                if self._ticks % 2 == 0:
                    side.post({"type": "beat", "still": side.still})
            self.deliver()
            self.write_disks()

    def _at_work(self) -> list[Side]:
        return [side for side in self.sides.values() if side is not None and not side.frozen]

    def write_disks(self) -> None:
        """What was handed over is on the disks that work."""
        for side in self._at_work():
            if side.life.disk.works:
                side.life.disk.write()
                self.watcher.wrote(side)

    def _beat_of_the_robot(self) -> None:
        world = self.world
        if world.robot_since_ns and world.robot_beats:
            world.last_beat_ns = self.now_ns
            world.telemetry = {"still": (not self.running(), self.now_ns)}

    def running(self) -> bool:
        """As the robot sees it: both permits permit."""
        return all(
            side is not None and side.life.read().motion_until_ns > self.now_ns
            for side in self.sides.values()
        )

    def connect_robot(self) -> None:
        self.world.robot_since_ns = self.world.last_beat_ns = self.now_ns
        self.world.telemetry = {}

    # ---- people

    def sign(self, cmd: str, **args: object) -> str:
        """A person's signed command; its token."""
        token = f"token-{len(self.signed)}"
        given = but(Args(reason="because"), args)
        role = ROLES.get(cmd, Role.GUARDIAN)
        self.signed[token] = Command(cmd, "kid", role, token, 0.0, 1.0, given, ())
        return token

    def sign_current(self, cmd: str, **args: object) -> str:
        """A command with the epoch and challenge that `remote` publishes now."""
        remote = self.remote
        if remote is None:
            return self.sign(cmd, epoch=0, challenge=bytes(16), **args)
        epoch = remote.channel.state.epoch + remote.peer.epoch
        challenge = (remote.peer.half or bytes(8)) + remote.channel.state.half
        return self.sign(cmd, epoch=epoch, challenge=challenge, **args)

    def obey(self, side: Side, command: Command, number: int) -> None:
        self.watcher.obeys(side, command, number)
        carry_out(side.channel, command, Trigger("command", self.now_ns))
