"""One broker for the tests of this folder; the clients on it are real, and their ledgers are signed here."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.tokens import load_private_key, raw_public_key, verify
from console.link import NO_DELAY
from tests.console.robots import GUARDIAN, ROBOTS, Site
from tests.console.witness.ledgers import Chain


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site.create(tmp_path_factory.mktemp("site"))
    with made.broker:
        yield made


@dataclass
class Publisher:
    """A robot's connection: publishes lines, and reads what it is answered."""

    robot: str
    client: aiomqtt.Client
    key: bytes

    async def say(self, *lines: bytes) -> None:
        for line in lines:
            await self.client.publish(f"warden/v1/{self.robot}/ledger", line, qos=1)

    async def answer(self, kid: str = GUARDIAN) -> dict[str, Any]:
        """The next receipt, its signature found good."""
        async with asyncio.timeout(20):
            message = await anext(aiter(self.client.messages))
        assert message.topic.value == f"warden/v1/{self.robot}/ledger/ack"
        verified = verify(message.payload, typ="warden-witness+jwt", key_of={kid: self.key}.get)
        claims = dict(verified.claims)
        assert (claims["iss"], claims["aud"], claims["iat"]) == (kid, self.robot, claims["witness_time"])
        return claims

    async def heads(self, count: int) -> list[tuple[int, str]]:
        """(n, hash) of the next receipts."""
        answers = [await self.answer() for _ in range(count)]
        return [(claims["n"], claims["hash"]) for claims in answers]


@contextlib.asynccontextmanager
async def publisher(site: Site, robot: str = "R1") -> AsyncIterator[Publisher]:
    context = site.pki.client_tls(None)
    context.load_cert_chain(site.robot_pem(robot))
    key = raw_public_key(load_private_key(site.pki.person(GUARDIAN).signing_key))
    async with aiomqtt.Client(
        "127.0.0.1", site.broker.port, tls_context=context, socket_options=[NO_DELAY]
    ) as client:
        await client.subscribe(f"warden/v1/{robot}/ledger/ack", qos=1)
        yield Publisher(robot, client, key)


def more_robots(site: Site, *robots: str) -> None:
    """Certificates for further robots."""
    for robot in set(robots) - set(ROBOTS):
        if not site.robot_pem(robot).exists():
            certificate, private = site.pki.authority.issue(robot)
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            site.robot_pem(robot).write_bytes(certificate.public_bytes(Encoding.PEM) + pem)


def genesis_file(folder: Path, chain: Chain) -> Path:
    path = folder / f"{chain.robot}.genesis"
    path.write_bytes(chain.lines[0] + b"\n")
    return path


def kept(folder: Path, robot: str = "R1") -> list[bytes]:
    return (folder / f"{robot}.jsonl").read_bytes().splitlines()


def alarms(folder: Path, robot: str = "R1") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{robot}.alarms.jsonl").read_text("utf-8").splitlines()]
