"""Sizes, magics, labels and names of the sealed log (README.md beside this file). Standard library only."""

import struct
from typing import Final

VERSION: Final = 1
STREAMS: Final = ("safety", "net", "tele")

# ---- header

HEADER_MAGIC: Final = b"WLOG"
HEADER_PREFIX: Final = struct.Struct("<4sBBHII")
"""magic, version, suite, zero, fields_len, wraps_len."""
HASHED_PREFIX_BYTES: Final = 8
"""Of the prefix, what `fields_hash` covers: all before the lengths."""
MAX_HEADER_BYTES: Final = 65_536
SECRET_BYTES: Final = 32
"""SK, and each share of it."""
ZERO_HASH: Final = "0" * 64
"""`prev_seal` of a first segment, `prev_hash` of a genesis."""

LABEL_HEADER: Final = b"robot-warden log v1 header"
LABEL_COMMITMENT: Final = b"robot-warden log v1 commitment"
LABEL_WRAP: Final = b"robot-warden log v1 wrap"
LABEL_ROOT: Final = b"robot-warden log v1 root"
LABEL_RATCHET: Final = b"robot-warden log v1 ratchet"

# ---- frame

FRAME_HEADER: Final = struct.Struct("<HBBIIQI")
"""magic, type, flags, ct_len, count, first_seq, frame_idx: 24 bytes."""
FRAME_MAGIC: Final = 0x4657
FRAME_RECORDS: Final = 1
FRAME_SEAL: Final = 2
FLAG_ZSTD: Final = 1
TAG_BYTES: Final = 16
CRC: Final = struct.Struct("<I")
FRAME_OVERHEAD: Final = FRAME_HEADER.size + TAG_BYTES + CRC.size
"""44 bytes."""
MAX_CT_BYTES: Final = 1 << 20
MAX_PLAIN_BYTES: Final = 4 << 20
RECORD_LENGTH: Final = struct.Struct("<H")
MAX_RECORD_BYTES: Final = 65_535
"""JSON of one record."""

ZSTD_DICTIONARY: Final = (
    b'"d":{"channel":"reflex","kind":"cause_raised","cause":"estop_pressed","response":"emergency_stop",'
    b'"clear":"reset_and_resume","active":true,"epoch":1,"stage":"accepted","after_us":100,"cmd":"resume",'
    b'"topic":"warden/v1/","bytes":1024,"peer":"127.0.0.1","up":true,"why":"","reason":"","seq":1,"count":1,'
    b'"speed_mps":0.0,"x_m":0.0,"y_m":0.0,"battery_pct":100,"task":"patrol","still":true,"heading_rad":0.0}}'
    b'{"w":17,"b":1,"c":"s","s":"recorder","o":"","q":1,"k":"telemetry","d":{"speed_mps":0.0,"x_m":0.0,"y_m":0.0}}'
    b'{"w":17,"b":1,"c":"s","s":"remote","o":"","q":1,"k":"mqtt_packet","d":{"topic":"warden/v1/","bytes":1024}}'
    b'{"w":17,"b":1,"c":"s","s":"reflex","o":"","q":1,"k":"response","d":{"channel":"reflex","response":"none"}}'
)
"""Raw content for zstd: what records begin with. Part of the format: never changed, only numbered anew."""

# ---- ledger

LEDGER_FILE: Final = "ledger.jsonl"
LEDGER_LABEL: Final = b"robot-warden ledger v1\0"
LEDGER_SIG: Final = b',"sig":"'
"""Ends what the signature covers."""
MAX_LEDGER_LINE_BYTES: Final = 65_000
"""With its topic it fits a packet of 64 KiB: a broker with that limit cuts off whoever sends a longer one."""
LEDGER_FIELDS: Final = (
    *("v", "robot", "n", "prev_hash", "boot_id", "wall", "boottime", "kind", "body", "next_pk", "sig"),
)
KINDS: Final = (
    *("genesis", "boot", "seg.open", "checkpoint", "seg.seal", "seg.recover", "clock.step", "witness.ack"),
    *("hold", "delete", "service.end", "disk.level", "loss", "incident", "maintenance", "config"),
)

# ---- tokens

WITNESS_TYP: Final = "warden-witness+jwt"
ORDER_TYP: Final = "warden-order+jwt"


def segment_name(segno: int) -> str:
    """`0000000001.seg`."""
    return f"{segno:010}.seg"


def gone_name(segno: int) -> str:
    """`0000000001.gone`."""
    return f"{segno:010}.gone"
