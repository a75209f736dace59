"""Does jobs one after the other in this process, or several at a time in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from tgfbench.benchmark.downstream.runner import Job, perform
from tgfbench.benchmark.errors import TgfbenchError

Told = Callable[[int, str, float], None]
"""Called with (number of the job, what is being done, share of the job that is done)."""
Ended = Callable[[int, str], None]
"""Called with (number of the job, why it failed or "")."""

PATIENCE = 0.5
"""Seconds between looks at processes that say nothing."""


def perform_all(jobs: Sequence[Job], processes: int, told: Told, ended: Ended) -> None:
    """Do jobs; one that fails stops no other.

    Args:
        jobs: in the order in which they are begun.
        processes: how many at a time; 1 stays in this process.
        told: called after every step.
        ended: called once for every job.
    """
    if processes > 1 and len(jobs) > 1:
        _Pool(jobs, processes, told, ended).run()
        return
    for number, job in enumerate(jobs):
        reason = ""
        try:
            perform(job, lambda doing, share, number=number: told(number, doing, share))  # type: ignore[misc]
        except TgfbenchError as error:
            reason = error.one_line
        ended(number, reason)


class _Pool:
    def __init__(self, jobs: Sequence[Job], processes: int, told: Told, ended: Ended) -> None:
        # Not forked: torch has threads here, which a forked child would wait for in vain.
        self._context = multiprocessing.get_context("spawn")
        self._messages: Any = self._context.Queue()
        self._waiting = list(enumerate(jobs))
        self._running: dict[int, BaseProcess] = {}
        self._processes, self._told, self._ended = processes, told, ended

    def run(self) -> None:
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._processes:
                    self._start(*self._waiting.pop(0))
                self._listen()
        finally:
            for process in self._running.values():
                process.terminate()
            for process in self._running.values():
                process.join()

    def _start(self, number: int, job: Job) -> None:
        process = self._context.Process(target=_child, args=(number, job, self._messages, os.getpid()), daemon=True)
        process.start()
        self._running[number] = process

    def _listen(self) -> None:
        gone = [number for number, process in self._running.items() if not process.is_alive()]
        try:
            self._hear(*self._messages.get(timeout=PATIENCE))
            while True:
                self._hear(*self._messages.get_nowait())
        except queue.Empty:
            # What was gone before the queue ran empty will not say anything any more.
            for number in set(gone) & set(self._running):
                self._end(number, f"its process ended with code {self._running[number].exitcode}; killed?")

    def _hear(self, number: int, doing: str, share: float, reason: str | None) -> None:
        if reason is None:
            self._told(number, doing, share)
        else:
            self._end(number, reason)

    def _end(self, number: int, reason: str) -> None:
        self._running.pop(number).join()
        self._ended(number, reason)


def _child(number: int, job: Job, messages: Any, parent: int) -> None:
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    reason = ""
    try:
        perform(job, lambda doing, share: messages.put((number, doing, share, None)))
    except TgfbenchError as error:
        reason = error.one_line
    except KeyboardInterrupt:
        os._exit(130)
    messages.put((number, "", 1.0, reason))
    messages.close()
    messages.join_thread()


def _follow(parent: int) -> None:
    """End with the parent, however that ended: an orphan would hold its work against the next command."""
    while os.getppid() == parent:
        time.sleep(PATIENCE)
    os._exit(1)
