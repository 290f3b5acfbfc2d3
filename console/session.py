"""A guardian's session: commands given and followed, states and events read, every word of a robot verified.

    async with Session(profile) as session:
        async for stage in session.stop("FT-2024-0017"):
            print(stage.stage, stage.after_us)

Independent of the command line; one session serves several commands at once. Robots are believed by their key
in the department's trust file and by nothing else: the broker is trusted with nothing (DESIGN, principle 8).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from agent.core.commands import MAX_LIFETIME_S, Code
from agent.core.responses import Response
from agent.core.trust import Trust
from agent.tokens import (
    COMMAND,
    KeyFileError,
    TrustFileError,
    load_private_key,
    load_roots,
    load_trust,
    new_jti,
    raw_public_key,
    sign,
)
from console.belief import PREFIX, Belief
from console.errors import DONE, FAILED, NO_ANSWER, REFUSED, NoAnswerError, UnverifiedError
from console.link import Link, Packet
from console.messages import State
from console.profile import Profile
from console.told import Problem, Stage, StateSeen, Update

STOP_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 5.0
# A stop may come late, because it does no harm late. Whatever else a person orders is meant for now.
LIFETIME_S: Final = 30
STOP_LIFETIME_S: Final = int(MAX_LIFETIME_S)
STALE: Final = frozenset({Code.STALE_CHALLENGE.value, Code.WRONG_EPOCH.value})
NO_TRUST: Final = Trust(0, 0.0, {}, {}, {})
EVERYTHING: Final = ("state", "event", "link")


@dataclass(frozen=True, slots=True)
class _Order:
    """A command on its way: to which robots, and which stages end it well there."""

    cmd: str
    args: Mapping[str, object]
    robots: frozenset[str]
    done: frozenset[str]
    group: str = ""
    lifetime_s: int = LIFETIME_S

    @property
    def topic(self) -> str:
        """Where it is published."""
        return f"{PREFIX}/group/{self.group}/cmd" if self.group else f"{PREFIX}/{self._robot}/cmd"

    @property
    def aud(self) -> str:
        """Whom it is meant for."""
        return f"group:{self.group}" if self.group else self._robot

    @property
    def _robot(self) -> str:
        return next(iter(self.robots))


class Session:
    """A person's connection to their robots, open inside `async with`.

    Raises KeyFileError, TrustFileError or ProfileError when a file cannot be used, MqttLinkError when the
    broker cannot be reached. `trust_required=False`: without a usable trust file the session still sends (a
    stop must never wait for paperwork), believes no robot, and says so in `warnings`. `wall_s`: seconds since
    1970.
    """

    def __init__(
        self, profile: Profile, *, trust_required: bool = True, wall_s: Callable[[], float] = time.time
    ) -> None:
        self.kid = profile.kid
        self.warnings: tuple[str, ...] = ()
        self._wall_s = wall_s
        self._key = load_private_key(profile.signing_key)
        self.trust = self._trust(profile, required=trust_required)
        self._belief = Belief(self.trust, self.kid)
        self._link = Link(profile)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._link)
            await self._link.subscribe([f"{PREFIX}/+/reply/{self.kid}"])
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    @property
    def now_s(self) -> float:
        """Seconds since 1970, by the clock that commands are dated with."""
        return self._wall_s()

    def stop(
        self,
        robot_id: str,
        *,
        response: Response = Response.EMERGENCY_STOP,
        reason: str = "",
        timeout_s: float = STOP_TIMEOUT_S,
    ) -> AsyncGenerator[Stage, None]:
        """Stops one robot; done on `verified`."""
        return self._stages(_stop(frozenset({robot_id}), "", response, reason), timeout_s)

    def stop_group(
        self,
        group: str,
        *,
        response: Response = Response.EMERGENCY_STOP,
        reason: str = "",
        timeout_s: float = STOP_TIMEOUT_S,
    ) -> AsyncGenerator[Stage, None]:
        """Stops a group (`all`: every robot) by one command; waits for all that the trust file lists."""
        return self._stages(_stop(self.trust.members(group), group, response, reason), timeout_s)

    def ping(self, robot_id: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> AsyncGenerator[Stage, None]:
        """A round trip through broker and robot; done on any reply that is neither `refused` nor `failed`."""
        done = frozenset({"accepted", "actuated", "verified"})
        return self._stages(_Order("ping", {}, frozenset({robot_id}), done), timeout_s)

    async def resume(
        self,
        robot_id: str,
        *,
        state: State | None = None,
        reason: str = "",
        timeout_s: float = ANSWER_TIMEOUT_S,
        retries: int = 0,
    ) -> AsyncGenerator[Stage, None]:
        """Ends the stop that `state` shows (read first when it is not given); done on `actuated`.

        `retries`: how often to read the state anew and try again when it moved meanwhile. By default never:
        what was looked at is then not what would be resumed. The last stage counts. Raises NoAnswerError or
        UnverifiedError when no state can be read.
        """
        shown = state or await self.state(robot_id, timeout_s=timeout_s)
        for left in range(retries, -1, -1):
            reason_code = ""
            async for stage in self._stages(_resume(robot_id, shown, reason), timeout_s):
                reason_code = stage.reason
                yield stage
            if left == 0 or reason_code not in STALE:
                return
            shown = await self.state(robot_id, timeout_s=timeout_s, moved_from=shown)

    async def state(
        self, robot_id: str, *, timeout_s: float = ANSWER_TIMEOUT_S, moved_from: State | None = None
    ) -> State:
        """The robot's state as retained; with `moved_from`, one whose challenge is another than that state's.

        Raises NoAnswerError, or UnverifiedError when all that came is not to be believed.
        """
        problem = None
        async with aclosing(self.watch([robot_id], timeout_s=timeout_s, topics=("state",))) as updates:
            async for update in updates:
                if isinstance(update, Problem):
                    problem = update
                elif isinstance(update, StateSeen) and _moved(update.state, moved_from):
                    return update.state
        if problem is not None:
            raise UnverifiedError(robot_id, problem.code, problem.reason)
        raise NoAnswerError(robot_id, "state", timeout_s)

    async def watch(
        self,
        robots: Iterable[str] = (),
        *,
        timeout_s: float | None = None,
        topics: tuple[str, ...] = EVERYTHING,
    ) -> AsyncGenerator[Update, None]:
        """What these robots (none: all) tell, as it comes, until `timeout_s`; None: for ever."""
        wanted = list(robots) or ["+"]
        newest: dict[str, State] = {}
        deadline_s = _deadline(timeout_s)
        with self._link.listen() as inbox:
            await self._link.subscribe([f"{PREFIX}/{robot}/{topic}" for robot in wanted for topic in topics])
            while (packet := await inbox.get(deadline_s)) is not None:
                update = self._belief.update(packet, newest)
                if update is not None and (update.robot_id in wanted or "+" in wanted):
                    yield update

    async def _stages(self, order: _Order, timeout_s: float) -> AsyncGenerator[Stage, None]:
        """Every stage of one command; each robot's last one has an exit code."""
        jti = new_jti()
        waiting, ended = set(order.robots), set[str]()
        told: set[tuple[str, str, str]] = set()
        with self._link.listen() as inbox:
            deadline_s = _deadline(timeout_s)
            sent_ns = self._link.publish(order.topic, self._sign(order, jti), inbox)
            for robot_id in sorted(order.robots):
                yield Stage(robot_id, "sent", 0.0)
            while waiting and (packet := await inbox.get(deadline_s)) is not None:
                stage = self._stage(packet, order, jti, sent_ns)
                if stage is None or (stage.robot_id, stage.stage, stage.reason) in told:
                    continue  # not of this command, or delivered twice, as QoS 1 may
                told.add((stage.robot_id, stage.stage, stage.reason))
                if stage.exit_code is not None:
                    ended.add(stage.robot_id)
                elif stage.stage != "unverified":
                    waiting.add(stage.robot_id)  # it took a group's command, whether or not a list names it
                waiting -= ended
                yield stage
        for robot_id in sorted(waiting):
            yield Stage(robot_id, "silent", _ms(sent_ns, time.monotonic_ns()), exit_code=NO_ANSWER)

    def _sign(self, order: _Order, jti: str) -> str:
        now_s = int(self._wall_s())
        claims = {
            "iss": self.kid,
            "aud": order.aud,
            "iat": now_s,
            "exp": now_s + order.lifetime_s,
            "jti": jti,
            "cmd": order.cmd,
            "args": order.args,
        }
        return sign(claims, key=self._key, kid=self.kid, typ=COMMAND)

    def _stage(self, packet: Packet, order: _Order, jti: str, sent_ns: int) -> Stage | None:
        """The stage a packet states; None for one that has nothing to do with this command."""
        found = self._belief.reply(packet)
        if found is None or not (order.group or found[0] in order.robots):
            return None
        robot_id, reply = found
        here_ms = _ms(sent_ns, packet.at_ns)
        if isinstance(reply, Problem):
            return Stage(robot_id, "unverified", here_ms, reason=reply.code)
        if reply.re != jti:
            return None
        exit_code = _exit_code(reply.stage, order)
        return Stage(robot_id, reply.stage, here_ms, reply.reason, reply.after_us, exit_code)

    def _trust(self, profile: Profile, *, required: bool) -> Trust:
        try:
            trust = load_trust(profile.trust, load_roots(profile.root_keys))
        except (KeyFileError, TrustFileError) as error:
            if required:
                raise
            self.warnings = (f"没有可用的信任文件，应答无法验证 no robot's answer can be believed: {error}",)
            return NO_TRUST
        if trust.person_key(self.kid) != raw_public_key(self._key):
            self.warnings = (
                f"密钥未登记 {profile.trust} does not list {profile.signing_key} for {self.kid}",
            )
        return trust


def _stop(robots: frozenset[str], group: str, response: Response, reason: str) -> _Order:
    args = {"response": response.label, "reason": reason}
    return _Order("stop", args, robots, frozenset({"verified"}), group, STOP_LIFETIME_S)


def _resume(robot_id: str, state: State, reason: str) -> _Order:
    args = {"epoch": state.epoch, "challenge": state.challenge, "reason": reason}
    return _Order("resume", args, frozenset({robot_id}), frozenset({"actuated", "verified"}))


def _moved(state: State, before: State | None) -> bool:
    return before is None or state.challenge != before.challenge


def _exit_code(stage: str, order: _Order) -> int | None:
    if stage in order.done:
        return DONE
    return {"refused": REFUSED, "failed": FAILED}.get(stage)


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s


def _ms(sent_ns: int, at_ns: int) -> float:
    return (at_ns - sent_ns) / 1e6
