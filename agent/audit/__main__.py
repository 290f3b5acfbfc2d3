"""`python -m agent.audit verify|decrypt|export`: for an auditor, with nothing of the agent running.

Exit codes of verify: 0 clean, 1 explained anomalies, 2 evidence of tampering, 3 incomplete. Of decrypt: 0 all
was read, 1 all but torn tails, 2 something does not hold, 3 the keys do not open it. Of export: 0. Wrong
usage is 64 (sysexits.h), so that it is taken for no verdict; what cannot be done at all is 3.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from agent.audit.bundle import export
from agent.audit.decryption import decrypt
from agent.audit.errors import AuditError
from agent.audit.findings import INCOMPLETE
from agent.audit.folder import read_small
from agent.audit.keys import load_recipient_key
from agent.audit.orders import OrderKeys
from agent.audit.output import FORMATS
from agent.audit.verification import verify
from agent.errors import WardenError
from agent.logformat.layout import MAX_LEDGER_LINE_BYTES, STREAMS

USAGE: Final = 64
_FOREVER: Final = 2**63


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except WardenError as error:
        sys.stderr.write(f"audit: {error}\n")
        return INCOMPLETE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m agent.audit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _verify_options(
        _command(commands, "verify", _verify, "what the folder proves, without any secret / 核验")
    )
    _decrypt_options(_command(commands, "decrypt", _decrypt, "the records, with a recipient's key / 解密"))
    bundle = _command(commands, "export", _export, "a bundle of the evidence / 导出")
    bundle.add_argument("target", type=Path, help="a folder that is not there yet")
    return parser


def _command(
    commands: Any,  # noqa: ANN401 - argparse gives its class no public name
    name: str,
    run: Callable[[argparse.Namespace], int],
    about: str,
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    command.set_defaults(run=run)
    command.add_argument("folder", type=Path, help="the log's folder, or a bundle of it")
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")
    command.add_argument("--processes", type=int, help="at most so many; all cores if left out")
    return command


def _verify_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--genesis", type=Path, help="file with the line that the department registered")
    command.add_argument("--witness", type=Path, help="a witness's record, or the folder with its records")
    command.add_argument("--root", type=Path, action="append", default=[], help="JWK of a root key (repeat)")
    command.add_argument("--trust", type=Path, help="trust file, signed by a root key")
    command.add_argument("--witness-key", type=Path, action="append", default=[], help="JWK (repeat)")


def _decrypt_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--key", type=Path, action="append", required=True, help="private key (repeat)")
    command.add_argument("--out", type=Path, help="a file that is not there yet; standard output if left out")
    command.add_argument("--check", action="store_true", help="authenticate every frame, write nothing")
    command.add_argument("--format", choices=FORMATS, default="jsonl")
    command.add_argument("--stream", action="append", choices=STREAMS, help="only this one (repeat)")
    command.add_argument("--from", dest="since", type=_time_ns, default=0, help="2027-01-15T08:00:00Z, or ns")
    command.add_argument("--to", dest="until", type=_time_ns, default=_FOREVER, help="the same, included")


def _time_ns(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def _verify(given: argparse.Namespace) -> int:
    from agent.tokens import load_public_jwk, load_roots, load_trust  # late, as in orders.py

    roots = load_roots(given.root)
    trust = load_trust(given.trust, roots) if given.trust else None
    witnesses = dict(load_public_jwk(path) for path in given.witness_key)
    report = verify(
        given.folder,
        genesis=_genesis(given.genesis),
        witness=given.witness,
        order_keys=OrderKeys(roots, trust) if roots else None,
        witness_keys=witnesses or None,
        processes=given.processes,
        progress=_progress(),
    )
    _tell(given, report.to_json(), report.lines())
    return report.exit_code


def _genesis(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return read_small(path, MAX_LEDGER_LINE_BYTES)
    except OSError as error:
        raise AuditError(path, f"cannot be read: {error.strerror or 'not a regular file'}") from None


def _decrypt(given: argparse.Namespace) -> int:
    report = decrypt(
        given.folder,
        [load_recipient_key(path) for path in given.key],
        out=None if given.check else given.out or sys.stdout.buffer,
        format=given.format,
        streams=given.stream or STREAMS,
        span_ns=(given.since, given.until),
        processes=given.processes,
        progress=_progress(),
    )
    _tell(given, report.to_json(), report.lines(), on_error=given.out is None and not given.check)
    return report.exit_code


def _export(given: argparse.Namespace) -> int:
    report = export(given.folder, given.target, progress=_progress())
    _tell(given, report.to_json(), report.lines())
    return 0


def _tell(given: argparse.Namespace, told: object, lines: Iterator[str], *, on_error: bool = False) -> None:
    """`on_error`: standard output is the records' own."""
    target = sys.stderr if on_error else sys.stdout
    if given.json:
        target.write(json.dumps(told, ensure_ascii=False) + "\n")
    else:
        target.writelines(f"{line}\n" for line in lines)


def _progress() -> Callable[[int, int], None] | None:
    """A line that is written over and over, where somebody looks on."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{done / 1e6:,.0f} of {total / 1e6:,.0f} MB{end}")

    return show


if __name__ == "__main__":
    sys.exit(main())
