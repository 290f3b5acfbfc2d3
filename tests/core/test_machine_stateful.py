"""The core of the real processes, both joined, through whatever may happen; a simple model beside it.

The model knows of each channel only why it must not run, and which of that survives a crash. It never says
when a robot must run (`bring_up` does, at the end of every repair), only when it must not.
"""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agent.core.causes import MS
from agent.core.commands import Command
from agent.core.responses import Response
from agent.core.resume import HALVES
from agent.permit import Permit
from tests.channels import disks
from tests.core.factories import SS1_NS, TIMES
from tests.two_channels import Joined, RemoteSide, Side, Watcher

NAMES = ("reflex", "remote")
names = st.sampled_from(NAMES)
AUTOMATIC = frozenset({"too_close", "clock_jump"})
"""The small plan's rows that end by themselves."""
KEPT = frozenset({"suspended", "reinstated", "retired", "maintenance", "maintained"})
"""Reasons that a crash does not end once they are on the disk."""
COMMANDED = {"stop": "stop", "power_off": "stop", "suspend": "suspended", "retire": "retired"}
PROOF_NS, NEAR_NS = 50 * MS, 40 * MS


class Model(Watcher):
    """Why each channel must not run. Every reason carries the number of the turn in which it last came."""

    def __init__(self, joined: Joined | None = None) -> None:
        self.joined = joined
        self.why: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        self.on_disk: dict[str, set[str]] = {name: set() for name in NAMES}
        self.covered_until_ns = dict.fromkeys(NAMES, 0)
        self.ran_until_ns = dict.fromkeys(NAMES, 0)
        self.asked_at: dict[int, int] = {}
        self.used: set[tuple[str, bytes]] = set()
        self.clock = 0
        self.split_ns: int | None = None
        self.near_ns: int | None = None
        self.proof = ""
        """Of the e-stop after a discrepancy: "due", then "open" once both contacts were seen open."""

    def add(self, name: str, reason: str) -> None:
        self.clock += 1
        self.why[name][reason] = self.clock

    def started(self, name: str) -> None:
        self.why[name] = dict.fromkeys(self.on_disk[name], self.clock)
        self.add(name, "start")
        self.covered_until_ns[name] = self.ran_until_ns[name] = 0

    def wrote(self, side: Side) -> None:
        self.on_disk[side.name] = set(KEPT & self.why[side.name].keys())

    # ---- what a turn sees

    def sampled(self, side: Side, now_ns: int) -> None:
        name, peer = side.name, side.peer
        if 0 < self.ran_until_ns[name] <= now_ns:
            self.add(name, "late")
        if (not peer.connected or now_ns - peer.heard_ns > TIMES.peer_timeout_ns) and peer.heard_ns:
            self.add(name, "peer lost")
        self._mirror(side, now_ns)
        if name == "reflex":
            self._look_at_the_world(side, now_ns)

    def _mirror(self, side: Side, now_ns: int) -> None:
        name, peer = side.name, side.peer
        if not peer.own.stops:
            if now_ns < self.covered_until_ns[name]:
                self.why[name].pop("other stopped", None)
            self.covered_until_ns[name] = 0
        elif not (peer.causes and AUTOMATIC.issuperset(peer.causes)) and (
            now_ns >= self.covered_until_ns[name] or "other stopped" not in self.why[name]
        ):
            self.add(name, "other stopped")

    def _look_at_the_world(self, side: Side, now_ns: int) -> None:
        assert self.joined is not None
        world, started_ns = self.joined.world, side.channel.started_ns
        if world.contact != "closed":
            self.add("reflex", "e-stop")
        if now_ns - started_ns >= TIMES.start_grace_ns and not world.robot_since_ns:
            self.add("reflex", "robot gone")
        if world.robot_since_ns and now_ns - world.last_beat_ns > TIMES.beat_timeout_ns:
            self.add("reflex", "robot hung")
        self.near_ns = None if not world.near else now_ns if self.near_ns is None else self.near_ns
        self._watch_the_proof(world.contact, now_ns)

    def _watch_the_proof(self, contact: str, now_ns: int) -> None:
        if contact == "split":
            self.split_ns = now_ns if self.split_ns is None else self.split_ns
            if now_ns - self.split_ns >= PROOF_NS:
                self.proof = "due"
            return
        self.split_ns = None
        if contact == "open" and self.proof == "due":
            self.proof = "open"
        elif contact == "closed" and self.proof == "open":
            self.proof = ""

    # ---- what people command

    def asked(self, side: Side, number: int) -> None:
        self.asked_at[number] = self.clock

    def obeys(self, side: Side, command: Command, number: int) -> None:
        name = side.name
        if command.cmd in COMMANDED:
            self.add(name, COMMANDED[command.cmd])
        elif command.cmd == "maintenance":
            self._maintenance(name, begins=command.args.begin is True)
        elif command.cmd == "reinstate":
            self._reinstated(side, command, number)
        elif command.cmd == "resume":
            self._resumed(side, command, number)

    def _maintenance(self, name: str, *, begins: bool) -> None:
        if begins:
            self.why[name].pop("maintained", None)
            self.add(name, "maintenance")
        elif self.why[name].pop("maintenance", None) is not None:
            self.add(name, "maintained")

    def _reinstated(self, side: Side, command: Command, number: int) -> None:
        self._hold_to_challenge(side, command, number)
        if self.why[side.name].pop("suspended", None) is not None:
            self.add(side.name, "reinstated")

    def _resumed(self, side: Side, command: Command, number: int) -> None:
        """A resume takes effect. It must be right, and ends what stood when it was asked for."""
        name = side.name
        why = self.why[name]
        self._hold_to_challenge(side, command, number)
        assert command.args.epoch == side.channel.state.epoch + side.peer.epoch
        assert not {"suspended", "retired", "maintenance"} & why.keys(), f"resumed although {why}"
        if name == "reflex":
            assert self.joined is not None
            assert self.joined.world.contact == "closed"
            assert not self.proof
        since = self.asked_at.get(number, self.clock)
        self.why[name] = {
            reason: at for reason, at in why.items() if at > since and reason != "other stopped"
        }
        self.covered_until_ns[name] = side.joined.now_ns + 1_000 * MS

    def _hold_to_challenge(self, side: Side, command: Command, number: int) -> None:
        """`reflex` checks its half as it acts; `remote` did when it asked."""
        challenge = command.args.challenge or b""
        if not number:
            assert challenge[HALVES[side.name]] == side.channel.state.half
        key = (side.name, challenge)
        assert key not in self.used, "one challenge taken twice"
        self.used.add(key)


