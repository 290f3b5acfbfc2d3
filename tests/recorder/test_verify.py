from contextlib import closing
from pathlib import Path

import pytest

from agent.recorder.lines import Opening, opening_line, record_line
from agent.recorder.log import LogError, Record
from agent.recorder.plain import PlainLog
from agent.recorder.verify import (
    CLEAN,
    EXPLAINED,
    INCOMPLETE,
    MAX_LISTED,
    TAMPERED,
    Gap,
    Report,
    SenderRange,
    verify,
)
from tests.recorder.logs import BOOT, OTHER_BOOT, record, records, segment_files

SELF = "ef" * 16


def loss(seq: int, first: int, last: int, *, boot: str = BOOT) -> Record:
    body = {"source": "reflex", "boot": boot, "first_seq": first, "last_seq": last}
    return Record("recorder", SELF, seq, "safety", "loss", 0, 0, body)


def write(folder: Path, *batches: list[Record], segment_bytes: int = 8 * 1024 * 1024) -> list[Path]:
    with closing(PlainLog(folder, segment_bytes=segment_bytes)) as log:
        for batch in batches:
            log.append(batch)
    return segment_files(folder)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_whole_log(tmp_path: Path) -> None:
    write(tmp_path, records(1, 9), records(1, 3, source="remote"), records(10, 12), segment_bytes=700)
    report = verify(tmp_path)
    assert report.exit_code == CLEAN
    assert (report.segments, report.records, report.live) == (3, 15, False)
    assert report.senders == [
        SenderRange("reflex", BOOT, 1, 12, 12),
        SenderRange("remote", BOOT, 1, 3, 3),
    ]
    assert report.to_json()["exit_code"] == CLEAN


def test_a_new_start_of_a_module_begins_its_numbers_again(tmp_path: Path) -> None:
    write(tmp_path, records(1, 3), [record(1, boot=OTHER_BOOT), record(2, boot=OTHER_BOOT)])
    assert verify(tmp_path).exit_code == CLEAN


def test_nothing_is_incomplete(tmp_path: Path) -> None:
    assert verify(tmp_path).exit_code == INCOMPLETE


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError) as caught:
        verify(tmp_path / "none")
    assert caught.value.path == tmp_path / "none"


# ---- what was changed


@pytest.mark.parametrize("segment_bytes", [700, 100_000])
def test_every_altered_line_is_found(tmp_path: Path, segment_bytes: int) -> None:
    files = write(tmp_path, *(records(seq, seq) for seq in range(1, 8)), segment_bytes=segment_bytes)
    for path in files:
        data = path.read_bytes()
        offset = 0
        for line in lines_of(path):
            middle = offset + len(line) // 2
            path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
            report = verify(tmp_path)
            assert report.exit_code == TAMPERED
            assert (report.bad_lines[0].file, report.bad_lines[0].offset) == (path.name, offset)
            offset += len(line)
        path.write_bytes(data)
    assert verify(tmp_path).exit_code == CLEAN


def test_every_missing_line_is_found_but_the_last(tmp_path: Path) -> None:
    """The end of a plain log can be cut without a trace; the sealed log's witness is against that."""
    files = write(tmp_path, *(records(seq, seq) for seq in range(1, 8)), segment_bytes=700)
    for path in files:
        data, lines = path.read_bytes(), lines_of(path)
        for index in range(len(lines)):
            path.write_bytes(b"".join(lines[:index] + lines[index + 1 :]))
            if path == files[-1] and index == len(lines) - 1:
                assert verify(tmp_path).exit_code == CLEAN
            else:
                assert verify(tmp_path).exit_code == (TAMPERED if index == 0 else INCOMPLETE)
        path.write_bytes(data)


def test_a_repeated_line_is_found(tmp_path: Path) -> None:
    (path,) = write(tmp_path, records(1, 4))
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines, lines[2]]))
    report = verify(tmp_path)
    assert (report.exit_code, report.duplicates) == (TAMPERED, 1)


def test_lines_in_another_order_are_found(tmp_path: Path) -> None:
    (path,) = write(tmp_path, records(1, 4))
    opening, first, second, *others = lines_of(path)
    path.write_bytes(b"".join([opening, second, first, *others]))
    assert verify(tmp_path).exit_code == TAMPERED


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    files = write(tmp_path, *(records(seq, seq) for seq in range(1, 8)), segment_bytes=700)
    files[1].unlink()
    report = verify(tmp_path)
    assert report.exit_code == INCOMPLETE
    assert report.missing_segments == [files[1].name]
    assert [(gap.source, gap.explained) for gap in report.gaps] == [("reflex", False)]


def test_a_missing_first_segment_is_named(tmp_path: Path) -> None:
    files = write(tmp_path, *(records(seq, seq) for seq in range(1, 8)), segment_bytes=700)
    files[0].unlink()
    assert verify(tmp_path).missing_segments == [files[0].name]


