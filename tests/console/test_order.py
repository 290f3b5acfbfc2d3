"""`guardian order`: what the department signs, and what it is kept from signing (agent/logformat)."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from agent.audit.orders import OrderKeys, check_deletion, check_release
from agent.core.trust import encode_base64url
from agent.logformat.draft import MAX_DRAFT_BYTES, MAX_ORDER_BYTES, MAX_ORDER_SEGMENTS
from agent.logformat.layout import MAX_LEDGER_LINE_BYTES
from agent.tokens import load_roots, load_trust
from console.cli import app
from console.errors import DONE, FAILED, REFUSED, WRONG_USAGE
from console.order import MAX_SEGNO, Order
from hil.pki import Person, Pki, load_signing_key, make_trust, public_jwk
from tests.console.running import Ran, run

ROBOT = "R-1"
DEPARTMENT = "department-chen"
ROWS = [
    {"stream": "net", "segno": 1, "seal": "ab" * 32},
    {"stream": "tele", "segno": 3, "seal": "cd" * 32},
    {"stream": "tele", "segno": 1, "seal": "ef" * 32},
    {"stream": "tele", "segno": 2, "seal": "01" * 32},
]
DRAFT: dict[str, Any] = {"robot": ROBOT, "order": "delete", "segments": ROWS, "reason": "到期"}


class Desk:
    """Somebody's profile, a draft, and the place for the order."""

    def __init__(self, folder: Path, pki: Pki) -> None:
        self.folder = folder
        self.pki = pki
        self.draft = folder / "draft.json"
        self.out = folder / "order.jwt"
        self.draft.write_text(json.dumps(DRAFT), "utf-8")

    def profile(self, kid: str = DEPARTMENT, **changes: object) -> str:
        files = self.pki.person(kid if kid != "department-root" else DEPARTMENT)
        settings: dict[str, object] = {
            "kid": kid,
            "signing_key": str(files.signing_key),
            "broker": "mqtts://127.0.0.1:1",
            "ca": str(self.pki.ca),
            "cert": str(files.cert),
            "key": str(files.key),
            "trust": str(self.pki.trust),
            "root_keys": [str(self.pki.root_jwk)],
            **changes,
        }
        path = self.folder / "guardian.toml"
        path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items()), "utf-8")
        return str(path)

    def sign(self, *words: str | Path, kid: str = DEPARTMENT, **changes: object) -> Ran:
        where = ("--out", str(self.out), "--profile", self.profile(kid, **changes))
        return run("order", *map(str, words), *where)

    def claims(self) -> dict[str, Any]:
        """Read with PyJWT, apart from our own code."""
        root = load_roots([self.pki.root_jwk])
        person = load_trust(self.pki.trust, root).people[DEPARTMENT]
        token = self.out.read_text().strip()
        key = jwt.PyJWK(public_row(person.kid, person.key)).key
        header = jwt.get_unverified_header(token)
        assert header == {"alg": "EdDSA", "typ": "warden-order+jwt", "kid": DEPARTMENT}
        found: dict[str, Any] = jwt.decode(token, key, algorithms=["EdDSA"], audience=ROBOT)
        return found

    def keys(self) -> OrderKeys:
        """As a robot and an auditor have them."""
        roots = load_roots([self.pki.root_jwk])
        return OrderKeys(roots, load_trust(self.pki.trust, roots))


def public_row(kid: str, raw: bytes) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(raw), "kid": kid}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki") / "pki", robot_id=ROBOT)


@pytest.fixture
def desk(tmp_path: Path, pki: Pki) -> Desk:
    return Desk(tmp_path, pki)


# ---- deletion


def test_a_draft_becomes_an_order_that_robot_and_auditor_accept(desk: Desk) -> None:
    ran = desk.sign(desk.draft, "--yes")

    assert ran.exit_code == DONE, ran.err
    claims = desk.claims()
    assert claims.keys() == {"iss", "aud", "iat", "jti", "order", "segments", "reason"}
    assert (claims["iss"], claims["aud"], claims["order"]) == (DEPARTMENT, ROBOT, "delete")
    assert (claims["segments"], claims["reason"], len(claims["jti"])) == (ROWS, "到期", 32)
    body = {"order": desk.out.read_text().strip(), "segments": ROWS}
    assert check_deletion(body, ROBOT, desk.keys()) is None
    assert check_deletion(body, "R-2", desk.keys()) is not None


