"""What a recipient reads: all of it, in order, whatever one frame has suffered; and no one else."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from agent.audit import AuditError, DecryptReport, RecipientKey, decrypt, load_recipient_key
from agent.logformat.layout import MAX_PLAIN_BYTES
from tests.audit.forge import (
    BOOT,
    WALL,
    Forge,
    Recipient,
    b64,
    compress,
    plaintext,
    recipient,
    record,
    simple,
)


def keys(*owners: Recipient, suite: int = 1) -> list[RecipientKey]:
    return [RecipientKey(suite, owner.private, owner.kid) for owner in owners]


def read(
    forge: Forge,
    given: list[RecipientKey],
    **options: Any,  # noqa: ANN401 - those of decrypt
) -> tuple[DecryptReport, list[dict[str, Any]]]:
    out = io.BytesIO()
    told = decrypt(forge.folder, given, out=out, **options)
    return told, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("suite", [1, 2])
@pytest.mark.parametrize("owner", [0, 1])
def test_each_recipient_alone_reads_all(tmp_path: Path, suite: int, owner: int) -> None:
    forge = simple(tmp_path, suite=suite)
    told, rows = read(forge, keys(forge.recipients[owner], suite=suite))
    assert (told.exit_code, told.opened, told.records, told.duplicates) == (0, 3, 8, 0)
    assert [(row["stream"], row["segno"], row["frame"], row["n"]) for row in rows] == [
        *[("safety", 1, 0, 1), ("safety", 1, 0, 2), ("safety", 1, 1, 3), ("safety", 1, 1, 4)],
        *[("safety", 2, 0, 5), ("safety", 2, 0, 6), ("tele", 1, 0, 1), ("tele", 1, 0, 2)],
    ]
    assert rows[0] == {
        "stream": "safety",
        "segno": 1,
        "frame": 0,
        "n": 1,
        "time": "2027-01-15T08:00:00.001000000Z",
        "wall_ns": WALL + 1_000_000,
        "boottime_ns": 1_000_000,
        "clock": "synchronised",
        "source": "safety",
        "boot": BOOT,
        "seq": 1,
        "kind": "stop",
        "duplicate": False,
        "body": {"cause": "estop_pressed"},
    }


@pytest.mark.parametrize("suite", [1, 2])
def test_two_recipients_together(tmp_path: Path, suite: int) -> None:
    forge = simple(tmp_path, suite=suite, opening="all")
    told, rows = read(forge, keys(*forge.recipients, suite=suite))
    assert (told.exit_code, len(rows)) == (0, 8)
    told, rows = read(forge, keys(forge.recipients[0], suite=suite))
    assert (told.exit_code, rows, told.closed) == (3, [], 3)
    assert "missing: aut" in told.skipped[0].why


def test_a_wrong_key(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    told, rows = read(forge, keys(recipient("dep")))
    assert (told.exit_code, rows, told.closed) == (3, [], 3)
    assert "none of the keys opens this log" in "\n".join(told.lines())
    assert told.to_json()["exit_code"] == 3


def test_a_key_without_a_name_and_one_under_another(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    own = forge.recipients[0].private
    assert read(forge, [RecipientKey(1, own)])[0].exit_code == 0
    assert read(forge, [RecipientKey(1, own, "aut")])[0].exit_code == 3
    assert read(forge, [RecipientKey(2, own)])[0].exit_code == 3


def test_recipients_that_changed(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    first = forge.recipients
    forge.recipients = [recipient("dep")]
    forge.fill("safety")
    told, rows = read(forge, keys(*first))
    assert (told.exit_code, told.opened, told.closed, len(rows)) == (3, 3, 1, 8)


class Split(Forge):
    """Hands its second recipient another key than its first."""

    def shares(self, secret: bytes) -> list[bytes]:
        return [secret, bytes(32)]


@pytest.mark.parametrize(("owners", "code"), [((0,), 0), ((1,), 2), ((0, 1), 2)])
def test_a_second_key_handed_to_one_recipient(tmp_path: Path, owners: tuple[int, ...], code: int) -> None:
    forge = Split(tmp_path)
    forge.genesis()
    forge.fill("safety")
    told, _ = read(forge, keys(*(forge.recipients[n] for n in owners)))
    assert told.exit_code == code
    assert (told.damaged == 1) is (code == 2)


# ---- damage


def five(folder: Path) -> tuple[Forge, list[int]]:
    forge = Forge(folder)
    forge.genesis()
    one = forge.fill("net", frames=5, records=1)
    return forge, one.offsets


@pytest.mark.parametrize("bad", range(5))
@pytest.mark.parametrize("at", [0, 5, 30, -1])
def test_a_damaged_frame_costs_only_itself(tmp_path: Path, bad: int, at: int) -> None:
    forge, offsets = five(tmp_path)
    path = forge.path("net", 1)
    data = bytearray(path.read_bytes())
    data[(offsets[bad] if at >= 0 else [*offsets, len(data)][bad + 1]) + at] ^= 0xFF
    path.write_bytes(data)
    told, rows = read(forge, keys(forge.recipients[0]))
    lost = {bad + 1} if at >= 0 or bad < 4 else set()
    assert {row["n"] for row in rows} == {1, 2, 3, 4, 5} - lost
    assert told.exit_code in (1, 2)


def test_a_forged_frame_between_checkpoints_shows_to_a_recipient(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    one = forge.open("net")
    one.add([record(1)])
    k = one.k
    one.k = bytes(32)
    one.add([record(2)])
    one.suite.expand(k, b"", 32)
    forge.seal(one)
    told, rows = read(forge, keys(forge.recipients[0]))
    assert (told.exit_code, told.damaged, [row["n"] for row in rows]) == (2, 1, [1])


def test_frames_out_of_order_are_read_where_they_stand(tmp_path: Path) -> None:
    forge, offsets = five(tmp_path)
    path = forge.path("net", 1)
    data = path.read_bytes()
    a, b, c = offsets[1:4]
    path.write_bytes(data[:a] + data[b:c] + data[a:b] + data[c:])
    assert [row["n"] for row in read(forge, keys(forge.recipients[0]))[1]] == [1, 3, 2, 4, 5]


def test_the_ratchet_steps_back_over_thousands(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    one = forge.fill("net", frames=2100, records=1)
    data, last = one.data, [*one.offsets, len(one.data)]
    forge.path("net", 1).write_bytes(
        data[: last[0]] + data[last[2099] : last[2100]] + data[last[0] : last[2099]]
    )
    rows = read(forge, keys(forge.recipients[0]))[1]
    assert [row["n"] for row in rows] == [2100, *range(1, 2100)]


def test_an_open_segment_with_a_torn_tail(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("net")
    one.add([record(1)])
    one.add([record(2)])
    one.data = one.data[:-9] + bytes(9)
    forge.save(one)
    told, rows = read(forge, keys(forge.recipients[0]))
    assert (told.exit_code, told.torn, len(rows)) == (1, 1, 9)


def test_zeros_after_the_last_frame_are_no_damage(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("net")
    one.data += bytes(6 << 20)
    forge.save(one)
    assert read(forge, keys(forge.recipients[0]))[0].exit_code == 0


def odd(forge: Forge, plain: bytes, flags: int, count: int) -> tuple[DecryptReport, list[dict[str, Any]]]:
    """A frame of the recorder's own that holds something odd, and a good one after it."""
    one = forge.open("net")
    one.put(one.sealed_frame(plain, flags, count), count)
    one.add([record(7)])
    forge.seal(one)
    return read(forge, keys(forge.recipients[0]))


