"""Samples drawn by a server such as vLLM from the policy's exported weights, in place of the engine that trains.

Before an iteration whose weights are new they are written as a Hugging Face directory, which the server reads: one
that runs is asked to reload (:meth:`~modelyard.model.token_server.TokenServer.reload`); one that is ours is started
with the first directory, and where it cannot reload it is ended and started with the next. Every completion has a seed
of its own, a function of the iteration's seed and its place: copies of one prompt differ, and a restarted run asks
again for the samples of the iteration that it lost. Whether the same come back is the server's matter; where its sums
depend on what else it decodes, a resumed run is not the uninterrupted one bit for bit. Rank 0 exports and asks; the
others hear what came. Left out: weights sent over NCCL, and a server that sleeps on the GPUs that train (give it its
own).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from modelyard.child_server import started_engine
from modelyard.execution import SERVER, ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import export_hf
from modelyard.model.inference.generate import Generation
from modelyard.model.network import disks
from modelyard.model.network.first_rank import Beat, beating_on_first_rank, on_first_rank
from modelyard.model.token_server import NoReloadError, TokenServer
from modelyard.model.training.engine import Engine
from modelyard.model.training.trainer import History
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.posttrain.policy.rollout import Draw, SamplingConfig, Told, nobody, own

RANKED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")
"""Variables that make a program one of several ranks, which a server beside them is not."""
DEVELOPMENT = {"VLLM_SERVER_DEV_MODE": "1"}
"""With it vLLM takes other weights while it runs."""
STARTING_SECONDS = 1800.0
"""A server that does not answer for so long has not started: a large model is read and compiled first."""


@contextmanager
def drawing(config: OnPolicyConfig, tokenizer: Path, directory: Path, execution: ExecutionConfig) -> Iterator[Draw]:
    """Who draws the samples of ``config``; a server that was started for it ends with the context. Every rank enters.

    ``tokenizer``: the model directory that the policy starts from; ``directory``: for exports and the server's log.

    Raises ValueError where nothing says which server, or the ranks have no disk in common.
    """
    if config.rollouts.backend == "own":
        yield own
        return
    if not execution.sampler:
        raise ValueError("policy.rollouts.backend 'server': execution.sampler says nothing")
    if not disks.is_shared():
        raise ValueError("policy.rollouts.backend 'server': weights are exported from execution.scratch, which must be one for all ranks")
    on_first_rank(lambda: _clear(directory))
    with ExitStack() as running:
        yield ServedPolicy(execution, tokenizer, directory.absolute(), running)


def _clear(directory: Path) -> None:
    """Delete the exports that a killed run has left."""
    for one in (*directory.glob("step_*"), directory / "model"):
        shutil.rmtree(one, ignore_errors=True)


class ServedPolicy:
    """Draws by a server that is given the policy's weights whenever they are new."""

    def __init__(self, execution: ExecutionConfig, tokenizer: Path, directory: Path, running: ExitStack) -> None:
        """``running`` ends what is started. Nothing is, before something is to be drawn."""
        self.execution, self.tokenizer, self.directory = execution, tokenizer, directory
        self._running = running
        self._runs_elsewhere = SERVER.fullmatch(execution.sampler) is not None
        self._step: int | None = None
        self._server: TokenServer | None = None
        self._read: list[Path] = []
        """Directories that the server has read: the first, from which it may read again, and the newest."""

    def __call__(
        self, policy: Engine, prompts: Sequence[list[int]], seed: int, sampling: SamplingConfig, report: Told = nobody, /
    ) -> Generation:
        """Completions by the server, the same on every rank. Raises ValueError and ServerError, on every rank, where it gives none."""
        if is_new := self._step != policy.step:
            model_directory.write(policy, self.tokenizer, History(), self.directory / "model")
            self._step = policy.step

        def ask(beat: Beat) -> Generation:
            if is_new:
                self._give(self._exported(policy.step), beat)
            assert self._server is not None

            def heard(done: int) -> None:
                beat()
                report(done, len(prompts))

            return self._server.complete(
                prompts,
                seeds(seed, len(prompts)),
                max_new_tokens=sampling.max_new_tokens,
                end=sampling.end,
                temperature=sampling.temperature,
                beat=heard,
            )

        return beating_on_first_rank(ask)

    def _exported(self, step: int) -> Path:
        """The model directory that was just written as a Hugging Face directory, which replaces it."""
        from transformers.utils import logging

        logging.disable_progress_bar()
        model, out, encoder = self.directory / "model", self.directory / f"step_{step:08d}", Encoder(self.tokenizer)
        shutil.rmtree(out, ignore_errors=True)
        export_hf(model, out, start_id=encoder.start, end_id=encoder.ends, pad_id=encoder.padding)
        shutil.rmtree(model)
        return out

    def _give(self, exported: Path, beat: Beat) -> None:
        """Have a server whose weights are those of ``exported``."""
        if self._server is None and self._runs_elsewhere:
            self._server = TokenServer(self.execution.sampler, self.execution.sampler_requests)
            self._running.callback(self._server.close)
        if self._reloaded(exported, beat):
            self._forget(self._read[1:])
        else:
            self._running.close()
            self._forget(self._read)
            self._start(exported, beat)
        self._read.append(exported)

    def _reloaded(self, exported: Path, beat: Beat) -> bool:
        """Whether a server that runs took the weights. Raises ValueError where one that is not ours does not."""
        if self._server is None or not self.execution.sampler_reload:
            return False
        try:
            self._server.reload(exported, beat)
        except NoReloadError as error:
            if self._runs_elsewhere:
                raise ValueError(f"{error}; it must take other weights while it runs (vLLM: VLLM_SERVER_DEV_MODE=1)") from None
            return False
        return True

    def _start(self, exported: Path, beat: Beat) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in RANKED} | DEVELOPMENT
        log = self.directory / "server.log"
        started = started_engine(self.execution.sampler, exported, log, environment, seconds=STARTING_SECONDS, beat=beat)
        self._server = TokenServer(self._running.enter_context(started), self.execution.sampler_requests)
        self._running.callback(self._server.close)

    def _forget(self, directories: Sequence[Path]) -> None:
        """Delete exports that nobody reads any more."""
        for one in directories:
            shutil.rmtree(one, ignore_errors=True)
        self._read = [one for one in self._read if one not in directories]


def seeds(seed: int, count: int) -> list[int]:
    """A seed below 2^32 for each of ``count`` completions."""
    return [int(np.random.SeedSequence([seed, place]).generate_state(1)[0]) for place in range(count)]
