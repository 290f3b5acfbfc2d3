"""Work on every core there is, results in the order of the jobs: the same findings however many do it."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


class Pool:
    """At most `processes` workers, made when the first job comes; 1: all is done in this process.

    Workers are spawned, not forked: a caller may have threads. Where that cannot be done (no semaphores, a
    program read from standard input) the work is done here instead.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def run(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """`work(job)` for each, in order; two jobs a worker wait at most, so that memory stays bounded."""
        waiting: deque[tuple[Job, Future[Result] | None]] = deque()
        for job in jobs:
            waiting.append((job, self._submit(work, job)))
            if waiting[0][1] is None or len(waiting) > 2 * self._processes:
                yield self._result(work, *waiting.popleft())
        while waiting:
            yield self._result(work, *waiting.popleft())

    def _submit(self, work: Callable[[Job], Result], job: Job) -> "Future[Result] | None":
        if self._processes <= 1:
            return None
        try:
            if self._executor is None:
                context = multiprocessing.get_context("spawn")
                self._executor = ProcessPoolExecutor(self._processes, mp_context=context)
            return self._executor.submit(work, job)
        except (OSError, ImportError, NotImplementedError, BrokenProcessPool):
            self._processes = 1
            return None

    def _result(self, work: Callable[[Job], Result], job: Job, future: "Future[Result] | None") -> Result:
        if future is None:
            return work(job)
        try:
            return future.result()
        except BrokenProcessPool:
            self._processes = 1
            return work(job)
