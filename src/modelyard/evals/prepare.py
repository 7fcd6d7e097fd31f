"""What the evals stage asks, of whom, and what judges: made of its inputs before a model is opened."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from modelyard.evals import gather, packed
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.remembered import Remembered
from modelyard.evals.scanner import scan
from modelyard.evals.suite import EvalsConfig
from modelyard.evals.tools import Tools, bound
from modelyard.execution import ExecutionConfig
from modelyard.formats import abuse
from modelyard.formats.contamination import read_report
from modelyard.formats.results import measured as measured_models
from modelyard.formats.stored_images import ImageFiles
from modelyard.formats.token_rows import TokenRows
from modelyard.judges.judge import Judge
from modelyard.judges.open_judge import open_judge
from modelyard.judges.sandbox.run import run_programs
from modelyard.model import model_directory
from modelyard.model.asked import InChat, Sampled
from modelyard.model.encoder import Encoder
from modelyard.model.network.first_rank import on_first_rank
from modelyard.model.scorer_model import ScorerModel
from modelyard.model.subject import Subject
from modelyard.store.file_hash import sha256_tree

MODELS = ("policy", "sft", "base", "no_contam", "no_vision")
MICRO_BATCH = 64


class Stage(NamedTuple):
    """What is asked, of whom, and what judges."""

    models: tuple[str, ...]
    benchmarks: list[Benchmark]
    tools: Tools
    contaminated: Mapping[str, Collection[str]]
    """Benchmark -> items found in a training set."""
    images: ImageFiles
    """What the benchmarks' items show."""

    def asked_of(self, model: Remembered) -> list[Benchmark]:
        """The benchmarks that a model can answer: those with images only where it is shown any."""
        return [benchmark for benchmark in self.benchmarks if model.sees or not benchmark.seen]

    @property
    def judged_later(self) -> list[Benchmark]:
        """Benchmarks whose scorer model is loaded when the models are gone."""
        return [benchmark for benchmark in self.benchmarks if benchmark.method == "scalar"]

    def compared(self, model: str) -> list[Benchmark]:
        """Benchmarks on which the policy's completions are put to ``model``, for KL(policy || SFT)."""
        wanted = {"policy", "sft"} <= set(self.models) and model in ("policy", "sft")
        if hot := [one.name for one in self.judged_later if wanted and one.decoding.temperature != 1]:
            raise ValueError(f"{hot[0]}: KL is measured on its completions, so its temperature must be 1")
        return self.judged_later if wanted else []


class LateScorer:
    """A scorer model that is loaded when it is first asked."""

    def __init__(self, directory: Path, execution: ExecutionConfig) -> None:
        self.directory, self.execution = directory, execution
        self.weights = sha256_tree(directory / "checkpoint")
        self.precision = model_directory.read(directory).precision

    @cached_property
    def model(self) -> ScorerModel:
        """The model itself."""
        return ScorerModel(self.directory, self.execution, MICRO_BATCH)

    def completed(self, completions: Sequence[Sampled], chat: bool) -> list[float]:
        """Value of each prompt with its completion, closed where it was cut short as training closes texts and turns."""
        encoder = self.model.encoder
        end = encoder.turn_end if chat and encoder.template else encoder.document_end
        closed = [[*one.prompt, *one.tokens, *([] if one.tokens[-1] == end else [end])] for one in completions]
        return self.model.scores(closed)


def prepared(config: EvalsConfig, inputs: Mapping[str, Path], execution: ExecutionConfig, kept: Path | None = None) -> Stage:
    """The stage's benchmarks with the identity of what judges each, and the tools to judge by; ``kept`` has what the judge said."""
    models = measured_models(MODELS, inputs)
    benchmarks = gather.load(inputs["benchmarks"])
    if models == ("policy",):
        benchmarks = [benchmark for benchmark in benchmarks if benchmark.of_text]
    rows = None
    if "tokens" in inputs:
        tokenizer = Encoder(inputs["tokens"])
        for role in (*models, *(["scorer"] if "scorer" in inputs else [])):
            tokenizer.require_same(role, inputs[role])
        rows = TokenRows(inputs["tokens"], "validation")[: config.validation_rows]
        benchmarks = [*packed.benchmarks(rows, config.calibration_rows, config.calibration_positions), *benchmarks]
    judge = opened(config, inputs, execution, kept)
    tools = Tools(
        sandbox=config.sandbox,
        run=lambda programs, limits: on_first_rank(lambda: run_programs(programs, limits)),
        scan=lambda programs: on_first_rank(lambda: scan(programs)),
        judge=InChat(judge.model) if judge and judge.asking.chat else judge.model if judge else None,
        sorter=judge,
        classifier=abuse.load(inputs["corpus"]) if "corpus" in inputs else None,
        scorer=LateScorer(inputs["scorer"], execution) if "scorer" in inputs else None,
        rows=rows,
    )
    contaminated = {name: checked.content for name, checked in read_report(inputs["contamination"]).items()}
    stage = Stage(models, [bound(benchmark, tools) for benchmark in benchmarks], tools, contaminated, ImageFiles(inputs["benchmarks"]))
    stage.compared("policy")  # refuses before anything is asked
    return stage


def opened(config: EvalsConfig, inputs: Mapping[str, Path], execution: ExecutionConfig, kept: Path | None) -> Judge | None:
    """The judge; None where the config names none."""
    if config.judge is None:
        return None
    micro_batch, directory = config.judge.micro_batch, inputs.get("judge", inputs.get("sft"))
    if directory is None and config.judge.kind == "policy":
        raise ValueError("evals.judge: kind 'policy' is the SFT model, which is not among the inputs")
    return open_judge(config.judge, execution, lambda: Subject.open("sft", Path(directory or ""), execution, micro_batch), kept)
