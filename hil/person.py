"""A person at the site who gives commands as `guardian` does: the console's own session, call by call."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from agent.core.responses import Response
from console.messages import State
from console.profile import Profile, load_profile
from console.session import Session
from console.told import Stage
from hil.broker import Broker
from hil.pki import Pki

PROFILE = """\
kid = "{kid}"
signing_key = "pki/people/{kid}.ed25519.pem"
broker = "{broker}"
protocol = "{protocol}"
ca = "pki/ca.crt"
cert = "pki/people/{kid}.crt"
key = "pki/people/{kid}.key"
trust = "pki/trust.jwt"
root_keys = ["pki/department-root.jwk"]
"""


def write_profile(folder: Path, kid: str, broker: Broker) -> Path:
    """The profile of one person of the site, beside the folder `pki`."""
    path = folder / f"{kid}.toml"
    path.write_text(PROFILE.format(kid=kid, broker=broker.url, protocol=broker.protocol), encoding="utf-8")
    return path


class Person:
    """Each call connects, gives one command, follows it to its end and leaves, as `guardian` does."""

    def __init__(self, folder: Path, kid: str, pki: Pki, broker: Broker) -> None:
        self.take(write_profile(folder, kid, broker), pki.robot_id)

    @classmethod
    def with_profile(cls, path: Path, robot_id: str) -> Self:
        """Somebody who has a profile already."""
        person = cls.__new__(cls)
        person.take(path, robot_id)
        return person

    def take(self, path: Path, robot_id: str) -> None:
        """Becomes the person of this profile."""
        self.profile_path = path
        self.robot_id = robot_id
        self._profile: Profile = load_profile(path, {})
        self.kid = self._profile.kid

    def stop(self, response: Response = Response.EMERGENCY_STOP, reason: str = "") -> list[Stage]:
        """Every stage, `sent` first."""
        return asyncio.run(self._collect("stop", response=response, reason=reason))

    def resume(self, reason: str = "", state: State | None = None, retries: int = 0) -> list[Stage]:
        """Every stage; reads the state first unless one is given."""
        return asyncio.run(self._collect("resume", reason=reason, state=state, retries=retries))

    def ping(self) -> list[Stage]:
        """Every stage."""
        return asyncio.run(self._collect("ping"))

    def state(self) -> State:
        """The robot's state as retained, verified."""
        return asyncio.run(self._state())

    async def _state(self) -> State:
        async with Session(self._profile) as session:
            return await session.state(self.robot_id)

    async def _collect(self, command: str, **arguments: object) -> list[Stage]:
        async with Session(self._profile) as session:
            stages: AsyncIterator[Stage] = getattr(session, command)(self.robot_id, **arguments)
            return [stage async for stage in stages]
