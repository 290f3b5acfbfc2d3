"""The least there is to publishing: one TLS socket, QoS 1, and the clock read right before the packet leaves.

A client library's own work would be in both series, and would make their ratio look better than it is.
"""

import socket
import ssl
import time

from agent.errors import WardenError

TIMEOUT_S = 5.0
_PUBLISH_QOS1 = 0x32
_PUBACK = b"\x40\x02"
_CONNACK_GOOD = b"\x20\x02\x00\x00"


class PublisherError(WardenError):
    """The broker refused, or answered something else. `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"broker: {reason}")
        self.reason = reason


class Publisher:
    """One connection (MQTT 3.1.1, no keep-alive), open from the start until `close`."""

    def __init__(self, port: int, tls: ssl.SSLContext, identifier: str) -> None:
        """To 127.0.0.1. Raises OSError, or PublisherError when it is not let in."""
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link = tls.wrap_socket(plain, server_hostname="localhost")
        self._packet_id = 0
        self._awaited = b""
        self._link.sendall(_packet(0x10, _text("MQTT") + b"\x04\x02\x00\x00" + _text(identifier)))
        answer = self._read(len(_CONNACK_GOOD))
        if answer != _CONNACK_GOOD:
            self.close()
            raise PublisherError(f"did not let {identifier} in: {answer.hex(' ')}")

    def publish(self, topic: str, payload: bytes) -> int:
        """CLOCK_MONOTONIC nanoseconds right before the packet was handed to the kernel."""
        self._packet_id = self._packet_id % 0xFFFF + 1
        number = self._packet_id.to_bytes(2, "big")
        packet = _packet(_PUBLISH_QOS1, _text(topic) + number + payload)
        sent_ns = time.monotonic_ns()
        self._link.sendall(packet)
        self._awaited = _PUBACK + number
        return sent_ns

    def settle(self) -> None:
        """Takes the broker's acknowledgement of the last one. Raises PublisherError for anything else."""
        awaited, self._awaited = self._awaited, b""
        answer = self._read(len(awaited))
        if answer != awaited:
            raise PublisherError(f"did not acknowledge: {answer.hex(' ')}")

    def close(self) -> None:
        """Idempotent."""
        self._link.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._link.recv(size - len(data))
            if not part:
                raise PublisherError("hung up")
            data += part
        return data


def _packet(head: int, body: bytes) -> bytes:
    return bytes((head,)) + _length(len(body)) + body


def _length(size: int) -> bytes:
    """MQTT's variable byte integer."""
    more, low = divmod(size, 128)
    return bytes((low | 0x80,)) + _length(more) if more else bytes((low,))


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
