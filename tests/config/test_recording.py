"""`[recorder]`: a log is sealed for somebody, in one suite, and witnessed by whom the plan says."""

import json
from pathlib import Path

import pytest

from agent.core.causes import MS
from agent.core.plan import Recorder, from_plain, to_plain
from agent.logformat.suites import suite_by_number
from agent.recipients import Recipient, recipient_jwk
from tests.config.plans import Folder, witness_jwk
from tests.config.plans import recipient_jwk as jwk_of

TABLE = '[recorder]\nrecipients = ["department.jwk"]'
LOW_ORDER = '{"kty": "OKP", "crv": "X25519", "x": "' + "A" * 43 + '", "kid": "nobody"}'


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    for kid in ("department", "authority"):
        made.holding(f"{kid}.jwk", jwk_of(kid))
    made.holding("witness.jwk", witness_jwk("witness-1"))
    return made


def sm2_jwk(kid: str) -> str:
    return json.dumps(recipient_jwk(Recipient(kid, 2, suite_by_number(2).new_signing_key()[1])))


def test_every_key_of_the_table(folder: Folder) -> None:
    folder.replaced(
        TABLE,
        """[recorder]
dir = "log"
recipients = ["department.jwk", "authority.jwk"]
retention_days = 365
suite = 1
opening = "all"
witnesses = ["witness.jwk"]
compress = ["tele"]
segment_bytes = 65_536
segment_hours = 168
checkpoint_s = 10
incident_before_s = 0
incident_after_s = 300
state_credential = "ledger.FT-1"
""",
    )
    plan = folder.load()
    assert plan.recorder == Recorder(
        dir=str(folder.folder / "log"),
        recipients=tuple(str(folder.folder / name) for name in ("department.jwk", "authority.jwk")),
        retention_days=365,
        suite=1,
        opening="all",
        witnesses=(str(folder.folder / "witness.jwk"),),
        compress=("tele",),
        segment_bytes=65_536,
        segment_hours=168,
        checkpoint_ns=10_000 * MS,
        incident_before_ns=0,
        incident_after_ns=300_000 * MS,
        state_credential="ledger.FT-1",
    )
    assert from_plain(type(plan), to_plain(plan)) == plan


def test_nothing_need_be_compressed(folder: Folder) -> None:
    assert folder.replaced(TABLE, f"{TABLE}\ncompress = []").load().recorder.compress == ()


def test_suite_2_takes_sm2_keys(folder: Folder) -> None:
    folder.holding("department.jwk", sm2_jwk("department"))
    assert folder.replaced(TABLE, f"{TABLE}\nsuite = 2").load().recorder.suite == 2


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("table", ["[recorder]", "[recorder]\nrecipients = []", ""])
def test_a_log_that_nobody_can_open_is_refused(folder: Folder, table: str, offline: bool) -> None:
    key, bound = folder.replaced(TABLE, table).problem(offline=offline)
    assert key == "recorder.recipients"
    assert bound.startswith("names nobody")
    assert "guardian keygen KID --recipient" in bound


CHANGES = [
    # (what is in the table, key, part of the bound)
    ('opening = "all"', "recorder.opening", "at least two recipients"),
    ('opening = "some"', "recorder.opening", "'any' or 'all'"),
    ("suite = 3", "recorder.suite", "equal to 2 (got 3)"),
    ("suite = 0", "recorder.suite", "equal to 1 (got 0)"),
    ("suite = true", "recorder.suite", "valid integer"),
    ("suite = 1.0", "recorder.suite", "valid integer"),
    ('suite = "1"', "recorder.suite", "valid integer"),
    ('compress = ["all"]', "recorder.compress.0", "'safety', 'net' or 'tele'"),
    ('compress = ["net", "net"]', "recorder.compress", "'net' stands twice"),
    ('witnesses = ["w.jwk", "w.jwk"]', "recorder.witnesses", "'w.jwk' stands twice"),
    ("witnesses = [" + '"w", ' * 9 + "]", "recorder.witnesses", "at most 8"),
    ("segment_bytes = 65_535", "recorder.segment_bytes", "equal to 65536 (got 65535)"),
    ("segment_bytes = 268_435_457", "recorder.segment_bytes", "equal to 268435456 (got"),
    ("segment_hours = 0", "recorder.segment_hours", "equal to 1 (got 0)"),
    ("segment_hours = 169", "recorder.segment_hours", "equal to 168 (got 169)"),
    ("checkpoint_s = 9", "recorder.checkpoint_s", "equal to 10 (got 9)"),
    ("checkpoint_s = 3601", "recorder.checkpoint_s", "equal to 3600 (got 3601)"),
    ("incident_before_s = -1", "recorder.incident_before_s", "equal to 0 (got -1)"),
    ("incident_before_s = 301", "recorder.incident_before_s", "equal to 300 (got 301)"),
    ("incident_after_s = -1", "recorder.incident_after_s", "equal to 0 (got -1)"),
    ("incident_after_s = 301", "recorder.incident_after_s", "equal to 300 (got 301)"),
    ('state_credential = ""', "recorder.state_credential", "pattern"),
    ('state_credential = "../key"', "recorder.state_credential", "pattern"),
    ('state_credential = ".."', "recorder.state_credential", "pattern"),
]