def test_what_is_ordered_is_shown_first_with_counts_streams_and_ranges(desk: Desk) -> None:
    ran = desk.sign(desk.draft, "--yes")

    assert ran.err.splitlines() == [
        f"{ROBOT}: 删除 DELETE for good: 4 个日志段 segments of the log",
        "  net: 1 个 segments, 1",
        "  tele: 3 个 segments, 1 to 3",
        "  理由 reason: 到期",
    ]
    assert ran.out == (
        f"{desk.out}: 已签发 signed by {DEPARTMENT}; on the robot: "
        "warden log delete --order FILE --config PLAN\n"
    )


def test_gaps_between_segments_show() -> None:
    rows = tuple(("tele", number, "0" * 64) for number in (9, 1, 2, 5))
    assert list(Order(ROBOT, "", rows).lines())[1] == "  tele: 4 个 segments, 1 to 2, 5, 9"


def test_json_is_one_object(desk: Desk) -> None:
    ran = desk.sign(desk.draft, "--yes", "--json")

    (about,) = ran.lines
    assert about.pop("jti") == desk.claims()["jti"]
    assert about == {
        "type": "order",
        "robot": ROBOT,
        "order": "delete",
        "segments": 4,
        "reason": "到期",
        "kid": DEPARTMENT,
        "file": str(desk.out),
    }


@pytest.mark.parametrize(("answer", "code"), [("y\n", DONE), ("n\n", FAILED), ("", FAILED)])
def test_it_is_signed_only_when_the_person_says_so(desk: Desk, answer: str, code: int) -> None:
    words = ["order", str(desk.draft), "--out", str(desk.out), "--profile", desk.profile()]
    result = CliRunner().invoke(app, words, input=answer)

    assert result.exit_code == code
    assert desk.out.exists() == (code == DONE)
    assert "签发 sign?" in result.stderr
    assert "Traceback" not in result.stderr


def test_another_reason_goes_before_the_drafts(desk: Desk) -> None:
    assert desk.sign(desk.draft, "--yes", "--reason", " six months are over ").exit_code == DONE
    assert desk.claims()["reason"] == "six months are over"


@pytest.mark.parametrize("words", [(), ("--reason", " ")])
def test_nothing_is_ordered_without_a_reason(desk: Desk, words: tuple[str, ...]) -> None:
    desk.draft.write_text(json.dumps({**DRAFT, "reason": ""}), "utf-8")
    ran = desk.sign(desk.draft, "--yes", *words)
    assert (ran.exit_code, desk.out.exists()) == (REFUSED, False)
    assert ran.err.startswith("guardian: --reason: say why")


def test_the_largest_order_fits_into_a_line_of_the_ledger(desk: Desk) -> None:
    rows = [
        {"stream": "safety", "segno": MAX_SEGNO - i, "seal": "ab" * 32} for i in range(MAX_ORDER_SEGMENTS)
    ]
    desk.draft.write_text(json.dumps({**DRAFT, "segments": rows}, indent=1), "utf-8")
    assert desk.sign(desk.draft, "--yes", "--reason", "理" * 500).exit_code == DONE
    assert desk.out.stat().st_size <= MAX_ORDER_BYTES
    entry = {"order": desk.out.read_text().strip(), "segments": rows}
    assert len(json.dumps(entry, separators=(",", ":"))) < MAX_LEDGER_LINE_BYTES - 1024


def test_an_order_too_large_for_any_robot_is_not_written(desk: Desk) -> None:
    rows = [{**ROWS[0], "stream": "safety", "segno": MAX_SEGNO - i} for i in range(MAX_ORDER_SEGMENTS)]
    desk.draft.write_text(json.dumps({**DRAFT, "segments": rows}), "utf-8")
    ran = desk.sign(desk.draft, "--yes", "--reason", "🤖" * 500)
    assert (ran.exit_code, desk.out.exists()) == (REFUSED, False)
    assert "--reason: must be shorter" in ran.err


def test_an_order_replaces_nothing(desk: Desk) -> None:
    desk.out.write_text("an earlier one")
    ran = desk.sign(desk.draft, "--yes")
    assert (ran.exit_code, desk.out.read_text()) == (FAILED, "an earlier one")
    assert ran.err == f"guardian: {desk.out}: is there already: an order replaces none\n"