def test_a_segment_under_another_number_is_found(tmp_path: Path) -> None:
    files = write(tmp_path, *(records(seq, seq) for seq in range(1, 8)), segment_bytes=700)
    files[-1].rename(tmp_path / "events-000009.jsonl")
    report = verify(tmp_path)
    assert report.exit_code == TAMPERED
    assert "opening line of segment" in report.bad_lines[0].why


def test_a_second_opening_in_a_segment_is_found(tmp_path: Path) -> None:
    (path,) = write(tmp_path, records(1, 2))
    path.write_bytes(path.read_bytes() + opening_line(Opening(1)))
    assert verify(tmp_path).exit_code == TAMPERED


def test_a_line_without_end_is_found_in_bounded_memory(tmp_path: Path) -> None:
    (path,) = write(tmp_path, records(1, 2))
    path.write_bytes(path.read_bytes() + b"x" * 3_000_000 + b"\n" + record_line(record(3)))
    report = verify(tmp_path)
    assert report.exit_code == TAMPERED
    assert report.records == 3


# ---- what is explained


def test_a_gap_that_the_recorder_noted_on_arrival_is_explained(tmp_path: Path) -> None:
    write(tmp_path, [*records(1, 2), loss(1, 3, 7), *records(8, 9)])
    report = verify(tmp_path)
    assert report.exit_code == EXPLAINED
    assert report.gaps == [Gap("reflex", BOOT, 3, 7, explained=True)]


@pytest.mark.parametrize(
    "noted",
    [
        loss(1, 3, 6),
        loss(1, 4, 7),
        loss(1, 3, 7, boot=OTHER_BOOT),
        Record("reflex", BOOT, 3, "safety", "loss", 0, 0, {"first_seq": 4, "last_seq": 7}),
    ],
)
def test_another_gap_than_the_noted_one_is_not_explained(tmp_path: Path, noted: Record) -> None:
    write(tmp_path, [*records(1, 2), noted, *records(8, 9)])
    report = verify(tmp_path)
    assert (report.exit_code, report.gaps_unexplained) == (INCOMPLETE, 1)


def test_a_note_explains_only_the_gap_right_after_it(tmp_path: Path) -> None:
    write(tmp_path, [*records(1, 1), loss(1, 3, 7), *records(2, 2), *records(8, 9)])
    assert verify(tmp_path).exit_code == INCOMPLETE


def test_a_note_explains_one_gap_only(tmp_path: Path) -> None:
    write(tmp_path, [*records(1, 2), loss(1, 3, 7), *records(8, 9), *records(12, 12)])
    report = verify(tmp_path)
    assert (report.gaps_explained, report.gaps_unexplained) == (1, 1)
    assert report.exit_code == INCOMPLETE


def test_a_torn_end_is_no_tampering(tmp_path: Path) -> None:
    (path,) = write(tmp_path, records(1, 3))
    path.write_bytes(path.read_bytes()[:-10])
    report = verify(tmp_path)
    assert (report.exit_code, report.torn_tails) == (EXPLAINED, [path.name])


def test_beside_a_writing_recorder_the_last_line_may_be_on_its_way(tmp_path: Path) -> None:
    with closing(PlainLog(tmp_path)) as log:
        log.append(records(1, 3))
        with segment_files(tmp_path)[0].open("ab") as file:
            file.write(b'{"type":"event"')
        report = verify(tmp_path)
        assert (report.live, report.exit_code) == (True, CLEAN)


def test_a_torn_file_that_holds_whole_lines_did_not_come_from_a_crash(tmp_path: Path) -> None:
    (path,) = write(tmp_path, records(1, 3))
    data = path.read_bytes()
    path.write_bytes(data[:-10] + b"?" + data[-9:])
    PlainLog(tmp_path).close()
    report = verify(tmp_path)
    assert report.exit_code == TAMPERED
    assert report.torn == [f"{path.name}.torn-1"]


def test_lists_are_bounded_and_counts_are_not(tmp_path: Path) -> None:
    gaps = MAX_LISTED + 5
    write(tmp_path, [record(2 * seq) for seq in range(1, gaps + 1)])
    report = verify(tmp_path)
    assert (len(report.gaps), report.gaps_unexplained) == (MAX_LISTED, gaps)
    with segment_files(tmp_path)[0].open("ab") as file:
        file.write(b"?\n" * gaps)
    report = verify(tmp_path)
    assert (len(report.bad_lines), report.bad) == (MAX_LISTED, gaps)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"segments": 1}, CLEAN),
        ({"segments": 1, "torn": ["t"]}, EXPLAINED),
        ({"segments": 1, "gaps_explained": 1}, EXPLAINED),
        ({"segments": 1, "gaps_explained": 1, "gaps_unexplained": 1}, INCOMPLETE),
        ({"segments": 1, "gaps_unexplained": 1, "bad": 1}, TAMPERED),
        ({"segments": 1, "missing_segments": ["m"], "duplicates": 1}, TAMPERED),
        ({"segments": 0}, INCOMPLETE),
    ],
)
def test_the_worst_finding_decides(found: dict[str, int], code: int) -> None:
    report = Report("folder")
    for name, value in found.items():
        setattr(report, name, value)
    assert report.exit_code == code
