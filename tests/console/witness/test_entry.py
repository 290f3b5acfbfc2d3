"""One line of a ledger: what is read, what is refused, and whether it follows."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.logformat.layout import MAX_LEDGER_LINE_BYTES
from console.witness.entry import Head, Misfit, head_of, misfit, read_entry
from console.witness.errors import EntryError
from tests.console.witness.ledgers import Chain, b64, key_from, public, sha, signed

CHAIN = Chain().grow(3)


def head(chain: Chain, n: int = -1) -> Head:
    line = chain.lines[n]
    return head_of(line, read_entry(line))


def test_each_entry_follows_from_the_one_before() -> None:
    before = None
    for line in CHAIN.lines:
        entry = read_entry(line)
        assert misfit(before, entry) is None
        before = head_of(line, entry)
        assert before.hash == sha(line)
    assert before is not None
    assert before.n == 3


def test_what_stands_in_a_line_is_read() -> None:
    entry = read_entry(CHAIN.lines[1])
    assert (entry.robot, entry.n, entry.kind, entry.pk) == ("R1", 1, "checkpoint", None)
    assert entry.prev_hash == sha(CHAIN.lines[0])
    genesis = read_entry(CHAIN.lines[0])
    assert (genesis.kind, b64(genesis.pk or b"")) == ("genesis", public(CHAIN.keys[0]))


def test_chinese_and_a_signature_inside_the_body_are_text_like_any_other() -> None:
    chain = Chain()
    line = chain.add("incident", {"channel": "急停", "sig": "x", "nested": {"a": 1, "sig": ',"sig":"'}})
    assert misfit(head(chain, 0), read_entry(line)) is None


def changed(**changes: object) -> bytes:
    return CHAIN.fork().make(**changes)  # type: ignore[arg-type]


LINE = CHAIN.make()
FIELDS = json.loads(LINE)
ILL_FORMED = {
    "nothing": b"",
    "no object": b"[1]",
    "not utf-8": LINE.replace(b"checkpoint", b"check\xffpoint"),
    "cut": LINE[:-1],
    "two lines": LINE.replace(b'"n":4,', b'"n":4,\n'),
    "a tab between fields": LINE.replace(b'"n":4,', b'"n":4,\t'),
    "something after it": LINE + b" ",
    "a field twice": LINE.replace(b'"n":4,', b'"n":4,"n":4,'),
    "a field more": LINE.replace(b'"n":4,', b'"n":4,"m":1,'),
    "a field less": LINE.replace(b'"boottime":4,', b""),
    "another order": json.dumps({"robot": "R1", **FIELDS}).encode(),
    "spaces before the signature": json.dumps(FIELDS).encode(),
    "another version": changed(v=2),
    "a version that is true": changed(v=True),
    "no robot": changed(robot=""),
    "a robot with a slash": changed(robot="a/b"),
    "n as text": changed(n="4"),
    "n true": changed(n=True),
    "n negative": changed(n=-1),
    "n past exactness": changed(n=2**53 + 1),
    "n as a float": changed(n=4.0),
    "hash in capitals": changed(prev_hash="A" * 64),
    "hash too short": changed(prev_hash="a" * 63),
    "a later entry that follows nothing": changed(prev_hash="0" * 64),
    "a later genesis": changed(kind="genesis", body={"suite": 1, "pk": public(CHAIN.keys[0])}),
    "kind with a space": changed(kind="check point"),
    "body a list": json.dumps(FIELDS, separators=(",", ":")).replace('{"streams":{}}', "[]").encode(),
    "key too short": changed(next_pk=b64(b"k" * 31)),
    "key with padding": changed(next_pk=public(CHAIN.keys[0]) + "=="),
    "not a number": LINE.replace(b'"boottime":4', b'"boottime":NaN'),
    "nested too deeply": changed(body={"a": json.loads("[" * 20 + "]" * 20)}),
    "signature escaped": LINE.replace(b'"sig":"', b'"sig":"\\u0041'),
    "signature of nothing": LINE[: LINE.rindex(b":") + 1] + b'"=","x":1}',
    "signature far too long": LINE[: LINE.rindex(b":") + 2] + b"A" * 200 + b'"}',
    "configuration of another suite than its key": changed(kind="config", body={"suite": 2}),
}


@pytest.mark.parametrize("line", ILL_FORMED.values(), ids=list(ILL_FORMED))
def test_what_is_no_entry_is_refused(line: bytes) -> None:
    with pytest.raises(EntryError):
        read_entry(line)


@pytest.mark.parametrize(
    "body", [{}, {"suite": 1}, {"suite": 2, "pk": public(CHAIN.keys[0])}, {"suite": 1, "pk": "A" * 87}]
)
def test_a_genesis_names_its_key_and_the_suite_of_it(body: dict[str, object]) -> None:
    fields = {**Chain().fields("genesis", body), "n": 0, "prev_hash": "0" * 64}
    with pytest.raises(EntryError):
        read_entry(signed(CHAIN.keys[0], fields))


def test_a_line_of_64_kib_is_taken_and_one_byte_more_is_not() -> None:
    chain = Chain()
    spare = MAX_LEDGER_LINE_BYTES - len(chain.make(body={"text": ""}))
    assert read_entry(chain.make(body={"text": "x" * spare})).n == 1
    with pytest.raises(EntryError, match=str(MAX_LEDGER_LINE_BYTES)):
        read_entry(chain.make(body={"text": "x" * (spare + 1)}))


def test_whose_signature_it_is_decides() -> None:
    stranger = Ed25519PrivateKey.generate()
    assert misfit(head(CHAIN), read_entry(CHAIN.make())) is None
    assert misfit(head(CHAIN), read_entry(CHAIN.make(key=stranger))) is Misfit.SIGNATURE
    assert misfit(head(CHAIN), read_entry(CHAIN.make(key=CHAIN.keys[0]))) is Misfit.SIGNATURE
    assert misfit(None, read_entry(Chain(seed="other").lines[0])) is None
    genesis = Chain().fork()
    genesis.lines.clear()
    forged = genesis.make("genesis", {"suite": 1, "pk": public(CHAIN.keys[0])}, key=stranger)
    assert misfit(None, read_entry(forged)) is Misfit.SIGNATURE


def test_number_hash_and_suite_decide_too() -> None:
    assert misfit(head(CHAIN, 1), read_entry(CHAIN.make())) is Misfit.NUMBER
    assert misfit(None, read_entry(CHAIN.make())) is Misfit.NUMBER
    assert misfit(head(CHAIN), read_entry(changed(prev_hash="a" * 64))) is Misfit.PREV_HASH
    sm2 = b64(b"\x04" + bytes(64))
    assert misfit(head(CHAIN), read_entry(changed(next_pk=sm2))) is Misfit.SUITE
    assert misfit(head(CHAIN), read_entry(changed(kind="config", body={}, next_pk=sm2))) is Misfit.SUITE
    named = changed(kind="config", body={"suite": 2}, next_pk=sm2)
    assert misfit(head(CHAIN), read_entry(named)) is None


@pytest.mark.parametrize("at", range(len(LINE)))
def test_no_byte_of_a_line_can_be_changed(at: int) -> None:
    before = head(CHAIN)
    for flip in (1, 0x20, 0x80):
        bent = LINE[:at] + bytes([LINE[at] ^ flip]) + LINE[at + 1 :]
        try:
            entry = read_entry(bent)
        except EntryError:
            continue
        assert misfit(before, entry) is not None or entry.robot != "R1"


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_at_all_are_an_entry_or_refused(line: bytes) -> None:
    with pytest.raises(EntryError):
        read_entry(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(FIELDS)), JSON)
def test_any_value_in_any_field_is_read_or_refused_and_never_fits(field: str, value: object) -> None:
    line = json.dumps({**FIELDS, field: value}, ensure_ascii=True, separators=(",", ":")).encode()
    try:
        entry = read_entry(line)
    except EntryError:
        return
    assert line == LINE or misfit(head(CHAIN), entry) is not None


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_every_body_that_json_can_carry_is_taken(body: dict[str, object]) -> None:
    try:
        json.dumps(body, allow_nan=False)
        json.dumps(body, ensure_ascii=False).encode()
    except ValueError:
        return
    chain = Chain().fork()
    chain.keys = [key_from("R1 0"), key_from("R1 1")]
    entry = read_entry(chain.make(body=body))
    assert misfit(head(chain), entry) is None
    assert base64.urlsafe_b64encode(entry.signature).rstrip(b"=") in chain.make(body=body)
