"""A real broker in a process of its own, for the demo and for every test that needs one.

`mosquitto` where it is installed, else the embedded one (`hil.broker_embedded`). Both listen on a random
port of the loopback interface, demand TLS and a client certificate, take the certificate's CN as the
user name and enforce the same acl_file (`hil.broker_acl`). What to install beside a robot in service is
`config/broker/`; a test holds the two together.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil

from agent.errors import WardenError
from hil.broker_acl import acl_text
from hil.child import Child
from hil.pki import Pki

START_TIMEOUT_S = 10.0
MAX_PACKET = 65536
"""PROTOCOL 3: packets over 64 KiB are dropped. mosquitto counts the whole packet."""
_SBIN = "/usr/sbin:/usr/local/sbin"
"""Debian installs mosquitto where a user's PATH does not look."""
_PORTS_TRIED = 3
_NEITHER = "neither mosquitto nor amqtt is installed (pip install 'robot-warden[demo]')"
_LOOK_AGAIN_S = 0.01
_STEP_TIMEOUT_S = 2.0

# MQTT 3.1.1, client id "probe", clean session; the answer must be CONNACK with code 0.
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05probe"
_CONNACK = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"

Kind = Literal["mosquitto", "embedded"]


class BrokerError(WardenError):
    """A broker that cannot be started. `log`: where it says more."""

    def __init__(self, kind: str, log: Path, reason: str) -> None:
        super().__init__(f"{kind} broker: {reason} (log: {log})")
        self.kind = kind
        self.log = log
        self.reason = reason


def find_mosquitto() -> str | None:
    """The program's path; None where it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)


class Broker:
    """One broker. As a context manager it is started when entered and ended when left."""

    kind: Kind

    def __init__(self, kind: Literal["auto", "mosquitto", "embedded"], folder: Path, pki: Pki) -> None:
        """`auto`: mosquitto if there is one. `folder` takes its configuration and log.

        Raises BrokerError when the wanted kind is not installed.
        """
        self._log = folder / "broker.log"
        self._program = find_mosquitto() if kind != "embedded" else None
        if kind == "mosquitto" and self._program is None:
            raise BrokerError(
                kind, self._log, "mosquitto is not installed; `make test` installs it where it may"
            )
        if self._program is None and importlib.util.find_spec("amqtt") is None:
            raise BrokerError(kind, self._log, _NEITHER)
        self.kind = "embedded" if self._program is None else "mosquitto"
        self._folder = folder
        self._pki = pki
        self._port: int | None = None
        self._child: Child | None = None

    @property
    def port(self) -> int:
        """Of 127.0.0.1; fixed from the first start on. Raises BrokerError before it."""
        if self._port is None:
            raise self._error("has not been started yet")
        return self._port

    @property
    def url(self) -> str:
        """As a plan's `remote.broker` wants it."""
        return f"mqtts://127.0.0.1:{self.port}"

    @property
    def protocol(self) -> str:
        """The newest MQTT it speaks, as a plan's `remote.protocol` wants it."""
        return "5" if self.kind == "mosquitto" else "3.1.1"

    @property
    def pid(self) -> int:
        """Of the process started last. Raises BrokerError before the first start."""
        return self._process.pid

    @property
    def log(self) -> Path:
        """What the broker writes."""
        return self._log

    def start(self) -> Self:
        """Until a client with the robot's certificate is let in; at most 10 s, then BrokerError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        ports = [free_port() for _ in range(_PORTS_TRIED)] if self._port is None else [self._port]
        for port in ports:
            # Between finding a free port and listening on it somebody else may take it: then another one.
            self._child = self._launch(port)
            if self._until_ready(port, deadline_s):
                self._port = port
                return self
        raise self._error(f"ended at its start: {self._process.last_words()}")

    def stop(self) -> None:
        """SIGTERM, also when frozen; idempotent."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """SIGKILL: its clients see the end of their connections, and no last will is sent."""
        self._process.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self._process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.thaw()

    def restart(self) -> Self:
        """Ends it where it still runs and starts it on the same port again, with nothing retained."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _process(self) -> Child:
        if self._child is None:
            raise self._error("has not been started yet")
        return self._child

    def _error(self, reason: str) -> BrokerError:
        return BrokerError(self.kind, self._log, reason)

    def _launch(self, port: int) -> Child:
        acl = self._folder / "acl"
        acl.write_text(acl_text(self._pki.parties))
        if self._program is None:
            files = {
                "ca": self._pki.ca,
                "cert": self._pki.server_cert,
                "key": self._pki.server_key,
                "acl": acl,
            }
            arguments = [part for name, path in files.items() for part in (f"--{name}", str(path))]
            return Child.module("hil.broker_embedded", ["--port", str(port), *arguments], self._log)
        settings = self._folder / "mosquitto.conf"
        settings.write_text(mosquitto_conf(port, self._pki, acl))
        return Child([self._program, "-c", str(settings)], self._log)

    def _until_ready(self, port: int, deadline_s: float) -> bool:
        """True when it lets the robot in, False when it has ended; raises BrokerError at the deadline."""
        while not (self._listens(port) and self._lets_in(port)):
            if self._process.ended is not None:
                return False
            if time.monotonic() > deadline_s:
                words = self._process.last_words()
                self.kill()
                raise self._error(f"let nobody in for {START_TIMEOUT_S:g} s: {words}")
            time.sleep(_LOOK_AGAIN_S)
        return True

    def _listens(self, port: int) -> bool:
        """Whether this very process does: another broker of the same keys would let us in as well."""
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self.pid).net_connections("tcp4")
            return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found)
        return False

    def _lets_in(self, port: int) -> bool:
        """A whole MQTT connection: TLS 1.3's handshake ends before the server has judged the certificate."""
        context = self._pki.client_tls(self._pki.robot)
        plain = socket.socket()
        plain.settimeout(_STEP_TIMEOUT_S)
        # Wrapped before it is connected: a broker that dies in between made Python forget to close it.
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_hostname="localhost") as link:
            link.connect(("127.0.0.1", port))
            link.sendall(_CONNECT)
            answer = link.recv(len(_CONNACK))
            link.sendall(_DISCONNECT)
            return answer == _CONNACK
        return False


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def mosquitto_conf(port: int, pki: Pki, acl: Path) -> str:
    """The rig's settings; why each is as it is stands in config/broker/mosquitto.conf."""
    lines = [
        "# Written by hil.broker at each start. The one to install is config/broker/mosquitto.conf.",
        f"listener {port} 127.0.0.1",
        f"cafile {pki.ca}",
        f"certfile {pki.server_cert}",
        f"keyfile {pki.server_key}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        f"acl_file {acl}",
        "set_tcp_nodelay true",
        f"max_packet_size {MAX_PACKET}",
        # A rig's broker starts empty: what an earlier run retained is none of this one's business.
        "persistence false",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
    ]
    if os.geteuid() == 0:
        # It would change to the user mosquitto, who may read neither the keys nor the folder.
        lines.append("user root")
    return "\n".join(lines) + "\n"
