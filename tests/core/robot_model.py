"""What a test knows of a robot with two channels: why each must not run, and which of that survives a crash.

It is told what each channel sees and accepts before the channel acts on it, and decides by rules of its own.
"""

from agent.core.causes import MS
from agent.core.commands import Command
from agent.core.resume import HALVES
from tests.core.factories import TIMES
from tests.two_channels import Joined, Side, Watcher

NAMES = ("reflex", "remote")
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
        self.robot_seen = False
        self.proof = ""
        """Of the e-stop after a discrepancy: "due", then "open" once both contacts were seen open."""

    def add(self, name: str, reason: str) -> None:
        self.clock += 1
        self.why[name][reason] = self.clock

    def started(self, name: str) -> None:
        self.why[name] = dict.fromkeys(self.on_disk[name], self.clock)
        self.add(name, "start")
        self.covered_until_ns[name] = self.ran_until_ns[name] = 0
        if name == "reflex":
            self.robot_seen = False

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
        world = self.joined.world
        self.robot_seen |= world.robot_since_ns > 0
        if world.contact != "closed":
            self.add("reflex", "e-stop")
        if self.robot_seen and not world.robot_since_ns:
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
