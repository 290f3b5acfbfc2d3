"""`warden log due | delete | hold`: what the running recorder decides, asked over its socket.

0 done, 3 refused, 4 no answer. The recorder judges; these commands bring orders to it and say what it said.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from agent.ask import ask
from agent.cli_parts import (
    DONE,
    FAILED,
    NO_ANSWER,
    REFUSED,
    USAGE,
    Config,
    Json,
    clean,
    end,
    hint,
    load,
    path_option,
    say,
    tell,
)
from agent.core.plan import Plan
from agent.log_time import show_ns, time_ns
from agent.logformat.draft import MAX_ORDER_SEGMENTS
from agent.processes import BY_NAME
from agent.tokens import MAX_TOKEN_BYTES

ANSWER_S: Final = 10.0
"""The recorder may be in the middle of a sync on worn flash."""
DELETE_S: Final = 120.0
"""An order names up to 200 segments; each is overwritten in part, unlinked and synced."""
MAX_REASON: Final = 200
"""Characters of a hold's reason; the recorder keeps no more."""
_SHOWN: Final = 20

Answer = Mapping[str, Any]


def due_segments(
    config: Config,
    output: Annotated[
        Path | None, path_option(help="The draft order goes here, a file that is not there yet.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask what may be deleted now, as a draft that the department signs by `guardian order` (到期日志段).

    The draft is printed, or written to --output; where nothing is due there is none.
    """
    plan = load(config, offline=True, as_json=as_json)
    answer = _ask(plan, {"type": "log_due"}, ANSWER_S, as_json=as_json)
    segments, witness_time_ns = _due(answer, as_json=as_json)
    taken = segments[:MAX_ORDER_SEGMENTS]
    draft = _draft(plan.robot.id, taken) if taken else None
    if draft is not None and output is not None:
        _write(output, draft, as_json=as_json)
    told = {"robot": plan.robot.id, "witness_time_ns": witness_time_ns, "segments": segments, "draft": draft}
    if as_json:
        tell({**told, "output": str(output) if draft and output else None})
        return
    if draft is not None and output is None:
        say(_text(draft))
    for line in _due_lines(segments, witness_time_ns):
        hint(line)
    if draft is not None and output is not None:
        say(f"{output}: {len(taken)} segments / 日志段; have it signed: guardian order {output} --out FILE")


def delete_segments(
    config: Config,
    order: Annotated[Path, path_option(help="The signed order, of `guardian order`. / 已签发的删除指令。")],
    as_json: Json = False,
) -> None:
    """Delete the segments that a signed order names; its record is written first (删除到期日志段)."""
    plan = load(config, offline=True, as_json=as_json)
    token = _order(order, as_json=as_json)
    answer = _ask(plan, {"type": "log_delete", "order": token}, DELETE_S, as_json=as_json)
    _require(answer, {"ok": "bool"}, as_json=as_json)
    deleted = answer.get("deleted", 0)
    if type(deleted) is not int:
        _misunderstood(as_json=as_json)
    problems = _rows(answer, "problems", {"stream": "str", "segno": "int"}, as_json=as_json)
    reason = _words(answer, "reason")
    done = bool(answer["ok"]) and not problems
    if as_json:
        told = {"ok": answer["ok"], "deleted": deleted, "reason": reason, "problems": problems}
        tell({**told, "exit": DONE if done else REFUSED})
    else:
        _show_deletion(deleted, reason, problems)
    raise typer.Exit(DONE if done else REFUSED)


def hold_records(
    *,
    config: Config,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="First record's time.")] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Last record's time, of a date its end.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record. / 理由。")] = "",
    release: Annotated[
        Path | None, path_option(help="A signed order that ends a hold, instead. / 解除保留的指令。")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep the records of a time from deletion, until a signed order releases them (保留记录).

    A TIME is 2027-01-15T08:00:00+08:00, or a plain date, which is a day in China (Asia/Shanghai, UTC+8).
    """
    plan = load(config, offline=True, as_json=as_json)
    if release is not None:
        if since or until or reason:
            end(
                USAGE, "--release takes neither --from, --to nor --reason: the order says it", as_json=as_json
            )
        _release(plan, release, as_json=as_json)
    if not since or not until:
        end(USAGE, "give --from and --to, or --release", as_json=as_json)
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        end(USAGE, f"--reason: must be 1 to {MAX_REASON} printable characters", as_json=as_json)
    from_ns = time_ns("--from", since, as_json=as_json)
    to_ns = time_ns("--to", until, last=True, as_json=as_json)
    if from_ns > to_ns:
        end(USAGE, "--from must not be later than --to", as_json=as_json)
    question = {"type": "log_hold", "from_ns": from_ns, "to_ns": to_ns, "reason": reason}
    answer = _ask(plan, question, ANSWER_S, as_json=as_json)
    _settled(answer, f"held / 已保留: {show_ns(from_ns)} – {show_ns(to_ns)}", as_json=as_json)


def _release(plan: Plan, path: Path, *, as_json: bool) -> NoReturn:
    token = _order(path, as_json=as_json)
    answer = _ask(plan, {"type": "log_release", "order": token}, ANSWER_S, as_json=as_json)
    _settled(answer, "released / 已解除保留", as_json=as_json)


# ---- the recorder's answers


def _ask(plan: Plan, question: Mapping[str, object], wait_s: float, *, as_json: bool) -> Answer:
    path = Path(plan.run_dir) / plan.robot.id / str(BY_NAME["recorder"].socket)
    try:
        answer = ask(path, question, wait_s)
    except RecursionError:
        _misunderstood(as_json=as_json)
    if answer is None:
        user = BY_NAME["recorder"].user
        end(
            NO_ANSWER,
            f"{path}: the recorder does not answer / 记录模块无应答: it must run, and this be root or {user}",
            as_json=as_json,
        )
    return answer


def _misunderstood(*, as_json: bool) -> NoReturn:
    end(FAILED, "the recorder's answer has another form: is it of another version?", as_json=as_json)


def _require(value: object, fields: Mapping[str, str], *, as_json: bool) -> None:
    """Ends the command unless `value` is an object with these fields: name → name of the type."""
    if not isinstance(value, Mapping) or any(type(value.get(k)).__name__ != t for k, t in fields.items()):
        _misunderstood(as_json=as_json)


def _rows(answer: Answer, name: str, fields: Mapping[str, str], *, as_json: bool) -> list[dict[str, Any]]:
    """A list of objects; one that is left out is empty."""
    rows = answer.get(name, [])
    if not isinstance(rows, list):
        _misunderstood(as_json=as_json)
    for row in rows:
        _require(row, fields, as_json=as_json)
    return rows


def _words(answer: Answer, name: str) -> str:
    """Text for people, "" where there is none."""
    text = answer.get(name, "")
    return clean(text) if isinstance(text, str) else ""


def _settled(answer: Answer, done: str, *, as_json: bool) -> NoReturn:
    """Says how a hold or a release ended, with its exit code."""
    _require(answer, {"ok": "bool"}, as_json=as_json)
    ok, reason, hold = answer["ok"], _words(answer, "reason"), _words(answer, "id")
    if as_json:
        tell({"ok": ok, "id": hold, "reason": reason, "exit": DONE if ok else REFUSED})
    elif ok:
        say(f"{done}{f'; id / 编号: {hold}' if hold else ''}")
    else:
        end(REFUSED, f"refused / 被拒绝: {reason or 'no reason given'}")
    raise typer.Exit(DONE if ok else REFUSED)


# ---- due


def _due(answer: Answer, *, as_json: bool) -> tuple[list[dict[str, Any]], int | None]:
    if answer.get("ok") is False:
        end(REFUSED, f"refused / 被拒绝: {_words(answer, 'reason') or 'no reason given'}", as_json=as_json)
    named = {"stream": "str", "segno": "int", "seal": "str"}
    rows = _rows(
        answer, "segments", {**named, "from_ns": "int", "to_ns": "int", "bytes": "int"}, as_json=as_json
    )
    witnessed = answer.get("witness_time_ns")
    if witnessed is not None and type(witnessed) is not int:
        _misunderstood(as_json=as_json)
    return rows, witnessed or None


def _due_lines(segments: Sequence[Answer], witness_time_ns: int | None) -> list[str]:
    if witness_time_ns is None:
        return ["no witness has told the time yet: nothing can be due / 尚无见证时间，不能删除"]
    by = f"by the witnesses' time / 按见证时间 {show_ns(witness_time_ns)}"
    if not segments:
        return [f"nothing is due {by} / 无到期日志段"]
    size = sum(row["bytes"] for row in segments)
    lines = [f"{len(segments)} segments are due / 到期日志段, {size} bytes, {by}"]
    lines += [_due_line(row) for row in segments[:_SHOWN]]
    if len(segments) > _SHOWN:
        lines.append(f"  … and {len(segments) - _SHOWN} more / 其余从略")
    if len(segments) >= MAX_ORDER_SEGMENTS:
        lines.append(
            f"one order names at most {MAX_ORDER_SEGMENTS}: ask again when it is done / 完成后请再次查询"
        )
    return lines


def _due_line(row: Answer) -> str:
    span = f"{show_ns(row['from_ns'])} – {show_ns(row['to_ns'])}"
    return f"  {row['stream']} {row['segno']}: {span}, {row['bytes']} bytes"


def _draft(robot: str, segments: Sequence[Answer]) -> dict[str, object]:
    rows = [{name: row[name] for name in ("stream", "segno", "seal")} for row in segments]
    return {"robot": robot, "order": "delete", "segments": rows, "reason": ""}


def _text(draft: Mapping[str, object]) -> str:
    return json.dumps(draft, ensure_ascii=False)


def _write(path: Path, draft: Mapping[str, object], *, as_json: bool) -> None:
    """A new file; what stands there already may be an order that somebody is about to sign."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_text(draft) + "\n")
    except OSError as error:
        end(FAILED, f"{path}: cannot be written: {error.strerror}", as_json=as_json)


# ---- orders


def _order(path: Path, *, as_json: bool) -> str:
    """A signed order from its file; who signed it the recorder judges."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MAX_TOKEN_BYTES + 2)
    except OSError as error:
        end(FAILED, f"{path}: cannot be read: {error.strerror}", as_json=as_json)
    token = data.strip()
    if len(token) > MAX_TOKEN_BYTES:
        end(REFUSED, f"{path}: is larger than {MAX_TOKEN_BYTES} bytes", as_json=as_json)
    if token.startswith(b"{"):
        bound = f"is a draft, and must be signed by the department: guardian order {path} --out FILE"
        end(REFUSED, f"{path}: {bound}", as_json=as_json)
    if not token.isascii() or token.count(b".") != 2 or len(token.split()) != 1:
        end(REFUSED, f"{path}: must hold one signed order (a JWT), and nothing else", as_json=as_json)
    return token.decode()


def _show_deletion(deleted: int, reason: str, problems: Sequence[Answer]) -> None:
    if deleted or not (reason or problems):
        say(f"{deleted} segments deleted / 已删除日志段")
    for row in problems:
        words = " / ".join(text for text in (_words(row, "en"), _words(row, "zh")) if text)
        hint(f"warden: {row['stream']} {row['segno']}: not deleted / 未删除: {words}")
    if reason:
        hint(f"warden: refused / 被拒绝: {reason}")
