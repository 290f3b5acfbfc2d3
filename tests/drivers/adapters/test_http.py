"""One call, one checked answer, against a real server that does what servers do."""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drivers.adapters.base import Outcome
from drivers.adapters.http import MAX_HEAD, HttpAdapter
from drivers.adapters.registry import check_adapter
from drivers.base import DriverError
from tests.drivers.adapters.rig import Desk
from tests.drivers.adapters.web import (
    Answer,
    Exchange,
    Web,
    answers,
    never,
    repeats,
    says,
    standard_server,
    web,
)
from tests.monitor.certificates import make_certificate
from tests.waiting import wait_until


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def site() -> AsyncIterator[Web]:
    async with web() as served:
        yield served
        await wait_until(lambda: served.open == 0)


def adapter(desk: Desk, site: Web, **changes: object) -> HttpAdapter:
    settings = {"url": f"http://127.0.0.1:{site.port}/v1/stop", **changes}
    return HttpAdapter("http voice", check_adapter("http", settings), desk.around)


async def call(desk: Desk, site: Web, **changes: object) -> tuple[Outcome, str]:
    voice = adapter(desk, site, **changes)
    return await desk.outcome(voice, desk.begin(voice, deadline_ms=60_000))


# ------------------------------------------------------------------------------------------- what is asked


async def test_the_call_is_what_the_plan_says(desk: Desk, site: Web) -> None:
    assert await call(desk, site, method="PUT", body='{"state": "off"}') == (Outcome.DONE, "status 200")
    (request,) = site.requests
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    assert line == "PUT /v1/stop HTTP/1.1"
    assert dict(header.split(": ", 1) for header in headers) == {
        "Host": f"127.0.0.1:{site.port}",
        "User-Agent": "robot-warden",
        "Accept": "application/json, */*",
        "Connection": "close",
        "Content-Length": "16",
        "Content-Type": "application/json",
    }
    assert body == b'{"state": "off"}'


async def test_a_query_is_kept_and_an_empty_path_is_the_root(desk: Desk, site: Web) -> None:
    await call(desk, site, url=f"http://127.0.0.1:{site.port}?now=1&all")
    assert site.requests[0].startswith(b"POST /?now=1&all HTTP/1.1\r\n")
    assert b"Content-Length: 0" in site.requests[0]
    assert b"Content-Type" not in site.requests[0]


async def test_the_library_s_own_server_understands_it(desk: Desk) -> None:
    """Another implementation of HTTP, the standard library's."""
    with standard_server() as (port, seen):
        voice = HttpAdapter(
            "http voice",
            check_adapter("http", {"url": f"http://127.0.0.1:{port}/off", "field": "state", "value": "off"}),
            desk.around,
        )
        step_id = desk.begin(voice)
        assert await desk.outcome(voice, step_id) == (Outcome.DONE, 'status 200, state is "off"')
    assert seen == ["POST /off"]


# ---------------------------------------------------------------------------------------- what is answered

A_IS_1: dict[str, object] = {"field": "a", "value": 1}
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TWO_BYTES = OK + b"Content-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("answer", "changes", "detail"),
    [
        (answers(b"", b"204 No Content"), {"status": 204}, "status 204"),
        (answers(b'{"ok": true}'), {"field": "ok", "value": True}, "status 200, ok is true"),
        (answers(b'{"a": {"b": "x"}}'), {"field": "a.b", "value": "x"}, 'status 200, a.b is "x"'),
        (says(CHUNKED, b'5\r\n{"a":\r\n', b"2\r\n1}\r\n0\r\n\r\n"), A_IS_1, "status 200, a is 1"),
        (says(b"HTTP/1.0 200 OK\r\n\r\n", b'{"a": 1}'), A_IS_1, "status 200, a is 1"),
        (says(CONTINUE, TWO_BYTES), {}, "status 200"),
        (says(*(bytes([byte]) for byte in TWO_BYTES)), {}, "status 200"),
    ],
)
async def test_right_answers(
    desk: Desk, site: Web, answer: Answer, changes: dict[str, object], detail: str
) -> None:
    site.answer = answer
    assert await call(desk, site, **changes) == (Outcome.DONE, detail)
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("answer", "changes", "detail"),
    [
        (answers(b""), {"status": 202}, "status 200, not 202"),
        (answers(b"", b"500 Oops"), {}, "status 500, not 200"),
        (answers(b"", b"302 Found", b"Location: /\r\n"), {}, "status 302, not 200"),
        (answers(b'{"a": true}'), A_IS_1, "status 200, a is true, not 1"),
        (answers(b'{"a": 1.0}'), A_IS_1, "status 200, a is 1.0, not 1"),
        (answers(b'{"a": [1]}'), {"field": "a.b", "value": "x"}, 'status 200, a.b is missing, not "x"'),
        (answers(b"[]"), A_IS_1, "status 200, a is missing, not 1"),
        (answers(b"off"), A_IS_1, "the answer is not JSON"),
        (answers(b"\xff\xfe"), A_IS_1, "the answer is not JSON"),
        (answers(b"[" * 60_000), A_IS_1, "the answer is not JSON"),
    ],
)
async def test_wrong_answers(
    desk: Desk, site: Web, answer: Answer, changes: dict[str, object], detail: str
) -> None:
    site.answer = answer
    assert await call(desk, site, **changes) == (Outcome.FAILED, detail)
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (says(), "the answer is not HTTP: "),
        (says(b"SSH-2.0-OpenSSH\r\n\r\n"), "the answer is not HTTP: "),
        (says(bytes(range(256)) * 100), "the answer is not HTTP: "),
        (says(OK + b"Content-Length: 5\r\n\r\nab"), "the answer is not HTTP: "),
        (says(OK + b"Content-Length: -5\r\n\r\n"), "the answer is not HTTP: "),
        (says(CHUNKED + b"xyz\r\n"), "the answer is not HTTP: "),
        (answers(b"x" * 1001), "the answer is longer than 1000 bytes"),
        (repeats(OK + b"\r\n", b"x" * 4096), "the answer is longer than 1000 bytes"),
        (repeats(OK, b"X-More: and more\r\n" * 50), "the answer is "),
        (repeats(b"", CONTINUE * 50), "the answer is longer than 1000 bytes"),
        (
            repeats(CHUNKED, b"1\r\nx\r\n"),
            "the answer is longer than 1000 bytes",
        ),
    ],
)
async def test_what_is_no_answer_fails(desk: Desk, site: Web, answer: Answer, detail: str) -> None:
    """Garbage, too little, too much, too much for ever."""
    site.answer = answer
    outcome, words = await call(desk, site, answer_limit=1000)
    assert outcome is Outcome.FAILED
    assert words.startswith(detail)


