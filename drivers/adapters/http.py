"""`http`: one call to a server, done when its answer is the one the plan names.

A new connection each time, no redirects, a bounded answer; certificates are checked unless the plan says
otherwise. An address is reached without anybody's help; a host's *name* is looked up by the loop's
resolver thread, and a step that must work with the network in trouble had better name an address.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

import h11

from agent.errors import WardenError
from drivers.adapters.base import Surroundings, one_line
from drivers.adapters.keeper import Job, StepKeeper
from drivers.adapters.trusted import TrustError, read_secret
from drivers.base import DriverError

READ_BYTES: Final = 16_384
MAX_HEAD: Final = 16_384
"""Bytes of status line and headers, interim answers included."""
_MISSING: Final = object()


class AnswerError(WardenError):
    """The answer is not the one that was asked for; its text is the result's detail."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where the call goes."""

    host: str
    port: int
    target: str
    host_header: str
    context: ssl.SSLContext | None
    server_name: str | None


class HttpAdapter(StepKeeper):
    """Steps that are one HTTP call, always the same one."""

    def __init__(self, name: str, settings: Mapping[str, object], around: Surroundings) -> None:
        """Raises DriverError when the file of authorities cannot be read."""
        super().__init__(name, around, int(str(settings["grace_ms"])))
        self._settings = settings
        self._endpoint = _endpoint(settings)

    def _start(self, job: Job, now_ns: int) -> "_HttpWork | None":
        path = self._settings["secret_file"]
        try:
            secret = "" if path is None else read_secret(str(path))
        except TrustError as error:
            job.failed(str(error), now_ns)
            return None
        return _HttpWork(job, self._endpoint, self._settings, secret, self._around)


class _HttpWork:
    """One call."""

    def __init__(
        self, job: Job, endpoint: _Endpoint, settings: Mapping[str, object], secret: str, around: Surroundings
    ) -> None:
        self._job = job
        self._endpoint = endpoint
        self._settings = settings
        self._secret = secret
        self._now_ns = around.now_ns
        self._task = around.loop.create_task(self._run(), name=f"http {job.step.id}")

    def tick(self, now_ns: int) -> None:
        """Nothing: the keeper ends what takes too long."""

    def end(self) -> None:
        """Cut the connection."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            words = await self._call()
        except AnswerError as error:
            self._failed(str(error))
        except h11.ProtocolError as error:
            self._failed(f"the answer is not HTTP: {error}")
        except (OSError, UnicodeError) as error:  # of the network, of TLS, of a name that is none
            self._failed(f"{type(error).__name__}: {error}")
        else:
            self._job.done(words, self._now_ns())

    def _failed(self, words: str) -> None:
        """No error's text repeats what was sent; should one ever do, the secret is not in it."""
        self._job.failed(words.replace(self._secret, "***") if self._secret else words, self._now_ns())

    async def _call(self) -> str:
        place = self._endpoint
        reader, writer = await asyncio.open_connection(
            place.host, place.port, ssl=place.context, server_hostname=place.server_name, limit=READ_BYTES
        )
        try:
            wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
            for part in self._request():
                writer.write(wire.send(part) or b"")
            return self._judge(*await self._answer(wire, reader))
        finally:
            # Not closed politely: there is nothing left to say, and a server must not keep us waiting.
            writer.transport.abort()

    def _request(self) -> tuple[h11.Event, ...]:
        body = str(self._settings["body"]).encode()
        headers = [
            ("Host", self._endpoint.host_header),
            ("User-Agent", "robot-warden"),
            ("Accept", "application/json, */*"),
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
        ]
        if body:
            headers.append(("Content-Type", "application/json"))
        if self._secret:
            name = str(self._settings["secret_header"])
            bearer = name.lower() == "authorization"
            headers.append((name, f"Bearer {self._secret}" if bearer else self._secret))
        request = h11.Request(
            method=str(self._settings["method"]), target=self._endpoint.target, headers=headers
        )
        return (request, h11.Data(data=body), h11.EndOfMessage())

    async def _answer(self, wire: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        """Status and body; raises AnswerError when it is more than the plan takes."""
        limit = int(str(self._settings["answer_limit"]))
        status, body, received = 0, bytearray(), 0
        while True:
            event = wire.next_event()
            if event is h11.NEED_DATA:
                content = await reader.read(READ_BYTES)
                received += len(content)
                if received > limit + MAX_HEAD:
                    raise AnswerError(f"the answer is longer than {limit} bytes")
                wire.receive_data(content)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > limit:
                    raise AnswerError(f"the answer is longer than {limit} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)
            elif isinstance(event, h11.ConnectionClosed):
                raise AnswerError("the server closed the connection without an answer")

    def _judge(self, status: int, body: bytes) -> str:
        """Words for a right answer; raises AnswerError for any other."""
        if status != self._settings["status"]:
            raise AnswerError(f"status {status}, not {self._settings['status']}")
        field = self._settings["field"]
        if field is None:
            return f"status {status}"
        wanted, found = self._settings["value"], _field(body, str(field))
        # 1 == True in Python; not in JSON.
        if type(found) is not type(wanted) or found != wanted:
            shown = "missing" if found is _MISSING else one_line(json.dumps(found), 40)
            raise AnswerError(f"status {status}, {field} is {shown}, not {json.dumps(wanted)}")
        return f"status {status}, {field} is {json.dumps(wanted)}"


def _field(body: bytes, path: str) -> object:
    """What a JSON answer holds under a dotted path; `_MISSING` where there is nothing."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerError("the answer is not JSON") from None
    for key in path.split("."):
        if not isinstance(value, dict):
            return _MISSING
        value = value.get(key, _MISSING)
    return value


def _endpoint(settings: Mapping[str, object]) -> _Endpoint:
    url = urlsplit(str(settings["url"]))
    host = url.hostname or ""
    secure = url.scheme == "https"
    named = settings["server_name"]
    server_name = host if named is None else str(named)
    return _Endpoint(
        host=host,
        port=url.port or (443 if secure else 80),
        target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        host_header=_host_header(url, None if named is None else str(named)),
        context=_context(settings) if secure else None,
        server_name=server_name if secure else None,
    )


def _host_header(url: SplitResult, named: str | None) -> str:
    host = named or (f"[{url.hostname}]" if ":" in (url.hostname or "") else str(url.hostname))
    return host if url.port is None else f"{host}:{url.port}"


def _context(settings: Mapping[str, object]) -> ssl.SSLContext:
    path = settings["ca_file"]
    try:
        context = ssl.create_default_context(cafile=None if path is None else str(path))
    except OSError as error:  # ssl.SSLError too: no certificate in it
        reason = f"cannot use its ca_file: {error.strerror or error}"
        raise DriverError("http", str(path), reason) from error
    if not settings["tls_verify"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
