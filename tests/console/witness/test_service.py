"""`guardian witness` as a process, on a real broker: taken, answered, killed, cut off, and back by itself."""

import asyncio
import json
import signal
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from console.errors import DONE
from hil.broker import free_port
from tests.console.robots import Site
from tests.console.running import running
from tests.console.witness.conftest import alarms, genesis_file, kept, publisher
from tests.console.witness.ledgers import Chain, sha


class Process:
    """One run with `--json`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []

    async def until(self, **wanted: object) -> dict[str, Any]:
        """The next line that has these fields."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            while line := await self.process.stdout.readline():
                told: dict[str, Any] = json.loads(line)
                self.told.append(told)
                if wanted.items() <= told.items():
                    return told
        assert self.process.stderr is not None
        error = (await self.process.stderr.read()).decode()
        message = f"ended before {wanted}: {error}"
        raise AssertionError(message)

    async def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return await self.process.wait()


@asynccontextmanager
async def witness(site: Site, folder: Path, *args: str) -> AsyncIterator[Process]:
    """Until the broker is there."""
    profile = site.profile_file(folder)
    arguments = ("witness", "--json", "--profile", str(profile), "--state", str(folder / "w"), *args)
    async with running(*arguments) as process:
        one = Process(process)
        await one.until(type="link", up=True)
        yield one


def receipts(chain: Chain) -> list[tuple[int, str]]:
    return [(n, sha(line)) for n, line in enumerate(chain.lines)]


async def test_a_ledger_is_kept_and_answered_entry_by_entry(site: Site, tmp_path: Path) -> None:
    chain = Chain().grow(9)
    async with witness(site, tmp_path) as process, publisher(site) as robot:
        await robot.say(*chain.lines)
        assert await robot.heads(10) == receipts(chain)
        await process.until(notice="taken", n=9)
        assert await process.end(signal.SIGTERM) == DONE
    assert kept(tmp_path / "w") == chain.lines
    assert [line["n"] for line in process.told if line.get("notice") == "taken"] == list(range(10))
    first = next(line for line in process.told if line.get("notice") == "first_use")
    assert (first["robot_id"], first["alarm"]) == ("R1", False)


async def test_killed_at_any_moment_it_has_what_it_answered(site: Site, tmp_path: Path) -> None:
    chain = Chain().grow(60)
    async with publisher(site) as robot:
        have = -1
        for _ in range(4):
            async with witness(site, tmp_path) as process:
                if have >= 0:
                    n, digest = (await robot.heads(1))[0]
                    assert n >= have, "what was answered is there"
                    assert digest == sha(chain.lines[n])
                    have = n
                await robot.say(*chain.lines[have + 1 : have + 13])
                for _ in range(5):
                    have = max(have, (await robot.heads(1))[0][0])
                await process.end(signal.SIGKILL)
            await drain(robot.client.messages)
        async with witness(site, tmp_path):
            n, _ = (await robot.heads(1))[0]
            assert n >= have
            await robot.say(*chain.lines[n + 1 :])
            assert (await robot.heads(len(chain.lines) - n - 1))[-1] == (60, sha(chain.lines[60]))
    assert kept(tmp_path / "w") == chain.lines
    assert not (tmp_path / "w" / "R1.alarms.jsonl").exists()


async def drain(messages: Any) -> None:  # noqa: ANN401 - aiomqtt names no type for it
    """Answers that were on their way when it was killed."""
    while len(messages):
        await anext(aiter(messages))


async def test_a_fork_is_told_and_kept_and_the_first_stays(site: Site, tmp_path: Path) -> None:
    chain = Chain().grow(2)
    branch = chain.fork()
    chain.grow(1)
    theirs = branch.add(body={"streams": {"safety": "rewritten"}})
    async with witness(site, tmp_path) as process, publisher(site) as robot:
        await robot.say(*chain.lines, theirs, chain.add())
        fork = await process.until(notice="fork")
        assert (fork["robot_id"], fork["n"], fork["reason"]) == ("R1", 3, "other_entry")
        assert (fork["proven"], fork["kept"], fork["alarm"]) == (True, True, True)
        assert await robot.heads(6) == [
            *receipts(chain)[:4],
            (3, sha(chain.lines[3])),
            (4, sha(chain.lines[4])),
        ]
    assert kept(tmp_path / "w") == chain.lines
    (alarm,) = alarms(tmp_path / "w")
    assert alarm["theirs"] == theirs.decode()