class Robot(RuleBasedStateMachine):
    """What may happen to a robot with two channels."""

    @initialize()
    def install(self) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(disks())
        self.folder = Path(tempfile.mkdtemp(prefix="warden-"))
        self.stack.callback(shutil.rmtree, self.folder)
        self.model = Model()
        self.joined = Joined(self.folder, self.model)
        self.model.joined = self.joined
        self.epochs = dict.fromkeys(NAMES, 0)
        self.last_words: dict[str, Permit] = {}
        self.tokens: list[str] = []
        for name in NAMES:
            self.start(name)
        self.bring_up()

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            for name in NAMES:
                self.joined.kill(name)
            self.stack.close()

    # ---- what must hold after everything that happens

    def check(self) -> None:
        for name in NAMES:
            side = self.joined.sides[name]
            if side is None or side.frozen:
                self._check_absent(name)
            else:
                self._check(side)

    def _check_absent(self, name: str) -> None:
        """Nobody else renews its permit."""
        said = self.last_words.get(name)
        side = self.joined.sides[name]
        if side is not None and said is not None:
            assert side.life.read() == said

    def _check(self, side: Side) -> None:
        name, state, now_ns = side.name, side.channel.state, self.joined.now_ns
        permit = side.life.read()
        runs = permit.motion_until_ns > now_ns
        self.model.ran_until_ns[name] = permit.motion_until_ns
        if runs:
            assert not self.model.why[name], f"{name} runs although {self.model.why[name]}"
            assert not side.peer.own.stops
            near_ns = self.model.near_ns if name == "reflex" else None
            assert near_ns is None or now_ns - near_ns < NEAR_NS + 10 * MS
        worst = max((c.response for c in state.causes if c.active), default=Response.NONE)
        assert permit.response == state.response >= worst
        assert (permit.motion_until_ns == 0) == (permit.speed_permille == 0) == state.response.stops
        assert side.life.relay.orders.get("relay", False) == (permit.power_until_ns > now_ns)
        if state.response >= Response.EMERGENCY_STOP:
            assert permit.power_until_ns == 0
        assert permit.epoch == state.epoch >= self.epochs[name]
        self.epochs[name] = permit.epoch
        if "retired" in self.model.on_disk[name]:
            assert state.response == Response.RETIRE

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.joined.tick()
            self.check()

    # ---- time, processes, disks, the wire

    @rule(count=st.integers(1, 30))
    def time_passes(self, count: int) -> None:
        self.tick(count)

    def start(self, name: str) -> None:
        self.model.started(name)
        self.last_words.pop(name, None)
        self.joined.start(name)

    @rule(name=names)
    def kill(self, name: str) -> None:
        self.joined.kill(name)
        self.check()

    @rule(name=names)
    def restart(self, name: str) -> None:
        if not (name == "remote" and self.joined.hostile):
            self.joined.kill(name)
            self.start(name)
            self.joined.join()
            self.check()

    @rule(name=names)
    def freeze(self, name: str) -> None:
        side = self.joined.sides[name]
        if side is not None and not side.frozen:
            side.frozen = True
            self.last_words[name] = side.life.read()

    @rule(name=names)
    def thaw(self, name: str) -> None:
        side = self.joined.sides[name]
        if side is not None and side.frozen:
            side.frozen = False
            self.last_words.pop(name, None)
            side.turn()
            self.check()

    @rule(name=names, works=st.booleans())
    def disk(self, name: str, works: bool) -> None:
        side = self.joined.sides[name]
        if side is not None:
            side.life.disk.works = works

    @rule()
    def power_cut(self) -> None:
        """While more than one stop is missing on a disk its epoch cannot be known after; see the report."""
        sides = [side for side in self.joined.sides.values() if side is not None]
        if all(side.channel.state.epoch - side.channel.durable_epoch <= 1 for side in sides):
            self.joined.power_cut()
            for name in NAMES:
                self.model.ran_until_ns[name] = 0
                if not (name == "remote" and self.joined.hostile):
                    self.start(name)
            self.joined.join()
            self.check()

    @rule()
    def cut_the_wire(self) -> None:
        self.joined.cut()
        self.check()

    @rule()
    def join_the_wire(self) -> None:
        self.joined.join()
        self.check()

    @rule(flows=st.booleans())
    def hold_the_wire(self, flows: bool) -> None:
        self.joined.flows = flows

    @rule(name=names)
    def lose_a_message(self, name: str) -> None:
        if self.joined.wires[name]:
            self.joined.wires[name].popleft()

    # ---- the world

    @rule(contact=st.sampled_from(["open", "closed", "split"]))
    def e_stop(self, contact: str) -> None:
        self.joined.world.contact = contact
        self._edge()

    @rule(near=st.booleans())
    def somebody(self, near: bool) -> None:
        self.joined.world.near = near
        self._edge()

    @rule(there=st.booleans())
    def robot_software(self, there: bool) -> None:
        if not there:
            self.joined.world.robot_since_ns = 0
        elif not self.joined.world.robot_since_ns:
            self.joined.connect_robot()
        self._edge()

    @rule(beats=st.booleans())
    def robot_beats(self, beats: bool) -> None:
        self.joined.world.robot_beats = beats

    def _edge(self) -> None:
        reflex = self.joined.reflex
        if reflex is not None and not reflex.frozen:
            reflex.turn()
        self.check()

    # ---- people

    def send(self, token: str) -> None:
        """One command arrives at `remote`; what it sends on may be held up."""
        self.tokens = [*self.tokens[-15:], token]
        remote = self.joined.remote
        if remote is not None and not remote.frozen:
            remote.take(token)
            self.check()
            self.joined.deliver()
            self.check()

    @rule(response=st.sampled_from([Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP]))
    def guardian_stops(self, response: Response) -> None:
        self.send(self.joined.sign("stop", response=response))

    @rule()
    def power_off(self) -> None:
        self.send(self.joined.sign("power_off"))

    @rule()
    def guardian_resumes(self) -> None:
        self.send(self.joined.sign_current("resume"))

    @rule(by=st.sampled_from([-1, 1]))
    def guardian_names_another_stop(self, by: int) -> None:
        right = self.joined.signed[self.joined.sign_current("resume")].args
        self.send(
            self.joined.sign("resume", epoch=max(0, (right.epoch or 0) + by), challenge=right.challenge)
        )

    @rule(which=st.integers(0, 15), renamed=st.booleans())
    def guardian_is_late(self, which: int, renamed: bool) -> None:
        """An old challenge, with the old epoch or the present one."""
        resumes = [t for t in self.tokens if self.joined.signed[t].cmd == "resume"]
        if resumes:
            old = self.joined.signed[resumes[which % len(resumes)]].args
            now = self.joined.signed[self.joined.sign_current("resume")].args
            epoch = now.epoch if renamed else old.epoch
            self.send(self.joined.sign("resume", epoch=epoch, challenge=old.challenge))

    @rule(which=st.integers(0, 15))
    def a_command_comes_again(self, which: int) -> None:
        if self.tokens:
            self.send(self.tokens[which % len(self.tokens)])

    @rule()
    def suspend(self) -> None:
        self.send(self.joined.sign("suspend"))

    @rule(right=st.booleans())
    def reinstate(self, right: bool) -> None:
        if right:
            self.send(self.joined.sign_current("reinstate", evaluation="passed"))
        else:
            self.send(self.joined.sign("reinstate", epoch=1, challenge=bytes(16), evaluation="passed"))

    @rule(begin=st.booleans())
    def maintenance(self, begin: bool) -> None:
        self.send(self.joined.sign("maintenance", begin=begin))

    @rule(dice=st.integers(0, 9))
    def retire(self, dice: int) -> None:
        if dice == 0:
            self.send(self.joined.sign_current("retire"))

    # ---- a remote in an attacker's hands

    @precondition(lambda self: not self.joined.hostile)
    @rule(dice=st.integers(0, 3))
    def remote_is_taken_over(self, dice: int) -> None:
        if dice == 0:
            self.joined.kill("remote")
            self.joined.hostile = self.joined.connected = True
            self.check()

    @precondition(lambda self: self.joined.hostile)
    @rule(
        own=st.sampled_from([Response.NONE, Response.HOLD, Response.EMERGENCY_STOP, Response.RETIRE]),
        causes=st.lists(
            st.sampled_from(["too_close", "clock_jump", "guardian_stop", "invented"]), max_size=3
        ),
        epoch=st.integers(0, 9),
    )
    def it_says_how_it_stands(self, own: Response, causes: list[str], epoch: int) -> None:
        state = {"own": int(own), "response": int(own), "stops": causes, "epoch": epoch, "half": "00" * 8}
        self._hostile({"type": "state", "still": True, "blockers": [], "causes": [], **state})

    @precondition(lambda self: self.joined.hostile)
    @rule(count=st.integers(1, 10))
    def it_beats(self, count: int) -> None:
        for _ in range(count):
            self._hostile({"type": "beat", "still": True})
            self.tick()

    @precondition(lambda self: self.joined.hostile)
    @rule(token=st.integers(0, 15))
    def it_passes_on_what_people_signed(self, token: int) -> None:
        if self.tokens:
            self._hostile({"type": "command", "n": 1, "token": self.tokens[token % len(self.tokens)]})

    @precondition(lambda self: self.joined.hostile)
    @rule()
    def it_invents_a_resume(self) -> None:
        self._hostile({"type": "command", "n": 1, "token": "invented"})

    @precondition(lambda self: self.joined.hostile)
    @rule()
    def a_guardian_resumes_through_it(self) -> None:
        """It knows reflex's half and shows the guardian its own; whether it passes it on is its own affair."""
        reflex = self.joined.reflex
        if reflex is not None:
            epoch = reflex.channel.state.epoch + reflex.peer.epoch
            token = self.joined.sign("resume", epoch=epoch, challenge=reflex.channel.state.half + bytes(8))
            self.tokens = [*self.tokens[-15:], token]

    @precondition(lambda self: self.joined.hostile)
    @rule()
    def it_is_driven_out(self) -> None:
        self.joined.hostile = False
        self.joined.cut()
        self.start("remote")
        self.joined.join()
        self.check()

    def _hostile(self, message: dict[str, object]) -> None:
        reflex = self.joined.reflex
        if reflex is not None and not reflex.frozen and self.joined.connected:
            reflex.hear(message)
        self.check()

    # ---- everything is put right, and then it runs

    @rule()
    def bring_up(self) -> None:
        """Repairs all there is to repair; unless it was retired, the robot then runs."""
        joined = self.joined
        if joined.hostile:
            self.it_is_driven_out()
        for name in NAMES:
            if joined.sides[name] is None:
                self.start(name)
            self.thaw(name)
            self.disk(name, works=True)
        joined.flows, joined.world.near, joined.world.robot_beats = True, False, True
        joined.join()
        self.robot_software(there=True)
        for contact in ("open", "closed"):
            joined.world.contact = contact
            self.tick(5)
        self.guardian_stops(Response.EMERGENCY_STOP)
        self.tick(20)
        self.send(joined.sign("maintenance", begin=False))
        self.send(joined.sign_current("reinstate", evaluation="passed"))
        self.tick(4)
        self.guardian_resumes()
        self.tick(4)
        retired = any("retired" in why for why in self.model.why.values())
        assert joined.running() == (not retired)


Robot.TestCase.settings = settings(derandomize=True, max_examples=60, stateful_step_count=40, deadline=None)
TestRobot = Robot.TestCase


def test_the_model_s_times_are_the_plan_s() -> None:
    assert SS1_NS > PROOF_NS > NEAR_NS
    assert isinstance(RemoteSide.name, str)
