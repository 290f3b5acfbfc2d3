"""A recorder as a process of its own, for tests to kill: `python -m tests.recorder.process FOLDER SOCKET`."""

import asyncio
import os
import secrets
import sys
from pathlib import Path

from agent.recorder.service import RecorderService
from tests.recorder.logs import open_log

PEERS = {name: frozenset({"hello", "event"}) for name in ("reflex", "remote", "monitor")}


async def run(folder: Path, path: Path) -> None:
    """Records until it is killed."""
    service = RecorderService(
        asyncio.get_running_loop(),
        socket_path=path,
        log=open_log(folder),
        boot=secrets.token_hex(16),
        allowed_uids=frozenset({os.getuid()}),
        peers=PEERS,
    )
    service.start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
