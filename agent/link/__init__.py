"""Local sockets between the modules and to the robot (PROTOCOL 2; module sockets likewise).

Unix SOCK_SEQPACKET, one UTF-8 JSON object with a string field `type` per packet. Everything runs in
plain `loop.add_reader` callbacks: a message, and the end of a connection, reach their handler inside the
very callback that saw them, because a peer's end is a stop (DESIGN, principle 5).

Rules of this folder:

* The kernel says who the peer is (SO_PEERCRED), on both ends; a uid that is not allowed is cut off at once.
* Nothing here blocks. `send` never raises: a full buffer or a dead peer is `False`.
* A packet that breaks the rules is dropped and told to `on_bad`; the connection stays. Whoever floods gets
  `PACKETS_PER_WAKE` packets per turn of the loop and no more, so nobody else starves.
* What a peer said before its end is heard first, then its end is told: exactly once, never for a
  connection that our own side closed.
"""

from agent.link.client import Client
from agent.link.connection import Connection
from agent.link.packets import (
    MAX_MODULE_PACKET,
    MAX_ROBOT_PACKET,
    LinkError,
    Message,
    PacketError,
    decode_packet,
    encode_packet,
)
from agent.link.server import Server

__all__ = [
    "MAX_MODULE_PACKET",
    "MAX_ROBOT_PACKET",
    "Client",
    "Connection",
    "LinkError",
    "Message",
    "PacketError",
    "Server",
    "decode_packet",
    "encode_packet",
]
