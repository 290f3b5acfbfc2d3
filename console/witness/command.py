"""`guardian witness`, put together from the command line's options."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.logformat.layout import MAX_LEDGER_LINE_BYTES
from console.errors import DONE
from console.options import Setup
from console.witness.board import WitnessBoard
from console.witness.entry import misfit, read_entry
from console.witness.errors import EntryError, WitnessStateError
from console.witness.record import Witness
from console.witness.service import WitnessService
from console.witness.show import BoardShow, JsonShow, TextShow, WitnessShow
from console.witness.store import Store


@dataclass(frozen=True, slots=True)
class Options:
    """What `guardian witness` was told. `metrics`: host and port to serve Prometheus on."""

    state: Path
    robots: tuple[str, ...]
    genesis: tuple[Path, ...]
    silence_s: float
    metrics: tuple[str, int] | None


async def witness(setup: Setup, options: Options) -> int:
    """Until SIGTERM or cancelled. Raises ConsoleError and the errors of key files before it begins."""
    profile, registered = setup.profile(), read_genesis(options.genesis)
    with contextlib.closing(Store(options.state)) as store:
        record = Witness(store, robots=options.robots, genesis=registered, silence_s=options.silence_s)
        show = _show(setup, record)
        service = WitnessService(record, profile, show, robots=options.robots)
        if options.metrics is not None:
            from console.witness.metrics import WitnessCollector, serve

            serve(WitnessCollector(record, service), options.metrics)
        with show:
            for notice in record.begin():
                show.notice(notice)
            await _until_ended(service)
    return DONE


def _show(setup: Setup, record: Witness) -> WitnessShow:
    if setup.as_json:
        return JsonShow()
    text = TextShow()
    return BoardShow(WitnessBoard(record), text.console) if text.console.is_terminal else text


async def _until_ended(service: WitnessService) -> None:
    """As a service it is ended by SIGTERM, and that is no failure."""
    running = asyncio.ensure_future(service.run())
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        await asyncio.wait([running])
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    if not running.cancelled():
        running.result()


def read_genesis(paths: Iterable[Path]) -> dict[str, bytes]:
    """Robot id -> its registered line (`warden log genesis`); WitnessStateError names the file."""
    found: dict[str, bytes] = {}
    for path in paths:
        line = _first_line(path)
        try:
            entry = read_entry(line)
            wrong = misfit(None, entry)
        except EntryError as error:
            raise WitnessStateError(path, f"must hold a genesis on its first line: {error.reason}") from None
        if wrong is not None:
            raise WitnessStateError(path, f"must hold a genesis on its first line: {wrong.value}")
        if found.setdefault(entry.robot, line) != line:
            raise WitnessStateError(path, f"a second, different genesis of {entry.robot}")
    return found


def _first_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_LEDGER_LINE_BYTES + 2).partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise WitnessStateError(path, f"cannot be read: {error.strerror}") from None
