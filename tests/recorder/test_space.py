from pathlib import Path

import pytest

from agent.recorder.space import LEVELS, NO_TASKS, RESERVE_ONLY, RETURN_PERMILLE, Space, free_permille


class Disk:
    def __init__(self, permille: int = 1000) -> None:
        self.permille = permille

    def free(self, _: Path) -> int:
        return self.permille


def space(disk: Disk) -> Space:
    return Space(Path("/"), free=disk.free)


@pytest.mark.parametrize(
    ("permille", "level"),
    [
        *((1000, 0), (200, 0), (199, 1), (100, 1), (99, 2), (75, 2), (74, 3), (50, 3)),
        *((49, NO_TASKS), (10, NO_TASKS), (9, RESERVE_ONLY), (0, RESERVE_ONLY)),
    ],
)
def test_each_level_begins_where_the_table_says(permille: int, level: int) -> None:
    one = space(Disk(permille))
    assert one.look() is (level != 0)
    assert one.level == level


def test_a_level_is_left_only_with_a_little_more_room_than_began_it() -> None:
    disk = Disk(99)
    one = space(disk)
    one.look()
    for disk.permille in (100, 100 + RETURN_PERMILLE - 1):
        assert not one.look()
        assert one.level == 2
    disk.permille = 100 + RETURN_PERMILLE
    assert one.look()
    assert one.level == 1


def test_a_level_is_never_above_what_the_room_calls_for_when_it_rises_and_falls() -> None:
    disk = Disk()
    one = space(disk)
    for permille in [*range(1000, -1, -1), *range(1001)]:
        disk.permille = permille
        one.look()
        assert permille < LEVELS[one.level].below_permille + RETURN_PERMILLE
        assert one.level == RESERVE_ONLY or permille >= LEVELS[one.level + 1].below_permille


def test_a_refused_write_is_the_last_level_whatever_the_figures_promise() -> None:
    one = space(Disk(900))
    assert one.look(full=True)
    assert one.level == RESERVE_ONLY
    assert one.look()
    assert one.level == 0


def test_safety_is_kept_at_every_level_and_the_others_as_the_table_says() -> None:
    disk = Disk()
    one = space(disk)
    kept = {"tele": [], "net": [], "safety": []}  # type: dict[str, list[int]]
    for level in LEVELS:
        disk.permille = level.below_permille - 1
        one.look()
        for stream, counts in kept.items():
            counts.append(sum(one.admits(stream) for _ in range(100)))
    assert kept["safety"] == [100] * len(LEVELS)
    assert kept["net"] == [100, 100, 100, 100, 100, 0]
    assert kept["tele"] == [100, 100, 10, 0, 0, 0]


def test_a_folder_that_cannot_be_asked_has_no_room(tmp_path: Path) -> None:
    assert free_permille(tmp_path / "gone") == 0
    assert 0 <= free_permille(tmp_path) <= 1000
