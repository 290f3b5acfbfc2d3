"""The desk at which commands arrive: judged, acted on, told in stages (PROTOCOL 3).

Everything up to the act runs inside the MQTT client's own callback. A stop is acted on before anything else
is done with it; what needs both channels goes on to `reflex`, as the signed token, and `reflex` judges first.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.channel import Channel, Trigger
from agent.commanding import CHALLENGED, carry_out, demanded, refusal
from agent.core.commands import COMMANDS, Code, Command, Seen
from agent.core.peer import PeerView
from agent.core.resume import stopped_since
from agent.dialogue import Dialogue, Effect, Entry
from agent.gate import Gate
from agent.mqtt import MAX_PACKET
from agent.publisher import Publisher
from agent.shell import Shell
from agent.tokens import TokenError

VERDICT_NS = 1_000_000_000
"""`reflex` answers a command in well under a millisecond; after a second it will not."""
TOGETHER = frozenset({"resume", "reinstate", "retire", "maintenance"})
"""Commands that take effect in both channels or in none: `reflex` judges first."""


@dataclass(slots=True)
class _Answer:
    """The first answer a command got; empty while it is awaited."""

    token: str = ""


class Desk:
    """Of one robot. Part of `remote`; on its one thread."""

    def __init__(
        self,
        shell: Shell,
        *,
        channel: Channel,
        gate: Gate,
        publisher: Publisher,
        peer: Callable[[], PeerView],
        effect: Callable[[int], Effect],
        ask_reflex: Callable[[Mapping[str, object]], bool],
    ) -> None:
        """`peer`: the other channel now. `effect(now_ns)`: what is seen of the robot as a whole."""
        self._shell = shell
        self._channel = channel
        self._gate = gate
        self._publisher = publisher
        self._peer = peer
        self._effect = effect
        self._send_to_reflex = ask_reflex
        self._seen: Seen[_Answer] = Seen()
        self._dialogue = Dialogue(self._tell_stage, still_ns=shell.plan.times.still_ns)
        self._questions = 0
        self._asked: dict[int, tuple[Entry, Command]] = {}

    def look(self, now_ns: int) -> None:
        """Once per turn: tells each stage whose effect is seen, gives up on overdue answers."""
        for number, (entry, _) in tuple(self._asked.items()):
            if now_ns - entry.read_ns > VERDICT_NS:
                del self._asked[number]
                self._dialogue.fail(entry, Code.NOT_VERIFIED_IN_TIME)
        if self._dialogue.waiting:
            self._dialogue.look(self._effect(now_ns), now_ns)

    def take(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """One packet from the broker, judged and acted on before this returns."""
        read_ns = time.monotonic_ns()
        if len(payload) > MAX_PACKET:
            self._ill_formed(Code.TOO_LARGE, f"{len(payload)} bytes on {topic}")
            return
        try:
            opened = self._gate.open(payload)
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
        self._shell.meter.inc("commands_total", "unknown", code)
        self._shell.bad_input("mqtt", reason)

    def _answered_before(self, entry: Entry) -> bool:
        now_s = time.time()
        answer = self._seen.first_answer(entry.kid, entry.jti, now_s)
        if answer is None:
            answer = _Answer()
            self._seen.remember(entry.kid, entry.jti, exp=0.0, answer=answer, now_s=now_s)
            return False
        if answer.token:
            self._publisher.repeat(entry.kid, answer.token)
        return True

    def _carry_out(self, entry: Entry, command: Command, token: bytes, *, retained: bool) -> None:
        self._record_command(entry, command, retained=retained)
        if command.cmd in TOGETHER:
            self._ask_reflex(entry, command, token)
            return
        trigger = Trigger("command", entry.read_ns)
        carry_out(self._channel, command, trigger)
        if demanded(command) is None:
            self._dialogue.accept(entry)
            return
        if command.cmd == "suspend":
            self._forward(token)
        # Acted on already; acknowledged only when it is on the disk.
        self._channel.when_durable(lambda: self._await_stop(entry))

    def _await_stop(self, entry: Entry) -> None:
        self._dialogue.await_stop(entry)
        self.look(time.monotonic_ns())

    def _forward(self, token: bytes) -> int | None:
        self._questions += 1
        question = {"type": "command", "token": token.decode(), "n": self._questions}
        return self._questions if self._send_to_reflex(question) else None

    def _ask_reflex(self, entry: Entry, command: Command, token: bytes) -> None:
        code = refusal(self._channel, command, self._peer())
        if code is not None:
            self._refuse(entry, code)
            return
        number = self._forward(token)
        if number is None:
            self._dialogue.fail(entry, Code.NOT_VERIFIED_IN_TIME)
        else:
            self._asked[number] = (entry, command)

    def verdict(self, message: Mapping[str, object]) -> None:
        """What `reflex` made of a command that was passed on."""
        number, code = message.get("n"), message.get("code")
        asked = self._asked.pop(number, None) if isinstance(number, int) else None
        if asked is None:
            return
        entry, command = asked
        if code is not None:
            self._refuse(entry, _code(code))
            return
        if command.cmd == "resume" and (late := self._moved_on(entry, command)) is not None:
            self._refuse(entry, late)
            return
        carry_out(self._channel, command, Trigger("command", entry.read_ns))
        then = self._dialogue.await_start if command.cmd == "resume" else self._dialogue.accept
        if command.cmd == "retire":
            then = self._dialogue.await_stop
        self._channel.when_durable(lambda: then(entry))

    def _moved_on(self, entry: Entry, command: Command) -> Code | None:
        """Between the question and `reflex`'s answer this channel may have stopped anew.

        Also without the epoch growing: another stop of the same strength, come and gone.
        """
        if stopped_since(self._channel.state, entry.read_ns):
            return Code.STALE_CHALLENGE
        if command.args.epoch != self._channel.state.epoch + self._peer().epoch:
            return Code.WRONG_EPOCH
        return next(iter(self._channel.blockers), None)

    def _refuse(self, entry: Entry, code: Code) -> None:
        self._dialogue.refuse(entry, code)
        if entry.cmd in CHALLENGED:
            self._channel.refuse(time.monotonic_ns())
            self._publisher.changed()

    def _tell_stage(self, entry: Entry, stage: str, code: Code | None) -> None:
        after_ns = time.monotonic_ns() - entry.read_ns
        token = self._publisher.reply(entry, stage, code, after_ns // 1000)
        answer = self._seen.first_answer(entry.kid, entry.jti, time.time())
        if answer is not None and not answer.token:
            answer.token = token
            result = code.value if code is not None and stage == "refused" else "accepted"
            self._shell.meter.inc("commands_total", entry.cmd if entry.cmd in COMMANDS else "unknown", result)
        if entry.cmd in COMMANDS:
            self._shell.meter.observe("command_stage_seconds", after_ns / 1e9, entry.cmd, stage)
        body = {"kid": entry.kid, "jti": entry.jti, "cmd": entry.cmd, "stage": stage, "reason": code}
        self._shell.sink.emit("command_stage", {**body, "after_us": after_ns // 1000})

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
        self._shell.loop.call_soon(self._shell.sink.emit, "command", body)


def _code(told: object) -> Code:
    """What the other module said; anything that is no code of PROTOCOL 3 is `malformed`."""
    try:
        return Code(str(told))
    except ValueError:
        return Code.MALFORMED
