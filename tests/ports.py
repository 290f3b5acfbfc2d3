"""A port at which nobody answers, for as long as a test needs it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_port() -> Iterator[int]:
    """Of 127.0.0.1: bound, so that nobody else is given it, and not listened on, so that it refuses."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port
