"""Where the simulated node takes its orders: a SOCK_SEQPACKET socket, one JSON object per packet each way."""

import contextlib
import json
import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path

from hil.node_orders import MAX_ORDER

MAX_CLIENTS = 8
Obey = Callable[[object], dict[str, object]]


class ControlSocket:
    """Never blocks the loop: a client that does not take its answer is dropped."""

    def __init__(self, path: Path) -> None:
        """`path` is made by `open`, readable and writable for its owner only."""
        self._path = path
        self._clients: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def open(self, selector: selectors.BaseSelector, obey: Obey) -> None:
        """Listens; `obey` is called with each order from the selector's own callbacks. Raises OSError."""
        self._selector, self._obey = selector, obey
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        try:
            _bind(listener, self._path)
            listener.listen(MAX_CLIENTS)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def close(self) -> None:
        """Hangs up on everybody and takes the name away."""
        for client in tuple(self._clients):
            self._drop(client)
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        try:
            packet, _, flags, _ = client.recvmsg(MAX_ORDER)
            if packet:
                client.send(json.dumps(self._answer(packet, flags)).encode())
                return
        except OSError:
            pass  # gone, or not taking its answers: the same to us
        self._drop(client)

    def _answer(self, packet: bytes, flags: int) -> dict[str, object]:
        if flags & socket.MSG_TRUNC:
            return {"ok": False, "reason": f"an order is at most {MAX_ORDER} bytes"}
        try:
            message = json.loads(packet)
        except (ValueError, RecursionError) as error:
            return {"ok": False, "reason": f"an order is JSON: {error}"}
        return self._obey(message)

    def _drop(self, client: socket.socket) -> None:
        self._clients.discard(client)
        self._selector.unregister(client)
        client.close()


def _bind(listener: socket.socket, path: Path) -> None:
    """Takes a name that a dead simulator left behind, but not one that somebody listens on."""
    with (
        contextlib.suppress(FileNotFoundError, ConnectionRefusedError),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe,
    ):
        probe.connect(str(path))
        raise OSError(f"{path}: another simulator listens there")
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