async def test_one_robot_cannot_speak_in_anothers_place(site: Site, tmp_path: Path) -> None:
    mine, other = Chain("R1").grow(1), Chain("R2").grow(2)
    async with witness(site, tmp_path) as process, publisher(site) as robot:
        await robot.say(*mine.lines, *other.lines)
        assert (await process.until(notice="foreign"))["reason"] == "R2"
        await robot.say(mine.add())
        assert [n for n, _ in await robot.heads(3)] == [0, 1, 2]


async def test_a_gap_is_answered_with_where_to_go_on(site: Site, tmp_path: Path) -> None:
    chain = Chain().grow(6)
    async with witness(site, tmp_path), publisher(site) as robot:
        await robot.say(chain.lines[6])
        assert await robot.heads(1) == [(-1, "")]
        await robot.say(*chain.lines[:3])
        assert await robot.heads(3) == receipts(chain)[:3]
        await robot.say(chain.lines[5])
        assert await robot.heads(1) == [(2, sha(chain.lines[2]))]


async def test_a_registered_genesis_and_no_other(site: Site, tmp_path: Path) -> None:
    chain, other = Chain().grow(1), Chain(seed="other")
    arguments = ("R1", "--genesis", str(genesis_file(tmp_path, chain)))
    async with publisher(site) as robot, witness(site, tmp_path, *arguments) as process:
        assert await robot.heads(1) == [(-1, "")], "a robot that was asked for is told so at once"
        await robot.say(other.lines[0])
        assert (await process.until(notice="fork"))["reason"] == "genesis_differs"
        await robot.say(*chain.lines)
        assert await robot.heads(2) == receipts(chain)
    assert [line for line in process.told if line.get("notice") == "first_use"] == []


async def test_when_the_broker_dies_it_comes_back_by_itself_and_says_where_it_is(
    tmp_path: Path,
) -> None:
    own = Site.create(tmp_path / "own")
    chain = Chain().grow(3)
    with own.broker:
        async with witness(own, tmp_path) as process:
            async with publisher(own) as robot:
                await robot.say(*chain.lines[:2])
                await robot.heads(2)
            own.broker.kill()
            await process.until(type="link", up=False)
            own.broker.restart()
            async with publisher(own) as robot:
                assert await robot.heads(1) == [(1, sha(chain.lines[1]))]
                await robot.say(*chain.lines[2:])
                assert await robot.heads(2) == receipts(chain)[2:]


async def test_silence_is_told_and_so_is_its_end(site: Site, tmp_path: Path) -> None:
    chain = Chain().grow(1)
    async with witness(site, tmp_path, "--silence-s", "1") as process, publisher(site) as robot:
        await robot.say(*chain.lines)
        silent = await process.until(notice="silent")
        assert (silent["robot_id"], silent["n"], silent["alarm"]) == ("R1", 1, True)
        await robot.say(chain.add())
        assert (await process.until(notice="back"))["seconds"] > 1
    assert [alarm["alarm"] for alarm in alarms(tmp_path / "w")] == ["silent", "back"]


async def test_prometheus_sees_what_the_witness_sees(site: Site, tmp_path: Path) -> None:
    chain = Chain().grow(2)
    port = free_port()
    address = f"127.0.0.1:{port}"
    async with witness(site, tmp_path, "--metrics", address) as process, publisher(site) as robot:
        await robot.say(*chain.lines, b"noise")
        await process.until(notice="malformed")
        text = await asyncio.to_thread(read, f"http://{address}/metrics")
    assert 'warden_witness_entry{robot_id="R1"} 2.0' in text
    assert 'warden_witness_alarms_total{alarm="malformed",robot_id="R1"} 1.0' in text
    assert 'warden_witness_silent{robot_id="R1"} 0.0' in text
    assert "warden_witness_connected 1.0" in text


def read(url: str) -> str:
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own address
        return str(answer.read(), "utf-8")


async def test_only_the_robots_that_were_asked_for_are_followed(site: Site, tmp_path: Path) -> None:
    async with (
        publisher(site, "R1") as first,
        publisher(site, "R2") as second,
        witness(site, tmp_path, "R2") as process,
    ):
        await first.say(*Chain("R1").lines)
        await second.say(*Chain("R2").lines)
        assert await second.heads(2) == [(-1, ""), (0, sha(Chain("R2").lines[0]))]
        await process.until(notice="taken", robot_id="R2")
    assert [path.name for path in (tmp_path / "w").glob("*.jsonl")] == ["R2.jsonl"]
