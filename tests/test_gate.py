"""The gate: whose command is one, by the signed trust file; and which trust file is none any more."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.channel import Channel
from agent.core.commands import Code
from agent.core.plan import Plan, Remote
from agent.errors import WardenError
from agent.gate import DAY_S, Gate, TrustRollbackError, load_gate
from agent.tokens import MAX_TOKEN_BYTES, KeyFileError, TokenError, TrustFileError
from hil.pki import Person, Pki, load_signing_key
from tests.channels import Life, disks
from tests.core.factories import but, small_plan
from tests.people import Giver

ROBOT = "FT-1"
YESTERDAY = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
PEOPLE = (
    Person("guardian-li", "李静"),
    Person("guardian-left", "已离任", revoked=True),
    Person("guardian-stale", "培训过期", trained_until=YESTERDAY),
    Person("department-chen", "陈敏", role="department"),
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    groups = {"all": [ROBOT], "hall": [ROBOT]}
    return Pki.create(tmp_path_factory.mktemp("pki"), robot_id=ROBOT, people=PEOPLE, groups=groups)


def remote_of(pki: Pki) -> Remote:
    return Remote(
        host="127.0.0.1",
        port=1,
        tls=False,
        protocol="5",
        ca="",
        cert="",
        key="",
        signing_key=str(pki.robot.signing_key),
        root_keys=(str(pki.root_jwk),),
        trust=str(pki.trust),
        groups=("lobby",),
        link_lost_ns=5_000_000_000,
    )


def remote_but(pki: Pki, **changes: object) -> Remote:
    return but(remote_of(pki), changes)


def plan_of(pki: Pki) -> Plan:
    return small_plan(remote=remote_of(pki))


@pytest.fixture
def gate(pki: Pki) -> Gate:
    pki.sign_trust(version=5)
    return load_gate(plan_of(pki), 0, 0)


@pytest.fixture
def li(pki: Pki) -> Giver:
    return Giver(pki, "guardian-li")


def refusal(gate: Gate, token: bytes) -> Code:
    opened = gate.open(token)
    assert opened.command is None
    assert opened.refusal is not None
    return opened.refusal.code


def code(gate: Gate, token: bytes) -> str:
    """Of what fails before its claims may be looked at."""
    with pytest.raises(TokenError) as caught:
        gate.open(token)
    return caught.value.code


# ---- whose command


def test_a_trusted_persons_command_is_one(gate: Gate, li: Giver) -> None:
    opened = gate.open(li.give("stop", {"response": "hold", "reason": "看"}, jti="j-1"))
    assert (opened.kid, opened.jti, opened.cmd, opened.refusal) == ("guardian-li", "j-1", "stop", None)
    assert opened.command is not None
    assert (opened.command.cmd, opened.command.args.reason) == ("stop", "看")


@pytest.mark.parametrize("group", ["lobby", "hall", "all"])
def test_the_plans_groups_the_trust_files_and_all_are_the_robots(gate: Gate, li: Giver, group: str) -> None:
    assert gate.open(li.give("stop", aud=f"group:{group}")).command is not None


def test_another_robots_and_another_groups_are_not(gate: Gate, li: Giver) -> None:
    for audience in ("FT-2", "group:kitchen", "all", "*"):
        assert refusal(gate, li.give("stop", aud=audience)) is Code.WRONG_AUDIENCE


@pytest.mark.parametrize("cmd", ["stop", "ping", "resume", "power_off"])
def test_a_revoked_key_does_not_even_stop(gate: Gate, pki: Pki, cmd: str) -> None:
    args = {"epoch": 1, "challenge": "A" * 22} if cmd == "resume" else {}
    assert refusal(gate, Giver(pki, "guardian-left").give(cmd, args)) is Code.REVOKED


def test_whose_training_has_run_out_may_stop_and_no_more(gate: Gate, pki: Pki) -> None:
    stale = Giver(pki, "guardian-stale")
    opened = gate.open(stale.give("stop"))
    assert opened.command is not None
    assert opened.command.notes == ("training_expired",)
    resume = stale.give("resume", {"epoch": 1, "challenge": "A" * 22})
    assert refusal(gate, resume) is Code.TRAINING_EXPIRED


def test_a_robots_key_never_commands(gate: Gate, pki: Pki, li: Giver) -> None:
    """Not in its own name, not in a person's; not even a stop (clause 7.7)."""
    robots = load_signing_key(pki.robot.signing_key)
    for cmd in ("stop", "ping", "resume"):
        own = li.sign(li.claims(cmd, iss=ROBOT), robots, {"kid": ROBOT})
        assert code(gate, own) == "unknown_key"
        assert code(gate, li.sign(li.claims(cmd), robots)) == "bad_signature"


def test_the_department_roots_key_never_commands(gate: Gate, pki: Pki, li: Giver) -> None:
    root = load_signing_key(pki.root_key)
    assert code(gate, li.sign(li.claims("stop"), root, {"kid": "department-root"})) == "unknown_key"


def test_the_order_of_the_checks_before_the_claims(gate: Gate, li: Giver) -> None:
    """Size, header, key known, signature (PROTOCOL 3): each broken with all that come after it broken too."""
    stranger = Ed25519PrivateKey.generate()
    assert code(gate, b"x" * (MAX_TOKEN_BYTES + 1)) == "too_large"
    assert code(gate, li.sign({}, stranger, {"kid": "nobody", "typ": "JWT"})) == "malformed"
    assert code(gate, li.sign({}, stranger, {"kid": "nobody"})) == "unknown_key"
    assert code(gate, li.sign({}, stranger)) == "bad_signature"


