"""The table of rights at the broker, and the reader of acl files that enforces it in the embedded one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.broker_acl import ROLE_RULES, WITNESS, Acl, acl_text, covers, rules_of

SHIPPED = Path(__file__).parents[2] / "config" / "broker" / "acl"
PEOPLE = [(f"{role}-x", role) for role in (*ROLE_RULES, WITNESS)]
ACL = Acl.parse(acl_text(PEOPLE))

WRITERS = {
    "R-1/cmd": {"guardian", "maintainer", "department", "authority"},
    "group/hall/cmd": {"guardian", "maintainer", "department", "authority"},
    "R-1/presence": {"guardian", "maintainer", "department", "authority"},
    "R-1/ledger/ack": {"guardian", "maintainer", "department", "authority", "witness"},
    "R-1/trust": {"department"},
    "R-1/report/receipt": {"authority"},
    "R-1/reply/guardian-x": {"R-1"},
    "R-1/state": {"R-1"},
    "R-1/event": {"R-1"},
    "R-1/telemetry": {"R-1"},
    "R-1/link": {"R-1"},
    "R-1/ledger": {"R-1"},
    "R-1/report": {"R-1"},
    "R-1/anything/else": set(),
}
"""Every topic of PROTOCOL 3 -> who alone may publish there."""


def party(who: str) -> str:
    return who if who.startswith("R-") else f"{who}-x"


@pytest.mark.parametrize("who", ["R-1", "R-2", *ROLE_RULES, WITNESS, "unknown"])
@pytest.mark.parametrize("topic", WRITERS)
def test_who_may_publish_where(topic: str, who: str) -> None:
    assert ACL.may_write(party(who), f"warden/v1/{topic}") is (who in WRITERS[topic])


@pytest.mark.parametrize("topic", WRITERS)
def test_who_may_read_what(topic: str) -> None:
    full = f"warden/v1/{topic}"
    assert all(ACL.may_read(party(role), full) for role in ROLE_RULES), "people see everything"
    assert ACL.may_read("R-1", full), "a robot sees all that is under its own name, and the groups"
    # A pattern is for whoever holds a certificate: commands to groups are signed, but no secret.
    for stranger in ("R-2", "unknown-x"):
        assert ACL.may_read(stranger, full) is topic.startswith("group/")
    assert ACL.may_read("witness-x", full) is (topic == "R-1/ledger" or topic.startswith("group/"))


@pytest.mark.parametrize(
    "topic_filter", ["#", "warden/#", "warden/v1/#", "warden/v1/+/cmd", "warden/v1/R-2/+"]
)
def test_a_robot_may_not_subscribe_past_its_own_name(topic_filter: str) -> None:
    assert not ACL.may_read("R-1", topic_filter)


@pytest.mark.parametrize("topic_filter", ["#", "+/v1/#", "$SYS/#"])
def test_nobody_reads_outside_the_project(topic_filter: str) -> None:
    assert not ACL.may_read("guardian-x", topic_filter)


@pytest.mark.parametrize("user", ["", "+", "#", "R-1/cmd", "a+b"])
def test_a_name_that_is_a_pattern_has_no_rights(user: str) -> None:
    assert not ACL.may_write(user, "warden/v1/R-1/state")
    assert not ACL.may_read(user, "warden/v1/R-1/state")


@pytest.mark.parametrize(
    ("allowed", "asked", "does"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/b", "a", False),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/+", True),
        ("a/b", "a/+", False),
        ("a/+", "a/#", False),
        ("a/+", "a/b/c", False),
        ("a/+", "a/", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a/+/c", True),
        ("a/#", "a/#", True),
        ("a/#", "#", False),
        ("a/#", "b", False),
        ("#", "a/+/#", True),
        ("+/b", "#", False),
    ],
)
def test_covers(allowed: str, asked: str, does: bool) -> None:
    assert covers(allowed, asked) is does


levels = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=3)
filters = st.builds(lambda parts, tail: "/".join([*parts, *tail]), levels, st.sampled_from([[], ["#"]]))
names = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map("/".join)


@given(filters, filters, names)
def test_what_is_covered_matches_nothing_more(allowed: str, asked: str, topic: str) -> None:
    """If `asked` matches a topic and `allowed` covers `asked`, then `allowed` matches it too."""
    if covers(allowed, asked) and covers(asked, topic):
        assert covers(allowed, topic)


@pytest.mark.parametrize(
    "text",
    ["topic read a", "pattern deny a", "user li\ntopic a", "user two names", "rubbish", "pattern readwrite"],
)
def test_a_line_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        Acl.parse(f"# a comment\n\n{text}")


def test_the_shipped_file_is_this_table() -> None:
    shipped = Acl.parse(SHIPPED.read_text())
    assert shipped.patterns == ACL.patterns
    roles = {name: name.partition("-")[0] for name in shipped.users}
    assert sorted(roles.values()) == sorted([*ROLE_RULES, WITNESS])
    assert shipped.users == {name: rules_of(role) for name, role in roles.items()}
