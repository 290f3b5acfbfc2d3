"""`warden log`: verify, decrypt, export, genesis; what asks the recorder is in log_retention.

Exit codes of verify: 0 clean, 1 explained anomalies, 2 evidence of tampering, 3 incomplete, or nothing that
can be judged. Of decrypt: 0 all was read, 1 all but torn tails, 2 something does not hold, 3 the keys do not
open it, or it cannot be done. Wrong usage is 2 too, and prints no verdict.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent.cli_parts import (
    DONE,
    FAILED,
    USAGE,
    Config,
    Json,
    clean,
    end,
    hint,
    load,
    path_option,
    progress,
    say,
    tell,
)
from agent.core.plan import Plan
from agent.errors import WardenError
from agent.log_retention import delete_segments, due_segments, hold_records
from agent.log_time import FOREVER_NS, time_ns
from agent.logformat.layout import LEDGER_FILE, MAX_LEDGER_LINE_BYTES
from agent.tokens import KeyFileError, load_public_jwk, load_roots, load_trust

if TYPE_CHECKING:
    from agent.audit import OrderKeys

UNJUDGED: Final = 3
"""Of verify and decrypt, where it cannot be done: never clean, and no evidence of tampering either."""


class Stream(StrEnum):
    """One of the log's streams."""

    SAFETY = "safety"
    NET = "net"
    TELE = "tele"


class Format(StrEnum):
    """Of decrypted records."""

    JSONL = "jsonl"
    CSV = "csv"


log_app = typer.Typer(
    no_args_is_help=True,
    help="The sealed log: verify, open, export, hold, delete. / 日志：核验、解密、导出、保留、删除。",
)
log_app.command("due")(due_segments)
log_app.command("delete")(delete_segments)
log_app.command("hold")(hold_records)

Folder = Annotated[
    Path | None,
    typer.Argument(
        help="The log, or a bundle of it; else the plan's recorder.dir. / 日志文件夹。",
        readable=False,
        show_default=False,
    ),
]
MaybeConfig = Annotated[Path | None, path_option("--config", "-c", help="The plan file. / 应急方案文件。")]


