"""A ledger that changes its suite: the witness goes along (README of agent/logformat, "config")."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from agent.logformat.layout import LEDGER_LABEL
from agent.logformat.suites import Suite, suite_by_number
from console.witness.notices import Kind
from console.witness.record import Receipt
from tests.console.witness.ledgers import Chain, b64
from tests.console.witness.test_record import Scene

SM = suite_by_number(2)


class Mixed(Chain):
    """A chain whose later entries are of suite 2: SM2, SM3."""

    def __init__(self) -> None:
        super().__init__()
        self.private: bytes = b""

    def change(self, suite: int = 2) -> bytes:
        """The entry that says so: signed and hashed the old way, the key after it is of the new suite."""
        self.private, public = SM.new_signing_key()
        line = self.make("config", {"suite": suite}, next_pk=b64(public))
        self.lines.append(line)
        return line

    def go_on(self, before: Suite = SM) -> bytes:
        """An entry of suite 2."""
        private, (self.private, public) = self.private, SM.new_signing_key()
        changes = {"prev_hash": before.hash(self.lines[-1]).hex(), "next_pk": b64(public)}
        line = sm_signed(private, self.fields("checkpoint", {"streams": {}}, **changes))
        self.lines.append(line)
        return line


def sm_signed(private: bytes, fields: Mapping[str, object]) -> bytes:
    text = json_text(fields)
    return text + b',"sig":"' + b64(SM.sign(private, LEDGER_LABEL + text)).encode() + b'"}'


def json_text(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()[:-1]


def sm3(line: bytes) -> str:
    return SM.hash(line).hex()


def test_a_change_of_suite_is_followed(tmp_path: Path) -> None:
    scene, chain = Scene(tmp_path / "w"), Mixed()
    scene.take(chain.lines[0])
    for n, line in enumerate((chain.change(), chain.go_on(), chain.go_on()), 1):
        assert scene.take(line).receipt == Receipt("R1", n, sm3(line)), "the hash that the next entry names"
    assert sm3(chain.lines[3]) != hashlib.sha256(chain.lines[3]).hexdigest()
    scene.restart()
    assert list(scene.witness.announce()) == [Receipt("R1", 3, sm3(chain.lines[3]))]
    assert scene.take(chain.lines[2]).receipt == Receipt("R1", 2, sm3(chain.lines[2]))
    assert scene.take(chain.go_on()).receipt is not None
    assert scene.kept() == chain.lines
    assert scene.alarms() == []


def test_after_a_change_the_old_suite_is_good_for_nothing(tmp_path: Path) -> None:
    scene, chain = Scene(tmp_path / "w"), Mixed()
    scene.take(chain.lines[0])
    scene.take(chain.change())
    old_hash = chain.go_on(before=suite_by_number(1))
    outcome = scene.take(old_hash)
    assert (outcome.notices[0].kind, outcome.notices[0].reason) == (Kind.FORK, "prev_hash")
    chain.lines.pop()
    old_key = chain.make(prev_hash=sm3(chain.lines[-1]), next_pk=b64(b"\x04" + bytes(64)))
    outcome = scene.take(old_key)
    assert (outcome.notices[0].kind, outcome.notices[0].reason) == (Kind.FORK, "signature")


def test_a_suite_that_nobody_announced_is_a_fork(tmp_path: Path) -> None:
    scene, chain = Scene(tmp_path / "w"), Mixed()
    scene.take(chain.lines[0])
    _, public = SM.new_signing_key()
    outcome = scene.take(chain.make(next_pk=b64(public)))
    notice = outcome.notices[0]
    assert (notice.kind, notice.reason, notice.proven) == (Kind.FORK, "suite", True)
    assert [notice.kind for notice in scene.take(chain.change(suite=1)).notices] == [Kind.MALFORMED]
