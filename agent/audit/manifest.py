"""The list of an export's files (`manifest.json`): written by `export`, held to the files by `verify`.

It is not signed: it shows a bundle that was damaged on its way, not one that was made false. That is for the
ledger's signatures and the witness.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.audit import forms
from agent.audit.errors import FormatError
from agent.audit.findings import Finding
from agent.audit.folder import MANIFEST_FILE, Listing, pieces, read_small
from agent.logformat.layout import gone_name, segment_name

MAX_MANIFEST_BYTES: Final = 256 << 20
"""Some 150 bytes a file: two million segments."""
_SUM: Final = "sha256"

_ROW: Final[Mapping[str, forms.Check]] = {"path": forms.is_text, "bytes": forms.is_int, _SUM: forms.is_hash}
_MANIFEST: Final[Mapping[str, forms.Check]] = {
    "v": forms.is_one_of(1),
    "robot": forms.is_text,
    "made_ns": forms.is_int,
    "live": forms.is_bool,
    "head": forms.is_object({"n": forms.is_int, "hash": forms.is_text}),
    "files": forms.is_list(forms.is_object(_ROW)),
    _SUM: forms.is_hash,
}


@dataclass(frozen=True, slots=True)
class HashJob:
    """One file of a bundle, and what the manifest says of it."""

    folder: Path
    path: str
    bytes: int
    sha256: str


def text_of(manifest: Mapping[str, Any]) -> bytes:
    """The file's bytes; its last field is the SHA-256 of the text without that field."""
    bare = _spell(manifest)
    return _spell({**manifest, _SUM: hashlib.sha256(bare).hexdigest()})


def _spell(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, ensure_ascii=False, separators=(",", ":")).encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle; FormatError for a bad one, OSError when it cannot be read."""
    data = read_small(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    if len(data) > MAX_MANIFEST_BYTES:
        raise FormatError("manifest: too large")
    found = forms.read_canonical(data, spaces=False)
    forms.require(found, _MANIFEST, "manifest")
    if text_of({name: value for name, value in found.items() if name != _SUM}) != data:
        raise FormatError("manifest: checksum wrong")
    return found


def jobs(folder: Path, manifest: Mapping[str, Any], listing: Listing) -> Iterator[HashJob]:
    """One for each listed file that is there."""
    there = set(evidence(listing))
    for row in manifest["files"]:
        if row["path"] in there:
            yield HashJob(folder, row["path"], row["bytes"], row[_SUM])


def check_listing(manifest: Mapping[str, Any], listing: Listing) -> Iterator[Finding]:
    """Files of the manifest that are not there, and the other way round."""
    listed = [row["path"] for row in manifest["files"]]
    there = set(evidence(listing))
    if len(set(listed)) != len(listed):
        yield Finding("manifest", MANIFEST_FILE, detail="a file stands twice")
    for path in sorted(set(listed) - there):
        yield Finding("manifest", MANIFEST_FILE, detail=f"{path!a} is not there")
    for path in sorted(there - set(listed)):
        yield Finding("manifest", path, detail="is not in the manifest")


def check_file(job: HashJob) -> list[Finding]:
    """Size and SHA-256 of one file."""
    size, digest = measure(job.folder / job.path)
    wrong = (size, digest) != (job.bytes, job.sha256)
    return [Finding("manifest", job.path, detail="size or SHA-256 differs")] if wrong else []


def measure(path: Path) -> tuple[int, str]:
    """A file's size and SHA-256; (-1, "") when it cannot be read."""
    size, digest = 0, hashlib.sha256()
    try:
        for piece in pieces(path):
            size += len(piece)
            digest.update(piece)
    except OSError:
        return -1, ""
    return size, digest.hexdigest()


def evidence(listing: Listing) -> Iterator[str]:
    """The paths of all files that a bundle is made of."""
    yield from listing.ledgers
    yield from listing.ledger_torn
    for stream, numbers in listing.segments.items():
        yield from (f"{stream}/{segment_name(number)}" for number in sorted(numbers))
    for stream, numbers in listing.gone.items():
        yield from (f"{stream}/{gone_name(number)}" for number in sorted(numbers))
    yield from listing.torn
