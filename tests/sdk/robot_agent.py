"""The agent's end of the robot link (PROTOCOL 2), in a test's hand: plain sockets, none of our code."""

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any


class Agent:
    """The other end of the link, in the test's hand."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.settimeout(20)
        self.listener.bind(os.fspath(path))
        self.listener.listen(1)
        self.robot: socket.socket | None = None

    def accept(self) -> None:
        self.robot, _ = self.listener.accept()
        self.robot.settimeout(20)

    def heard(self) -> dict[str, Any]:
        assert self.robot is not None
        message: dict[str, Any] = json.loads(self.robot.recv(65536))
        return message

    def say(self, packet: bytes | dict[str, object]) -> None:
        assert self.robot is not None
        self.robot.send(packet if isinstance(packet, bytes) else json.dumps(packet).encode())

    def hear_the_end(self) -> None:
        """Returns when the robot has ended the connection; what it said before is dropped."""
        assert self.robot is not None
        with contextlib.suppress(ConnectionResetError):
            while self.robot.recv(65536):
                pass

    def hang_up(self) -> None:
        if self.robot is not None:
            self.robot.close()
        self.robot = None

    def close(self) -> None:
        self.hang_up()
        self.listener.close()