def test_a_folder_that_is_away(desk: Desk) -> None:
    desk.out = desk.folder / "away" / "order.jwt"
    ran = desk.sign(desk.draft, "--yes")
    assert ran.exit_code == FAILED
    assert ran.err.endswith(f"guardian: {desk.out}: cannot be written: No such file or directory\n")


def test_a_robot_that_the_trust_file_does_not_name_is_said(desk: Desk) -> None:
    desk.draft.write_text(json.dumps({**DRAFT, "robot": "R-9"}), "utf-8")
    ran = desk.sign(desk.draft, "--yes")
    assert ran.exit_code == DONE
    assert "the trust file names no robot R-9" in ran.err


# ---- release


def test_a_hold_is_released_by_an_order(desk: Desk) -> None:
    ran = desk.sign("--release", "h-7", "--robot", ROBOT, "--reason", "closed", "--yes")

    assert ran.exit_code == DONE, ran.err
    claims = desk.claims()
    assert claims.keys() == {"iss", "aud", "iat", "jti", "order", "hold", "reason"}
    assert (claims["order"], claims["hold"], claims["reason"]) == ("release", "h-7", "closed")
    assert check_release({"id": "h-7", "release": desk.out.read_text().strip()}, ROBOT, desk.keys()) is None
    assert "RELEASE the hold h-7" in ran.err
    assert "hold --release FILE" in ran.out


@pytest.mark.parametrize("hold", ["", "x" * 65, "h\x1b[2J", "h 7"])
def test_what_can_be_no_hold_is_refused(desk: Desk, hold: str) -> None:
    ran = desk.sign("--release", hold, "--robot", ROBOT, "--yes")
    assert ran.exit_code == REFUSED
    assert "--release: must be the id of a hold" in ran.err
    assert "\x1b" not in ran.err


# ---- usage


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["draft.json"],
        ["--out", "x"],
        ["draft.json", "--out", "x", "--release", "h", "--robot", "R-1"],
        ["draft.json", "--out", "x", "--robot", "R-1"],
        ["--out", "x", "--release", "h"],
        ["--out", "x", "--robot", "R-1"],
        ["--out", "x", "--release", "h", "--robot", "R 1"],
        ["a", "b", "--out", "x"],
    ],
    ids=" ".join,
)
def test_wrong_usage(words: list[str]) -> None:
    ran = run("order", *words)
    assert (ran.exit_code, ran.out) == (WRONG_USAGE, "")


@pytest.mark.parametrize("reason", ["x" * 501, "two\nlines", "\x1b[2J"])
def test_a_reason_that_no_record_should_have(desk: Desk, reason: str) -> None:
    ran = desk.sign(desk.draft, "--yes", "--reason", reason)
    assert ran.exit_code == REFUSED
    assert "--reason: must be at most 500 printable characters" in ran.err
    assert not desk.out.exists()


# ---- who signs


@pytest.mark.parametrize("kid", ["guardian-li", "authority-zhou", "maintainer-he"])
def test_only_the_department_signs(desk: Desk, kid: str) -> None:
    ran = desk.sign(desk.draft, "--yes", kid=kid)
    assert ran.exit_code == REFUSED
    assert ran.err.startswith(f"guardian: {kid}: 无权签发 only the department's people and root keys")
    assert not desk.out.exists()


def test_a_key_that_is_not_the_persons(desk: Desk) -> None:
    ran = desk.sign(desk.draft, "--yes", signing_key=str(desk.pki.person("guardian-li").signing_key))
    assert ran.exit_code == REFUSED
    assert ran.err.startswith(f"guardian: {DEPARTMENT}: 密钥不符")


def test_somebody_whom_the_trust_file_does_not_know(desk: Desk) -> None:
    key = str(desk.pki.person(DEPARTMENT).signing_key)
    ran = desk.sign(desk.draft, "--yes", "--kid", "stranger", signing_key=key)
    assert ran.exit_code == REFUSED
    assert ran.err.startswith("guardian: stranger: 密钥不符")


