"""What people ask of the log through `warden log`: what may be deleted, deletions by order, holds.

The recorder alone writes the folder and the ledger, so the command line asks it over `recorder.sock`, in the
role `status`: root, or the recorder's own user. Every refusal says why, Chinese beside English.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agent.core.plan import Plan
from agent.errors import WardenError
from agent.link import Connection, Message
from agent.logformat.layout import segment_name
from agent.recorder.log import LogError
from agent.recorder.sealed.holds import HoldError
from agent.recorder.sealed.orders import MAX_SEGMENTS, Named, OrderError
from agent.recorder.sealed.retention import RefusedError
from agent.recorder.store import Store, office_of

MAX_REASON: Final = 200
MAX_PROBLEMS: Final = 100
"""Told in one answer; more are counted."""

Answer = dict[str, object]


class LogDesk:
    """`handlers`: message type -> what is done with it."""

    def __init__(self, plan: Plan, store: Store, record: Callable[[str, Mapping[str, object]], None]) -> None:
        """`record(kind, body)`: into stream `safety`, what was asked and what became of it."""
        self._plan = plan
        self._store = store
        self._record = record
        self.handlers = {
            "log_due": self._answering("log_due", self._due),
            "log_delete": self._answering("log_delete", self._delete),
            "log_hold": self._answering("log_hold", self._hold),
            "log_release": self._answering("log_release", self._release),
        }

    def _answering(
        self, kind: str, act: Callable[[Message], Answer]
    ) -> Callable[[Connection, Message], None]:
        def handle(connection: Connection, message: Message) -> None:
            try:
                answer = act(message)
            except (OrderError, HoldError, LogError, WardenError) as error:
                answer = {"ok": False, "reason": str(error)[:500]}
            if kind != "log_due":
                told = {key: value for key, value in answer.items() if key != "problems"}
                self._record(kind, {**told, "uid": connection.peer_uid})
            connection.send({"type": kind, **answer})

        return handle

    def _due(self, _: Message) -> Answer:
        retention = self._store.retention
        named = retention.deletable()[:MAX_SEGMENTS]
        return {
            "segments": [self._segment(one) for one in named],
            "witness_time_ns": retention.witness_ns(),
        }

    def _segment(self, named: Named) -> Answer:
        from_ns, to_ns = self._store.retention.span(named)
        path = self._store.folder / named.stream / segment_name(named.segno)
        return {**named.as_dict(), "from_ns": from_ns, "to_ns": to_ns, "bytes": _size(path)}

    def _delete(self, message: Message) -> Answer:
        retention = self._store.retention
        # The newest trust file: a right that was taken back this morning orders nothing.
        retention.office = office_of(self._plan)
        try:
            gone = retention.delete(_text(message, "order"))
        except RefusedError as error:
            rows = [
                {"stream": row.named.stream, "segno": row.named.segno, "zh": row.zh, "en": row.en}
                for row in error.refusals
            ]
            return {
                "ok": False,
                "deleted": 0,
                "reason": f"{len(rows)} reasons stand against it / 有 {len(rows)} 项理由不得删除",
                "problems": rows[:MAX_PROBLEMS],
            }
        for named in gone:
            self._store.log.forget(named.stream, named.segno)
        return {"ok": True, "deleted": len(gone), "problems": []}

    def _hold(self, message: Message) -> Answer:
        from_ns, to_ns = message.get("from_ns"), message.get("to_ns")
        if type(from_ns) is not int or type(to_ns) is not int:
            return {"ok": False, "reason": "from_ns and to_ns must be whole numbers / 起止时间须为整数纳秒"}
        hold_id = f"hold-{time.strftime('%Y%m%d', time.gmtime())}-{secrets.token_hex(4)}"
        self._store.retention.hold(hold_id, from_ns, to_ns, _text(message, "reason")[:MAX_REASON])
        return {"ok": True, "id": hold_id}

    def _release(self, message: Message) -> Answer:
        self._store.retention.office = office_of(self._plan)
        return {"ok": True, "id": self._store.retention.release(_text(message, "order"))}


def _text(message: Message, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not value:
        raise WardenError(f"{key} must be text / {key} 须为文本")
    return value


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