def test_a_token_of_the_largest_size_is_still_looked_at(gate: Gate, li: Giver) -> None:
    def token(length: int) -> bytes:
        return li.give("stop", {"reason": "x" * length})

    length = MAX_TOKEN_BYTES * 3 // 4 - 600
    while len(token(length)) < MAX_TOKEN_BYTES - 1:
        length += 1
    assert len(token(length)) <= MAX_TOKEN_BYTES
    opened = gate.open(token(length))
    assert opened.command is not None
    assert opened.command.notes == ("args_unread",)


def test_claims_that_are_no_object_are_malformed_though_well_signed(gate: Gate, li: Giver) -> None:
    assert code(gate, li.sign(["stop"])) == "malformed"
    assert code(gate, li.sign("stop")) == "malformed"


def test_what_an_unknown_command_calls_itself_is_kept_short(gate: Gate, li: Giver) -> None:
    opened = gate.open(li.give("dance" * 100))
    assert opened.cmd == ("dance" * 100)[:40]
    assert opened.refusal is not None
    assert gate.open(li.give("stop", jti="x" * 65)).jti is None


# ---- a clock that cannot be right


@pytest.fixture
def unsure(gate: Gate) -> Gate:
    """The wall clock reads earlier than a moment that is past: the command's times mean nothing here."""
    gate.last_wall_s = time.time() + 10_000
    return gate


def test_with_an_unsure_clock_only_stops_are_taken_out_of_their_time(unsure: Gate, li: Giver) -> None:
    now = int(time.time())
    for ahead_s in (-5000, 5000):
        times = {"iat": now + ahead_s, "exp": now + ahead_s + 60}
        stop = unsure.open(li.give("stop", **times))
        assert stop.command is not None
        assert stop.command.notes == ("clock_unsure",)
        late = Code.EXPIRED if ahead_s < 0 else Code.NOT_YET_VALID
        assert refusal(unsure, li.give("resume", {"epoch": 1, "challenge": "A" * 22}, **times)) is late
        assert refusal(unsure, li.give("ping", **times)) is late


def test_with_a_sure_clock_a_stop_is_not_taken_out_of_its_time(gate: Gate, li: Giver) -> None:
    now = int(time.time())
    assert refusal(gate, li.give("stop", iat=now - 600, exp=now - 500)) is Code.EXPIRED


def test_a_moment_that_is_past_is_the_latchs_or_the_trust_files(pki: Pki, gate: Gate) -> None:
    now_s = time.time()
    assert gate.clock_sure(now_s)
    gate.last_wall_s = now_s + 1
    assert not gate.clock_sure(now_s)
    assert gate.clock_sure(now_s + 1)
    gate.last_wall_s = 0.0
    issued_s = gate.trust.issued_s
    # A day: the department's clock is not the robot's.
    assert gate.clock_sure(issued_s - DAY_S)
    assert not gate.clock_sure(issued_s - DAY_S - 1)


def test_the_latch_files_time_is_in_nanoseconds(pki: Pki, gate: Gate) -> None:
    assert load_gate(plan_of(pki), 0, 1_500_000_000).last_wall_s == 1.5


# ---- the trust file


def test_an_older_trust_file_is_refused_and_the_same_again_is_not(pki: Pki) -> None:
    pki.sign_trust(version=5)
    assert load_gate(plan_of(pki), 5, 0).trust.version == 5
    with pytest.raises(TrustRollbackError) as caught:
        load_gate(plan_of(pki), 6, 0)
    assert (caught.value.path, caught.value.version, caught.value.known) == (str(pki.trust), 5, 6)
    assert "\n" not in str(caught.value)
    assert str(pki.trust) in str(caught.value)


def test_a_person_revoked_in_a_newer_file_cannot_be_brought_back_by_the_older(pki: Pki, li: Giver) -> None:
    """The whole way: accepted, kept in the latch file, and known to the next start."""
    pki.sign_trust(version=6, people=[PEOPLE[3], Person("guardian-li", "李静", revoked=True)])
    folder = pki.folder / "state"
    folder.mkdir()
    with disks():
        assert refusal(start(pki, folder), li.give("stop")) is Code.REVOKED
        pki.sign_trust(version=5)
        with pytest.raises(TrustRollbackError):
            start(pki, folder)


def start(pki: Pki, folder: Path) -> Gate:
    """As `reflex` and `remote` start."""
    life = Life("reflex", plan_of(pki), folder)
    channel: Channel = life.channel
    try:
        gate = load_gate(plan_of(pki), channel.trust_version, channel.last_wall_ns)
        channel.trust_version = gate.trust.version
        life.turn()
    finally:
        channel.close()
    return gate


@pytest.fixture
def other(tmp_path: Path) -> Pki:
    return Pki.create(tmp_path / "other", robot_id=ROBOT, people=PEOPLE)


def test_a_trust_file_of_another_root_is_refused(pki: Pki, other: Pki) -> None:
    plan = small_plan(remote=remote_but(pki, trust=str(other.trust)))
    with pytest.raises(TrustFileError):
        load_gate(plan, 0, 0)


def test_files_that_are_missing_are_named(pki: Pki, tmp_path: Path) -> None:
    away = str(tmp_path / "away")
    with pytest.raises(TrustFileError) as trust:
        load_gate(small_plan(remote=remote_but(pki, trust=away)), 0, 0)
    with pytest.raises(KeyFileError) as root:
        load_gate(small_plan(remote=remote_but(pki, root_keys=(away,))), 0, 0)
    assert away in str(trust.value)
    assert away in str(root.value)


def test_without_a_link_to_guardians_there_is_no_gate() -> None:
    with pytest.raises(WardenError, match=r"no \[remote\]"):
        load_gate(small_plan(), 0, 0)


@pytest.fixture(autouse=True)
def trust_as_it_was(pki: Pki) -> Iterator[None]:
    yield
    pki.sign_trust(version=5)
