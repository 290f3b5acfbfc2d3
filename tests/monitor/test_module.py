"""`monitor` as the program runs it: the plan's address, certificates and names, in a process of its own."""

import asyncio
import base64
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.monitor.access import hash_password
from hil.child import Child
from tests.bare import Bare, pid_of
from tests.monitor.certificates import make_certificate
from tests.monitor.http import Answer, get
from tests.waiting import block_until


@pytest.fixture
def bare(run_dir: Path) -> Iterator[Bare]:
    with Bare(run_dir) as one:
        yield one


@pytest.fixture
def running(bare: Bare) -> Iterator[Child]:
    child = bare.start("monitor")
    yield child
    assert child.stop() == 0


def port(bare: Bare) -> int:
    """Where it says it listens."""
    host, _, number = (
        (bare.run_folder / "monitor.address").read_text(encoding="ascii").strip().rpartition(":")
    )
    assert host == "127.0.0.1"
    return int(number)


def page(bare: Bare, path: str = "/metrics", tls: ssl.SSLContext | None = None, **headers: str) -> Answer:
    return asyncio.run(get(port(bare), path, tls, **headers))


def value(answer: Answer, series: str) -> float:
    (line,) = [line for line in answer.body.splitlines() if line.startswith(f"{series} ")]
    return float(line.split()[-1])


def test_it_serves_the_robots_figures_where_it_says(bare: Bare, running: Child) -> None:
    answer = page(bare)
    (info,) = [line for line in answer.body.splitlines() if line.startswith("warden_build_info{")]
    assert 'robot_id="R-1"' in info
    assert value(answer, 'warden_module_up{module="monitor"}') == 1
    for module in ("reflex", "remote", "recorder"):
        assert value(answer, f'warden_module_up{{module="{module}"}}') == 0
    for name in ("remote_ca", "remote"):
        expiry_s = value(answer, f'warden_certificate_expiry_timestamp_seconds{{name="{name}"}}')
        assert expiry_s == pytest.approx(time.time() + 365 * 86400, abs=86400)
    for cause in ("starting", "guardian_stop"):
        assert f'cause="{cause}"' in answer.body
    assert "\nwarden_host_" in answer.body


def test_people_have_no_names_in_its_figures(bare: Bare, running: Child) -> None:
    body = page(bare).body
    assert [person.name for person in bare.pki.people if person.name in body] == []


def test_it_answers_for_itself_to_the_program(bare: Bare, running: Child) -> None:
    assert pid_of(bare.run_folder, "monitor") == running.pid
    assert page(bare, "/healthz").status == 200


def test_a_module_that_comes_up_is_seen(bare: Bare, running: Child) -> None:
    bare.start("recorder")
    block_until(lambda: value(page(bare), 'warden_module_up{module="recorder"}') == 1)


def test_with_tls_and_a_password_it_answers_only_who_has_both(bare: Bare) -> None:
    cert, key = make_certificate(bare.folder)
    password = bare.folder / "password"
    password.write_text(hash_password("prometheus", "of many words"))
    password.chmod(0o600)
    names = f'tls_cert = "{cert.name}"\ntls_key = "{key.name}"\npassword_file = "{password.name}"\n'
    bare.write(lambda text: text + names)
    child = bare.start("monitor")
    tls = ssl.create_default_context(cafile=str(cert))
    basic = base64.b64encode(b"prometheus:of many words").decode()
    assert page(bare, tls=tls).status == 401
    answer = page(bare, tls=tls, Authorization=f"Basic {basic}")
    assert answer.status == 200
    assert value(answer, 'warden_certificate_expiry_timestamp_seconds{name="monitor"}') > time.time()
    with pytest.raises(ssl.SSLCertVerificationError):
        page(bare, tls=ssl.create_default_context())
    assert child.stop() == 0


def test_a_certificate_that_cannot_be_read_has_its_end_in_the_past(bare: Bare) -> None:
    """So that an alert on the end of certificates rings."""
    bare.pki.ca.write_text("no certificate")
    child = bare.start("monitor")
    answer = page(bare)
    assert child.stop() == 0
    assert value(answer, 'warden_certificate_expiry_timestamp_seconds{name="remote_ca"}') == 0
