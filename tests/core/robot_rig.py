"""A robot with two channels to which anything may happen, held to `robot_model.Model` all the time."""

import json
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from agent.core.causes import MS
from agent.core.responses import Response
from agent.latch import load
from agent.permit import Permit
from tests.channels import disks
from tests.core.robot_model import NAMES, NEAR_NS, Model
from tests.two_channels import Joined, Side


class Robot:
    """One robot; `check` holds it to the model after every act and every tick."""

    def install(self) -> None:
        """Both processes start for the first time, and it runs."""
        self.stack = ExitStack()
        self.stack.enter_context(disks())
        self.folder = Path(tempfile.mkdtemp(prefix="warden-"))
        self.stack.callback(shutil.rmtree, self.folder)
        self.model = Model()
        self.joined = Joined(self.folder, self.model)
        self.model.joined = self.joined
        self.epochs = dict.fromkeys(NAMES, 0)
        self.ran_in = dict.fromkeys(NAMES, 0)
        self.last_words: dict[str, Permit] = {}
        self.tokens: list[str] = []
        self.pretends = False
        for name in NAMES:
            self.start(name)
        self.bring_up()

    def remove(self) -> None:
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
            self._check_disk(side, permit)
            self.ran_in[name] = permit.epoch
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

    def _check_disk(self, side: Side, permit: Permit) -> None:
        """What left a stop left it on the disk; a stop that never was on it has not been left."""
        if permit.epoch != self.ran_in[side.name]:
            found = load(self.folder / f"{side.name}.latch")
            assert found is not None
            assert found.epoch == permit.epoch

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            if self.joined.hostile and self.pretends:
                self._hostile({"type": "beat", "still": True})
            self.joined.tick()
            self.check()

    # ---- time, processes, disks, the wire

    def start(self, name: str) -> None:
        self.model.started(name)
        self.last_words.pop(name, None)
        self.joined.start(name)

    def kill(self, name: str) -> None:
        self.joined.kill(name)
        self.check()

    def restart(self, name: str) -> None:
        if not (name == "remote" and self.joined.hostile):
            self.kill(name)
            self.start(name)
            self.joined.join()
            self.check()

    def freeze(self, name: str) -> None:
        side = self.joined.sides[name]
        if side is not None and not side.frozen:
            side.frozen = True
            self.last_words[name] = side.life.read()

    def thaw(self, name: str) -> None:
        side = self.joined.sides[name]
        if side is not None and side.frozen:
            side.frozen = False
            self.last_words.pop(name, None)
            side.turn()
            self.check()

    def disk(self, name: str, works: bool) -> None:
        side = self.joined.sides[name]
        if side is not None:
            side.life.disk.works = works

    def power_cut(self) -> None:
        """Both end, and the permits, in memory, are gone with what the disks had not taken yet.

        Stops that reached no disk are not counted any more; the robot ran in none of them.
        """
        self.joined.power_cut()
        for name in NAMES:
            self.model.ran_until_ns[name] = 0
            self.epochs[name] = self.ran_in[name] + 1
            if not (name == "remote" and self.joined.hostile):
                self.start(name)
        self.joined.join()
        self.check()

    def cut_the_wire(self) -> None:
        self.joined.cut()
        self.check()

    def join_the_wire(self) -> None:
        self.joined.join()
        self.check()

    def hold_the_wire(self, flows: bool) -> None:
        self.joined.flows = flows

    def lose_a_message(self, name: str) -> None:
        if self.joined.wires[name]:
            self.joined.wires[name].popleft()

    # ---- the world

    def e_stop(self, contact: str) -> None:
        self.joined.world.contact = contact
        self._edge()

    def somebody(self, near: bool) -> None:
        self.joined.world.near = near
        self._edge()

    def robot_software(self, there: bool) -> None:
        if not there:
            self.joined.world.robot_since_ns = 0
        elif not self.joined.world.robot_since_ns:
            self.joined.connect_robot()
        self._edge()

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

    def guardian_stops(self, response: Response) -> None:
        self.send(self.joined.sign("stop", response=response))

    def power_off(self) -> None:
        self.send(self.joined.sign("power_off"))

    def guardian_resumes(self) -> None:
        self.send(self.joined.sign_current("resume"))

    def guardian_names_another_stop(self, by: int) -> None:
        right = self.joined.signed[self.joined.sign_current("resume")].args
        self.send(
            self.joined.sign("resume", epoch=max(0, (right.epoch or 0) + by), challenge=right.challenge)
        )

    def guardian_is_late(self, which: int, renamed: bool) -> None:
        """An old challenge, with the old epoch or the present one."""
        resumes = [t for t in self.tokens if self.joined.signed[t].cmd == "resume"]
        if resumes:
            old = self.joined.signed[resumes[-1 - which % len(resumes)]].args
            now = self.joined.signed[self.joined.sign_current("resume")].args
            epoch = now.epoch if renamed else old.epoch
            self.send(self.joined.sign("resume", epoch=epoch, challenge=old.challenge))

    def a_command_comes_again(self, which: int) -> None:
        if self.tokens:
            self.send(self.tokens[-1 - which % len(self.tokens)])

    def suspend(self) -> None:
        self.send(self.joined.sign("suspend"))

    def reinstate(self, right: bool) -> None:
        if right:
            self.send(self.joined.sign_current("reinstate", evaluation="passed"))
        else:
            self.send(self.joined.sign("reinstate", epoch=1, challenge=bytes(16), evaluation="passed"))

    def maintenance(self, begin: bool) -> None:
        self.send(self.joined.sign("maintenance", begin=begin))

    def retire(self) -> None:
        self.send(self.joined.sign_current("retire"))

    # ---- a remote in an attacker's hands

    def remote_is_taken_over(self, *, resumed: bool) -> None:
        """`resumed`: a guardian believes what it shows, and reflex runs with it."""
        self.kill("remote")
        self.joined.hostile = self.joined.connected = self.pretends = True
        self.check()
        if resumed:
            self.it_says_how_it_stands(Response.NONE, [], 3)
            self.tick(2)
            self.people_sign_through_it("resume")
            self.it_passes_on(-1)

    def it_says_how_it_stands(self, own: Response, causes: list[str], epoch: int) -> None:
        state = {"own": int(own), "response": int(own), "stops": causes, "epoch": epoch, "half": "00" * 8}
        self._hostile({"type": "state", "still": True, "blockers": [], "causes": [], **state})

    def it_pretends_to_be_well(self, pretends: bool) -> None:
        self.pretends = pretends

    def it_passes_on(self, token: int) -> None:
        if self.tokens:
            self._hostile({"type": "command", "n": 1, "token": self.tokens[token % len(self.tokens)]})

    def it_invents_a_resume(self) -> None:
        self._hostile({"type": "command", "n": 1, "token": "invented"})

    def people_sign_through_it(self, cmd: str) -> None:
        """It knows reflex's half and shows its own to people; what they sign it passes on, or keeps."""
        reflex = self.joined.reflex
        if reflex is not None:
            epoch = reflex.channel.state.epoch + reflex.peer.epoch
            challenge = reflex.channel.state.half + bytes(8)
            self.tokens = [*self.tokens[-15:], self.joined.sign(cmd, epoch=epoch, challenge=challenge)]

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

    def reflex_runs(self) -> bool:
        reflex = self.joined.reflex
        return reflex is not None and reflex.life.read().motion_until_ns > self.joined.now_ns

    # ---- two things at once

    def resume_overtaken(self) -> None:
        """While reflex's answer is on its way somebody stops the robot again."""
        self.guardian_stops(Response.EMERGENCY_STOP)
        self.tick(2)
        self.hold_the_wire(flows=False)
        self.guardian_resumes()
        reflex, wire = self.joined.reflex, self.joined.wires["reflex"]
        while reflex is not None and not reflex.frozen and wire:
            reflex.hear(json.loads(wire.popleft()))
        self.tick(1)
        self.guardian_stops(Response.EMERGENCY_STOP)
        self.tick(2)
        self.hold_the_wire(flows=True)
        self.joined.deliver()
        self.check()

    def work(self, contact: str, ticks: int) -> None:
        """The e-stop is worked once."""
        self.e_stop(contact)
        self.tick(ticks)
        self.e_stop("closed")
        self.tick(4)

    # ---- everything is put right, and then it runs

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
            self.tick(3)
        self.guardian_stops(Response.EMERGENCY_STOP)
        self.tick(3)
        self.send(joined.sign("maintenance", begin=False))
        self.send(joined.sign_current("reinstate", evaluation="passed"))
        self.tick(2)
        self.guardian_resumes()
        self.tick(2)
        retired = any("retired" in why for why in self.model.why.values())
        assert joined.running() == (not retired)
