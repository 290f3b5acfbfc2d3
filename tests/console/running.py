"""`guardian` run as a process, or in this one."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from console.cli import app

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    """How one run ended."""

    exit_code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


@contextlib.asynccontextmanager
async def running(*args: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "console",
        *args,
        cwd=ROOT,
        env={**os.environ, "GUARDIAN_PROFILE": "", **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> Ran:
    out, err = await process.communicate()
    assert b"Traceback" not in err + out, err.decode()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def program(*args: str, **env: str) -> Ran:
    """As a process of its own, the way a person starts it."""
    async with running(*args, **env) as process:
        return await ended(process)


async def guardian(*args: str, profile: Path | None = None) -> Ran:
    """In this process, on a loop of its own: a new one takes most of a second."""
    return await asyncio.to_thread(run, *args, *(("--profile", str(profile)) if profile else ()))


def run(*args: str) -> Ran:
    result = CliRunner().invoke(app, list(args), env={"GUARDIAN_PROFILE": None})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return Ran(result.exit_code, result.stdout, result.stderr)
