"""A worker group that stays for the next stage, on one machine: its ranks take jobs from a mailbox instead of
ending after one.

Starting a group costs about ten seconds on two cores, nearly all of it imports, which a short line pays for
every stage (docs/decisions.md). On a cluster, or with ``execution.keep_workers = false``, every stage has a
``fit()`` of its own and nothing here is used.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from modelyard.adapters.ray.fit import Fit, Layout
from modelyard.adapters.ray.mailbox import Mailbox, News
from modelyard.adapters.ray.rank import Job, run_and_report
from modelyard.progress import Report

IDLE_POLL_SECONDS = 0.02


class JobMailbox(Mailbox):
    """A mailbox that also hands out one job after another."""

    def __init__(self, ranks: int) -> None:
        super().__init__(ranks, 0.0)
        self.job: Job | None = None
        self.number = 0

    async def post(self, job: Job) -> None:
        """Driver: offer a job to the ranks."""
        self._reset()
        self.job, self.number, self.hang_seconds = job, self.number + 1, job.execution.hang_seconds

    async def take(self, after: int) -> tuple[int, Job] | None:
        """Rank: wait for an unfinished job numbered above ``after`` (0 after a restart: the same job again);
        None says end.
        """
        while not self.stopped:
            if self.job is not None and self.number > after and self.metrics is None:
                return self.number, self.job
            await asyncio.sleep(IDLE_POLL_SECONDS)
        return None


def serve(arguments: dict[str, Any]) -> None:
    """Ray Train's ``train_loop_per_worker``: jobs from the mailbox until the group is stopped."""
    import ray

    mailbox, done = arguments["mailbox"], 0
    while (taken := ray.get(mailbox.take.remote(done))) is not None:
        done, job = taken
        if not run_and_report(job, mailbox):
            return
        gc.collect()


class WarmGroup(Fit):
    """A ``fit()`` that ends when it is told to."""

    def __init__(self, layout: Layout, number: int) -> None:
        """``number``: of this process's groups, since Ray keeps the runs of a name in one place."""
        super().__init__(layout, serve, JobMailbox, (layout.ranks,), {}, f"stages-{number}")
        self.spent = False
        """Whether a job needed its restarts: the next one should get a group with all of them."""

    def run(self, job: Job, report: Report) -> News:
        """Run ``job`` on every rank; blocks. Raises StageError."""
        self.answer(job, self.mailbox.post.remote(job))
        news = self.follow(job, report)
        self.spent = bool(news.failures)
        return news