def test_a_root_key_signs_too(desk: Desk) -> None:
    root = str(desk.pki.root_key)
    assert desk.sign(desk.draft, "--yes", kid="department-root", signing_key=root).exit_code == DONE
    body = {"order": desk.out.read_text().strip(), "segments": ROWS}
    assert check_deletion(body, ROBOT, desk.keys()) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"revoked": True}, "密钥已吊销"), ({"robots": ("R-2",)}, "does not serve the robot R-1")],
)
def test_a_person_whose_right_ended_or_is_for_other_robots(
    desk: Desk, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    key, root = load_signing_key(desk.pki.person(DEPARTMENT).signing_key), load_signing_key(desk.pki.root_key)
    person = Person(DEPARTMENT, "陈敏", role="department", **changes).row(public_jwk(key, DEPARTMENT))
    robot = {"id": "R-2", "name": "福小安", "key": public_jwk(Ed25519PrivateKey.generate(), "R-2")}
    trust = tmp_path / "trust.jwt"
    trust.write_text(make_trust(root, "department-root", [person], [robot], {}, 2), "utf-8")
    ran = desk.sign(desk.draft, "--yes", trust=str(trust))
    assert ran.exit_code == REFUSED
    assert said in ran.err


def test_a_private_key_that_others_can_read(desk: Desk) -> None:
    loose = desk.folder / "loose.pem"
    shutil.copy(desk.pki.person(DEPARTMENT).signing_key, loose)
    loose.chmod(0o644)
    ran = desk.sign(desk.draft, "--yes", signing_key=str(loose))
    assert ran.exit_code == FAILED
    assert "chmod 600" in ran.err


# ---- drafts


def changed(**fields: object) -> bytes:
    return json.dumps({**DRAFT, **fields}).encode()


def row(**fields: object) -> bytes:
    return changed(segments=[{**ROWS[0], **fields}])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must be the draft that `warden log due` wrote"),
        (b"\xff", "must be the draft"),
        (b"[]", "must be the draft"),
        (b'{"robot": NaN}', "must be the draft"),
        (b"[" * 20_000, "must be the draft"),
        (b'{"robot": "a", "robot": "b"}', "a field stands twice"),
        (b" " * (MAX_DRAFT_BYTES + 1), f"is larger than {MAX_DRAFT_BYTES} bytes"),
        (b'{"robot": "R-1"}', "draft: order is missing"),
        (changed(jti="mine"), "draft: 'jti' is not known here"),
        (changed(robot="R 1"), "robot: must be"),
        (changed(order="release"), 'order: must be "delete"'),
        (changed(reason=3), "reason: must be at most"),
        (changed(reason="\x07"), "reason: must be at most"),
        (changed(segments=[]), f"segments: must be a list of 1 to {MAX_ORDER_SEGMENTS}"),
        (changed(segments={}), "segments: must be a list"),
        (changed(segments=[ROWS[0]] * 2), "segments[1]: net 1 comes twice"),
        (changed(segments=["net"]), "segments[0]: must be an object"),
        (row(stream="ledger"), "segments[0].stream: must be one of safety, net, tele"),
        (row(stream=[]), "segments[0].stream"),
        (row(segno=0), "segments[0].segno"),
        (row(segno=True), "segments[0].segno"),
        (row(segno=1.0), "segments[0].segno"),
        (row(segno=10**10), "segments[0].segno"),
        (row(seal="AB" * 32), "segments[0].seal"),
        (row(seal="ab"), "segments[0].seal"),
        (row(bytes=3), "segments[0]: 'bytes' is not known here"),
    ],
)
def test_a_draft_is_taken_strictly(desk: Desk, content: bytes, said: str) -> None:
    desk.draft.write_bytes(content)
    ran = desk.sign(desk.draft, "--yes", "--json")
    (line,) = ran.lines
    assert (ran.exit_code, line["type"], line["exit"]) == (REFUSED, "error", REFUSED)
    assert line["error"].startswith(f"{desk.draft}: ")
    assert said in line["error"]
    assert not desk.out.exists()


def test_more_segments_than_one_order_may_name(desk: Desk) -> None:
    rows = [{**ROWS[0], "segno": number} for number in range(1, MAX_ORDER_SEGMENTS + 2)]
    desk.draft.write_bytes(changed(segments=rows))
    assert desk.sign(desk.draft, "--yes").exit_code == REFUSED


def test_a_draft_that_is_no_file(desk: Desk) -> None:
    fifo = desk.folder / "fifo"
    os.mkfifo(fifo)
    for path, said in (
        (desk.folder / "away", "cannot be read: No such file or directory"),
        (desk.folder, "cannot be read: Is a directory"),
        (fifo, "must be a regular file"),
    ):
        ran = desk.sign(path, "--yes")
        assert (ran.exit_code, ran.err) == (FAILED, f"guardian: {path}: {said}\n")