async def test_the_largest_answer_is_taken(desk: Desk, site: Web) -> None:
    site.answer = answers(b"x" * 1000, headers=b"X-Head: " + b"y" * (MAX_HEAD // 2) + b"\r\n")
    assert await call(desk, site, answer_limit=1000) == (Outcome.DONE, "status 200")


async def test_nobody_there(desk: Desk, site: Web) -> None:
    async with web() as other:
        port = other.port
    outcome, words = await call(desk, site, url=f"http://127.0.0.1:{port}/")
    assert outcome is Outcome.FAILED
    assert "Connect call failed" in words


async def test_a_name_that_is_none(desk: Desk, site: Web) -> None:
    outcome, words = await call(desk, site, url=f"http://{'x' * 80}.invalid/")
    assert outcome is Outcome.FAILED
    assert words.startswith("UnicodeError: ")


# ------------------------------------------------------------------------------------------------ deadlines


async def test_an_answer_after_the_deadline_is_late(desk: Desk, site: Web) -> None:
    go = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        await exchange.send(OK + b"Content-Length: 2\r\n\r\n")
        await go.wait()
        await exchange.send(b"ok")

    site.answer = slowly
    voice = adapter(desk, site)
    step_id = desk.begin(voice, deadline_ms=500)
    await wait_until(lambda: site.requests)
    desk.pass_ms(600)
    desk.poll(voice)
    assert desk.heard == []
    go.set()
    result = await desk.result(voice, step_id)
    assert (result.outcome, result.detail) == (Outcome.LATE, "status 200")
    assert result.after_ms >= 600


async def test_a_server_that_never_answers_is_hung_up_on(desk: Desk, site: Web) -> None:
    site.answer = never
    voice = adapter(desk, site, grace_ms=200)
    step_id = desk.begin(voice, deadline_ms=500)
    await wait_until(lambda: site.requests)
    desk.pass_ms(699.9)
    assert desk.poll(voice) == []
    desk.pass_ms(0.1)
    (result,) = desk.poll(voice)
    assert (result.id, result.outcome, result.after_ms) == (step_id, Outcome.FAILED, 700)
    await wait_until(lambda: site.open == 0)


async def test_a_server_that_does_not_even_accept(desk: Desk, site: Web) -> None:
    """The kernel completes the connection, and nobody ever reads."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        voice = adapter(desk, site, url=f"http://127.0.0.1:{server.getsockname()[1]}/", grace_ms=0)
        desk.begin(voice, deadline_ms=100)
        await desk.turns()
        desk.pass_ms(100)
        assert [result.outcome for result in desk.poll(voice)] == [Outcome.FAILED]


async def test_closing_hangs_up(desk: Desk, site: Web) -> None:
    site.answer = never
    voice = adapter(desk, site)
    desk.begin(voice)
    desk.begin(voice)
    await wait_until(lambda: site.open == 2)
    voice.close()
    assert [result.detail for result in desk.heard] == ["the adapter was closed"] * 2
    await wait_until(lambda: site.open == 0)


# -------------------------------------------------------------------------------------------------- secrets


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return write(tmp_path / "token", "s3cr3t-t0ken\n")


def write(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("Authorization", b"Authorization: Bearer s3cr3t-t0ken\r\n"),
        ("X-Api-Key", b"X-Api-Key: s3cr3t-t0ken\r\n"),
    ],
)
async def test_the_secret_goes_into_its_header(
    desk: Desk, site: Web, secret: Path, header: str, line: bytes
) -> None:
    await call(desk, site, secret_file=str(secret), secret_header=header)
    assert line in site.requests[0]


async def test_the_secret_is_read_for_each_call(desk: Desk, site: Web, secret: Path) -> None:
    voice = adapter(desk, site, secret_file=str(secret))
    await desk.outcome(voice, desk.begin(voice))
    write(secret, "renewed")
    await desk.outcome(voice, desk.begin(voice))
    assert [b"Bearer renewed" in request for request in site.requests] == [False, True]


async def test_a_secret_that_others_may_read_is_not_sent(desk: Desk, site: Web, secret: Path) -> None:
    write(secret, "s3cr3t-t0ken", 0o644)
    outcome, detail = await call(desk, site, secret_file=str(secret))
    assert outcome is Outcome.FAILED
    assert detail.endswith("may be opened by others: chmod 600 it")
    assert site.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        answers(b'{"a": "s3cr3t-t0ken"}'),
        answers(b"s3cr3t-t0ken"),
        answers(b"", b"200 s3cr3t-t0ken", b"s3cr3t-t0ken: s3cr3t-t0ken\r\n"),
        says(b"s3cr3t-t0ken s3cr3t-t0ken s3cr3t-t0ken\r\n\r\n"),
        says(OK + b"Content-Length: s3cr3t-t0ken\r\n\r\n"),
    ],
)
async def test_a_server_that_repeats_the_secret_gets_it_nowhere(
    desk: Desk, site: Web, secret: Path, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site.answer = answer
    _, detail = await call(desk, site, secret_file=str(secret), field="a", value="off")
    assert "s3cr3t" not in detail
    assert "s3cr3t" not in caplog.text


# ------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[Web, Path]]:
    """A server with a certificate of its own making for localhost."""
    cert, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    async with web(context) as served:
        yield served, cert
        await wait_until(lambda: served.open == 0)


async def secure_call(desk: Desk, site: Web, **changes: object) -> tuple[Outcome, str]:
    return await call(desk, site, url=f"https://127.0.0.1:{site.port}/", **changes)


async def test_a_certificate_of_a_known_authority_and_the_right_name(
    desk: Desk, secure: tuple[Web, Path]
) -> None:
    site, cert = secure
    found = await secure_call(desk, site, ca_file=str(cert), server_name="localhost")
    assert found == (Outcome.DONE, "status 200")
    assert f"Host: localhost:{site.port}".encode() in site.requests[0]


@pytest.mark.parametrize("changes", [{}, {"server_name": "localhost"}])
async def test_a_certificate_of_nobody_we_know(
    desk: Desk, secure: tuple[Web, Path], changes: dict[str, object]
) -> None:
    site, _ = secure
    outcome, detail = await secure_call(desk, site, **changes)
    assert (outcome, "certificate verify failed" in detail) == (Outcome.FAILED, True)
    assert site.requests == []


@pytest.mark.parametrize("changes", [{}, {"server_name": "robot.example"}])
async def test_a_certificate_for_someone_else(
    desk: Desk, secure: tuple[Web, Path], changes: dict[str, object]
) -> None:
    site, cert = secure
    outcome, detail = await secure_call(desk, site, ca_file=str(cert), **changes)
    assert (outcome, "certificate verify failed" in detail) == (Outcome.FAILED, True)
    assert site.requests == []


async def test_not_verifying_must_be_asked_for(desk: Desk, secure: tuple[Web, Path]) -> None:
    site, _ = secure
    assert await secure_call(desk, site, tls_verify=False) == (Outcome.DONE, "status 200")


async def test_a_server_that_does_not_speak_tls(desk: Desk, site: Web) -> None:
    """It waits for the end of a request, and we for a handshake; or it says something that is none."""
    voice = adapter(desk, site, url=f"https://127.0.0.1:{site.port}/", grace_ms=0)
    step_id = desk.begin(voice, deadline_ms=100)
    assert (await desk.outcome(voice, step_id))[0] is Outcome.FAILED


async def test_a_file_of_authorities_that_is_none_stops_the_build(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, words in (("none", "No such file"), ("empty", "NO_CERTIFICATE")):
        settings = {"url": "https://127.0.0.1/", "ca_file": str(tmp_path / name)}
        with pytest.raises(DriverError, match=words) as caught:
            HttpAdapter("http voice", check_adapter("http", settings), desk.around)
        assert caught.value.port == str(tmp_path / name)


async def test_json_that_is_shown_is_short(desk: Desk, site: Web) -> None:
    site.answer = answers(json.dumps({"a": "x" * 5000}).encode())
    _, detail = await call(desk, site, field="a", value="off")
    assert detail == f'status 200, a is "{"x" * 38}…, not "off"'


@pytest.fixture(autouse=True)
async def nothing_goes_on() -> AsyncIterator[None]:
    """Every call's task ends."""
    yield
    await wait_until(
        lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("http ")]
    )