@log_app.command("verify")
def verify_log(
    folder: Folder = None,
    config: MaybeConfig = None,
    genesis: Annotated[Path | None, path_option(help="File with the line the department registered.")] = None,
    witness: Annotated[
        Path | None, path_option(help="A witness's record, or its folder. / 见证档案。")
    ] = None,
    root_key: Annotated[
        list[Path] | None, path_option(help="JWK of a key that may order; repeat. Else the plan's.")
    ] = None,
    trust: Annotated[
        Path | None, path_option(help="Trust file, signed by a root key. Else the plan's.")
    ] = None,
    witness_key: Annotated[
        list[Path] | None, path_option(help="JWK of a witness; repeat. Else the plan's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify the log: 0 clean, 1 explained anomalies, 2 tampering, 3 incomplete (核验日志)."""
    from agent.audit import verify

    if trust and not (root_key or config):
        end(USAGE, "--trust needs --root-key: the key whose signature it must have", as_json=as_json)
    plan = load(config, offline=True, as_json=as_json) if config else None
    place = _place(folder, plan, as_json=as_json)
    with _ended(UNJUDGED, as_json=as_json), progress("verify 核验", shown=not as_json) as told:
        report = verify(
            place,
            genesis=_registered(genesis),
            witness=witness,
            order_keys=_order_keys(plan, root_key or (), trust),
            witness_keys=_witness_keys(plan, witness_key or ()),
            progress=told,
        )
    _report(report.to_json(), report.lines(), as_json=as_json)
    raise typer.Exit(report.exit_code)


@log_app.command("decrypt")
def decrypt_log(  # noqa: PLR0913 - one argument for each option
    *,
    folder: Folder = None,
    config: MaybeConfig = None,
    key: Annotated[
        list[Path], path_option(help="A recipient's private key; repeat where all are needed. / 私钥。")
    ],
    style: Annotated[Format, typer.Option("--format", help="How records are written.")] = Format.JSONL,
    stream: Annotated[list[Stream] | None, typer.Option(help="Only this one; repeat.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="First record's time.")] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Last record's time, of a date its end.")
    ] = None,
    output: Annotated[
        Path | None, path_option(help="A file that is not there yet, mode 0600; else standard output.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Open the records with a recipient's key; what cannot be read is skipped and named (解密记录).

    A TIME is 2027-01-15T08:00:00+08:00, or a plain date, which is a day in China (Asia/Shanghai, UTC+8).
    Without --output the report goes to standard error.
    """
    from agent.audit import decrypt, load_recipient_key

    plan = load(config, offline=True, as_json=as_json) if config else None
    place = _place(folder, plan, as_json=as_json)
    span_ns = _span(since, until, as_json=as_json)
    shown = not as_json and (output is not None or not sys.stdout.isatty())
    to_error = output is None
    with _ended(UNJUDGED, as_json=as_json, on_error=to_error), progress("decrypt 解密", shown=shown) as told:
        report = decrypt(
            place,
            [load_recipient_key(path) for path in key],
            out=output or sys.stdout.buffer,
            format=style.value,
            streams=[name.value for name in stream or Stream],
            span_ns=span_ns,
            progress=told,
        )
        sys.stdout.buffer.flush()
    _report(report.to_json(), report.lines(), as_json=as_json, on_error=to_error)
    raise typer.Exit(report.exit_code)


@log_app.command("export")
def export_log(
    target: Annotated[
        Path, typer.Argument(help="A folder that is not there yet. / 新文件夹。", readable=False)
    ],
    config: MaybeConfig = None,
    folder: Annotated[
        Path | None, path_option(help="The log's folder; else the plan's recorder.dir.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy the evidence into a bundle that verify and decrypt take like the log itself (导出)."""
    from agent.audit import export

    plan = load(config, offline=True, as_json=as_json) if config else None
    place = _place(folder, plan, as_json=as_json, option="--folder")
    with _ended(FAILED, as_json=as_json), progress("export 导出", shown=not as_json) as told:
        report = export(place, target, progress=told)
    head = f"last entry {report.head_n} / 末条, hash {report.head_hash}"
    about = f"{report.target}: {report.files} files / 文件, {report.bytes} bytes; {head}"
    left_out = (f"  left out / 未导出: {name}" for name in report.left_out)
    _report(report.to_json(), iter((about, *left_out)), as_json=as_json)


@log_app.command("genesis")
def genesis_line(config: Config, as_json: Json = False) -> None:
    """Print the genesis as the department registers it; its hash on standard error (创世条目)."""
    plan = load(config, offline=True, as_json=as_json)
    with _ended(FAILED, as_json=as_json):
        line, digest, previous = _genesis(Path(plan.recorder.dir) / LEDGER_FILE, plan.robot.id)
    if as_json:
        tell({"robot": plan.robot.id, "line": line.decode(), "hash": digest, "previous": previous})
        raise typer.Exit(DONE)
    sys.stdout.write(line.decode() + "\n")
    hint(f"{plan.robot.id}: hash / 哈希 {digest}")
    if previous is not None:
        why = f"entry {previous['n']}, {previous['reason']}"
        hint(f"  an earlier ledger was broken off / 早先账本已中断: {why}")


# ---- what the commands are told


def _place(folder: Path | None, plan: Plan | None, *, as_json: bool, option: str = "FOLDER") -> Path:
    if folder is not None:
        return folder
    if plan is None:
        end(USAGE, f"give {option}, or --config with the plan", as_json=as_json)
    return Path(plan.recorder.dir)


def _span(since: str | None, until: str | None, *, as_json: bool) -> tuple[int, int]:
    first = time_ns("--from", since, as_json=as_json) if since else 0
    last = time_ns("--to", until, last=True, as_json=as_json) if until else FOREVER_NS
    if first > last:
        end(USAGE, "--from must not be later than --to", as_json=as_json)
    return first, last


def _registered(path: Path | None) -> bytes | None:
    from agent.audit import AuditError
    from agent.audit.folder import read_small

    if path is None:
        return None
    try:
        return read_small(path, MAX_LEDGER_LINE_BYTES)
    except OSError as error:
        raise AuditError(path, f"cannot be read: {error.strerror or 'not a regular file'}") from None


def _order_keys(plan: Plan | None, given: Sequence[Path], trust: Path | None) -> "OrderKeys | None":
    """Whose orders hold; None: nobody said, and orders stay unchecked."""
    from agent.audit import OrderKeys

    remote = plan.remote if plan is not None else None
    paths = given or [Path(path) for path in (remote.root_keys if remote else ())]
    file = trust or (Path(remote.trust) if remote else None)
    if not paths:
        return None
    roots = load_roots(paths)
    return OrderKeys(roots, load_trust(file, roots) if file else None)


def _witness_keys(plan: Plan | None, given: Sequence[Path]) -> Mapping[str, bytes] | None:
    """Kid → 32 bytes; None: nobody said, and acknowledgements stay unchecked."""
    keys: dict[str, bytes] = {}
    for path in given or [Path(path) for path in (plan.recorder.witnesses if plan is not None else ())]:
        kid, key = load_public_jwk(path)
        if kid in keys:
            raise KeyFileError(path, f'the kid "{kid}" comes twice among the witnesses')
        keys[kid] = key
    return keys or None


def _genesis(path: Path, robot: str) -> tuple[bytes, str, Mapping[str, object] | None]:
    """The first line of a ledger, its hash, and `previous`; AuditError unless it is this robot's genesis."""
    from agent.audit import AuditError, FormatError, forms
    from agent.audit.entry import parse_entry
    from agent.audit.witness import first_line
    from agent.logformat.suites import suite_by_number

    try:
        line = first_line(path)
        entry = parse_entry(line)
    except OSError as error:
        raise AuditError(path, f"cannot be read: {error.strerror or 'not a regular file'}") from None
    except FormatError as error:
        raise AuditError(path, f"line 1: {error.reason}") from None
    if entry.kind != "genesis" or entry.robot != robot:
        raise AuditError(path, f"line 1 is not the genesis of {robot}: is this the log of another robot?")
    suite = suite_by_number(entry.body["suite"])
    if not suite.verify(forms.as_bytes(entry.body["pk"]) or b"", entry.message, entry.sig):
        raise AuditError(path, "line 1: its signature is wrong: do not register it, and verify the log")
    return line, suite.hash(line).hex(), entry.body["previous"]


# ---- how they end


@contextmanager
def _ended(code: int, *, as_json: bool, on_error: bool = False) -> Iterator[None]:
    """What stands in the way ends the command with this code: ours by its own words, the system's by its."""
    try:
        yield
    except WardenError as error:
        end(code, str(error), as_json=as_json, on_error=on_error)
    except BrokenPipeError:
        raise  # whoever read the output has seen enough: the command line's business
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        if on_error:
            _give_up_output()
        end(code, f"{named}{error.strerror or error}", as_json=as_json, on_error=on_error)


def _give_up_output() -> None:
    """What standard output did not take is not tried again at the end, which would be a second error."""
    with suppress(OSError):  # none of its own, as in a test
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _report(
    told: Mapping[str, object], lines: Iterator[str], *, as_json: bool, on_error: bool = False
) -> None:
    """`on_error`: standard output is the records' own."""
    if as_json:
        tell(told, on_error=on_error)
        return
    for line in lines:
        (hint if on_error else say)(clean(line))