@pytest.mark.parametrize(
    ("plain", "flags", "count"),
    [
        (compress(bytes(MAX_PLAIN_BYTES + 1)), 1, 1),
        (b"not zstd", 1, 1),
        (b"", 1, 0),
        (plaintext([record(1)]), 0, 2),
        (plaintext([record(1), record(2)]), 0, 1),
        (b"\xff\xff{}", 0, 1),
        (b"\x02\x00[]", 0, 1),
        (b"\x02\x00{}", 0, 1),
        (b"\x03\x00{},", 0, 1),
        (b"\x04\x00\xff\xff\xff\xff", 0, 1),
    ],
)
def test_a_frame_that_holds_something_odd_is_skipped(
    tmp_path: Path, plain: bytes, flags: int, count: int
) -> None:
    forge = simple(tmp_path)
    told, rows = odd(forge, plain, flags, count)
    assert (told.exit_code, told.damaged) == (2, 1)
    assert [row["seq"] for row in rows if row["stream"] == "net"] == [7]


def test_a_bomb_that_does_not_say_its_size_is_bounded(tmp_path: Path) -> None:
    import zstandard

    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    told, rows = odd(simple(tmp_path), bomb, 1, 1)
    assert (told.damaged, len(rows)) == (1, 9)
    assert "more than" in told.skipped[0].why


