"""Work in order on several processes, or on one where there can be no more."""

import multiprocessing
import os
from collections.abc import Iterator

import pytest

from agent.audit import pool
from agent.audit.pool import Pool, cores


def double(number: int) -> int:
    return 2 * number


def dies_in_a_worker(number: int) -> int:
    if multiprocessing.parent_process() is not None:
        os._exit(1)
    return 2 * number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes: int) -> None:
    with Pool(processes) as workers:
        assert list(workers.run(double, range(50))) == [2 * number for number in range(50)]


def test_jobs_are_taken_as_they_can_be_done() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with Pool(1) as alone:
        assert next(alone.run(double, jobs())) == 0
    assert taken == [0]


def test_workers_that_die(capfd: pytest.CaptureFixture[str]) -> None:
    with Pool(2) as workers:
        assert list(workers.run(dies_in_a_worker, range(9))) == [2 * number for number in range(9)]


def test_a_machine_without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(38, "no semaphores")

    monkeypatch.setattr(pool, "ProcessPoolExecutor", refuse)
    with Pool(4) as workers:
        assert list(workers.run(double, range(5))) == [0, 2, 4, 6, 8]


def test_cores() -> None:
    assert cores() >= 1