@pytest.mark.parametrize(("line", "key", "bound"), CHANGES, ids=[line for line, _, _ in CHANGES])
def test_what_the_table_may_not_say(folder: Folder, line: str, key: str, bound: str) -> None:
    found, said = folder.replaced(TABLE, f"{TABLE}\n{line}").problem()
    assert found == key
    assert bound in said


def test_recipients_are_named_once_and_are_at_most_sixteen(folder: Folder) -> None:
    folder.replaced('["department.jwk"]', '["department.jwk", "department.jwk"]')
    assert folder.problem() == ("recorder.recipients", "'department.jwk' stands twice")
    names = ", ".join(f'"{number}.jwk"' for number in range(17))
    folder.replaced('["department.jwk", "department.jwk"]', f"[{names}]")
    assert "at most 16" in folder.problem()[1]


@pytest.mark.parametrize(
    ("content", "bound"),
    [
        ("department", "must be a JWK"),
        (witness_jwk("department"), "X25519"),
        (LOW_ORDER, "cannot be sealed for"),
        (sm2_jwk("department"), "is for suite 2, and recorder.suite is 1"),
        (jwk_of("authority"), "has the kid 'authority' of"),
        (jwk_of("authority").replace('"authority"', '"other"'), "has the key of"),
        ("x" * 20_000, "is larger than"),
    ],
)
def test_recipients_must_load_fit_the_suite_and_differ(folder: Folder, content: str, bound: str) -> None:
    folder.replaced('["department.jwk"]', '["authority.jwk", "department.jwk"]')
    folder.holding("department.jwk", content)
    problems = folder.refused(offline=False).problems
    assert {problem.key for problem in problems} == {"recorder.recipients"}
    assert problems[0].bound.startswith(f"{folder.folder / 'department.jwk'} ")
    assert bound in problems[0].bound
    assert folder.load(offline=True).recorder.suite == 1


def test_a_recipient_of_suite_1_does_not_fit_suite_2(folder: Folder) -> None:
    key, bound = folder.replaced(TABLE, f"{TABLE}\nsuite = 2").problem(offline=False)
    assert key == "recorder.recipients"
    assert bound.endswith("is for suite 1, and recorder.suite is 2")


@pytest.mark.parametrize(
    ("content", "bound"),
    [
        ("witness", "must be a JWK"),
        (jwk_of("witness-1"), "Ed25519"),
        (witness_jwk("witness-2"), "has the kid 'witness-2' of"),
        (witness_jwk("witness-2").replace('"witness-2"', '"other"'), "has the key of"),
    ],
)
def test_witnesses_must_load_and_differ(folder: Folder, content: str, bound: str) -> None:
    folder.holding("other.jwk", witness_jwk("witness-2")).holding("witness.jwk", content)
    folder.replaced(TABLE, f'{TABLE}\nwitnesses = ["other.jwk", "witness.jwk"]')
    problems = folder.refused(offline=False).problems
    assert {problem.key for problem in problems} == {"recorder.witnesses"}
    assert problems[0].bound.startswith(f"{folder.folder / 'witness.jwk'} ")
    assert bound in problems[0].bound


def test_a_witness_that_is_not_there(folder: Folder) -> None:
    folder.replaced(TABLE, f'{TABLE}\nwitnesses = ["away.jwk"]')
    path = folder.folder / "away.jwk"
    wanted = ("recorder.witnesses", f"{path} cannot be read: No such file or directory")
    assert folder.problem(offline=False) == wanted
    assert folder.problem(offline=False, module="recorder") == wanted


@pytest.mark.parametrize("module", ["reflex", "remote", "monitor"])
def test_only_the_recorder_reads_them(folder: Folder, module: str) -> None:
    folder.holding("department.jwk", "not a key")
    assert folder.load(module=module).robot.id == "FT-1"