def test_one_bad_record_among_good_ones(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [record(1), {**record(2), "c": "?"}, record(3)]
    told, found = odd(simple(tmp_path), plaintext(rows), 0, 3)
    assert [row["seq"] for row in found if row["stream"] == "net"] == [1, 3, 7]
    assert (told.exit_code, told.damaged) == (2, 1)


# ---- duplicates, ranges, forms


def test_the_same_event_twice_is_marked(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    for seqs in ([1, 2, 3, 3], [3, 4, 9000, 2]):
        one = forge.open("safety")
        one.add([record(q) for q in seqs])
        forge.seal(one)
    expected = [False, False, False, True, True, False, False, True]
    told, rows = read(forge, keys(forge.recipients[0]))
    assert [row["duplicate"] for row in rows] == expected
    assert told.duplicates == 3
    out = tmp_path / "out"
    told = decrypt(tmp_path, keys(forge.recipients[0]), out=out, processes=2)
    assert [json.loads(line)["duplicate"] for line in out.read_bytes().splitlines()] == expected
    assert told.duplicates == 3


def test_two_processes_write_what_one_does(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    outs = [tmp_path / f"out-{n}" for n in (1, 2)]
    told = [
        decrypt(forge.folder, keys(forge.recipients[0]), out=out, processes=n, format="csv")
        for n, out in enumerate(outs, 1)
    ]
    assert told[0] == told[1]
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out-1", "out-2"]
    assert outs[0].stat().st_mode & 0o777 == 0o600
    with pytest.raises(AuditError, match="exists"):
        decrypt(forge.folder, keys(forge.recipients[0]), out=outs[0])


def test_streams_and_span(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    given = keys(forge.recipients[0])
    span = (WALL + 2_000_000, WALL + 4_000_000)
    told, rows = read(forge, given, streams=["safety"], span_ns=span)
    assert [row["seq"] for row in rows] == [2, 3, 4]
    assert (told.segments, told.records, told.written) == (2, 6, 3)


def test_authenticating_without_writing(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    told = decrypt(forge.folder, keys(forge.recipients[0]), out=None)
    assert (told.exit_code, told.records, told.written) == (0, 8, 0)
    assert decrypt(forge.folder, keys(forge.recipients[0]), out=None, processes=2) == told


def test_csv_holds_no_formulas(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    one = forge.open("net")
    one.add([record(1, source="=cmd|' /C calc'!A0", kind="+1,2", text='say "hi"\n')])
    forge.seal(one)
    out = io.BytesIO()
    decrypt(tmp_path, keys(forge.recipients[0]), out=out, format="csv")
    head, row = csv.reader(io.StringIO(out.getvalue().decode(), newline=""))
    told = dict(zip(head, row, strict=True))
    assert (told["source"], told["kind"]) == ("'=cmd|' /C calc'!A0", "'+1,2")
    assert json.loads(told["body"])["text"] == 'say "hi"\n'


def test_a_format_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="format"):
        decrypt(tmp_path, [], out=io.BytesIO(), format="xml")


def test_an_empty_log(tmp_path: Path) -> None:
    assert decrypt(tmp_path, [], out=io.BytesIO()).exit_code == 3


def test_damaged_headers_and_files_of_another_kind(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.path("safety", 1).write_bytes(b"WLOG")
    forge.path("safety", 2).unlink()
    told, rows = read(forge, keys(forge.recipients[0]))
    assert (told.exit_code, told.damaged, len(rows)) == (2, 1, 2)


def test_progress(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    told: list[int] = []
    read(forge, keys(forge.recipients[0]), progress=lambda done, _total: told.append(done))
    assert len(told) == 3
    assert told == sorted(told)


# ---- key files


def write(path: Path, jwk: dict[str, str] | bytes) -> Path:
    path.write_bytes(jwk if isinstance(jwk, bytes) else json.dumps(jwk).encode())
    path.chmod(0o600)
    return path


def test_keys_from_files(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    own = recipient("dep")
    jwk = {"kty": "OKP", "crv": "X25519", "x": b64(own.public), "d": b64(own.private), "kid": "dep"}
    assert load_recipient_key(write(tmp_path / "a", jwk)) == RecipientKey(1, own.private, "dep")
    sm2 = {"kty": "EC", "crv": "SM2", "x": "", "y": "", "d": b64(own.private)}
    assert load_recipient_key(write(tmp_path / "b", sm2)) == RecipientKey(2, own.private, "")
    key = X25519PrivateKey.from_private_bytes(own.private)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert load_recipient_key(write(tmp_path / "c", pem)) == RecipientKey(1, own.private)
    assert b64(own.private) not in repr(RecipientKey(1, own.private))


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "OKP", "crv": "Ed25519", "d": b64(bytes(32))},
        {"kty": "OKP", "crv": "X25519"},
        {"kty": "OKP", "crv": "X25519", "d": b64(bytes(31))},
        {"kty": [], "crv": {}, "d": b64(bytes(32))},
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"{",
    ],
)
def test_files_that_are_no_keys(tmp_path: Path, jwk: dict[str, str] | bytes) -> None:
    with pytest.raises(AuditError, match="recipient's private key"):
        load_recipient_key(write(tmp_path / "k", jwk))


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    path = write(tmp_path / "k", {})
    path.chmod(0o644)
    with pytest.raises(AuditError, match="mode"):
        load_recipient_key(path)


@pytest.mark.parametrize("number", [b"-Infinity", b"NaN"])
def test_a_number_that_is_none(tmp_path: Path, number: bytes) -> None:
    whole = plaintext([record(1, x="@@@")]).replace(b'"@@@"', number)
    size = (len(whole) - 2).to_bytes(2, "little")
    told, rows = odd(simple(tmp_path), size + whole[2:], 0, 1)
    assert (told.damaged, [row["seq"] for row in rows if row["stream"] == "net"]) == (1, [7])
