"""One question to one module over its socket, as `warden status` and `warden log` ask it; no event loop."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.link import MAX_MODULE_PACKET

ANSWER_S = 0.5


def ask(path: Path, question: Mapping[str, object], timeout_s: float = ANSWER_S) -> dict[str, Any] | None:
    """The answer of the question's `type`; None when nobody gives one within `timeout_s` of silence."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(path))
            sock.send(b'{"type":"hello","role":"status","boot":"' + b"0" * 32 + b'","pid":0}')
            sock.send(json.dumps(question).encode())
            while data := sock.recv(MAX_MODULE_PACKET):
                message = json.loads(data)
                if isinstance(message, dict) and message.get("type") == question["type"]:
                    return message
        except (OSError, ValueError, RecursionError):
            return None
    return None
