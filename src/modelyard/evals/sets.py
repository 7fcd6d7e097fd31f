"""Which benchmarks a line answers, as configuration, and the benchmarks that follow from it.

A benchmark is named (a set of :mod:`modelyard.evals.catalog`, the corpus's held-out sets among them) or described (a
user's own file, :mod:`modelyard.evals.own`), with what is to differ: number of examples, of items, of new tokens. All
become the same kind of value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from modelyard.complaint import first_error
from modelyard.config import Config
from modelyard.evals import catalog, labelled, own, ways
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.rows import MissingDataError
from modelyard.evals.item import LabelledReply
from modelyard.evals.own import OwnSet
from modelyard.evals.reviewed import graded_by
from modelyard.evals.sampling import checked_limit, sampled
from modelyard.judges.rubric import NamedRubric
from modelyard.model.asked import ChooseBy
from modelyard.store.inputs import find_input, inputs_directory

Limit = Annotated[int | float, AfterValidator(checked_limit)]
"""A number of items, or a share of them."""


class BenchmarkConfig(OwnSet):
    """One benchmark: a name of the catalog, or with ``file`` a set of the user's own, and what is to differ."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    """What results, gates and card call it."""
    catalog: str = ""
    """Its name in the catalog, where it is called otherwise here: one set can then be asked in two ways."""
    data: str = Field(default="", exclude=True)
    """Directory of its files; "": ``evals.data``. Where files lie is no part of what is measured."""
    shots: int | None = Field(default=None, ge=0)
    """Examples in the prompt; absent: the benchmark's own number."""
    limit: Limit | None = None
    """Most items, or a share of them below 1; a seeded sample in which every group has its share; absent: ``evals.limit``."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest output, where text is generated."""
    temperature: float | None = Field(default=None, ge=0)
    """Of generated text."""
    samples: int | None = Field(default=None, ge=1)
    """Outputs an item (pass@k)."""
    chat: bool | None = None
    """Ask in the model's chat template, or as plain text; absent: as the benchmark does."""
    choose_by: ChooseBy | None = None
    """Multiple choice: take the likeliest option, or parse the letter of a generated reply; absent: ``likelihood``."""
    explain: bool = False
    """Chain of thought: an explanation is drawn first, then the answer."""
    blank: bool = False
    """Show every image grey: the control that says what can be answered without seeing."""
    rubric: NamedRubric | None = None
    """Classes into which ``evals.judge`` sorts the replies."""
    graders: tuple[NamedRubric, ...] = ()
    """Rubrics by which ``evals.judge`` grades the replies, where a benchmark is graded: TruthfulQA's, free answers of exams."""
    labelled: str = ""
    """JSON lines of replies that people have labelled (``output``; ``label``: ``refusal``, ``answer`` or ``harmless``), beside the config
    or below ``execution.inputs``: with parser ``refusal`` they give the error by which the gates correct and widen its shares."""

    @model_validator(mode="after")
    def _known(self) -> BenchmarkConfig:
        if self.catalog and (self.file or catalog.known(self.name)):
            raise ValueError("catalog: names a set of the catalog for a benchmark that is not called like one and has no file")
        if self.file and catalog.known(self.name):
            raise ValueError("is a benchmark of the catalog; give your own file another name")
        if not self.file and not catalog.known(self.set_name):
            raise ValueError(
                f"{self.set_name if self.catalog else ''} not known, and it has no file; "
                f"there are {', '.join(catalog.names())}{catalog.meant(self.set_name)}".strip()
            )
        return self

    @property
    def of_images(self) -> bool:
        """Whether its items hold images."""
        return bool(self.images) or (not self.file and catalog.canonical(self.set_name) in catalog.images.BENCHMARKS)

    @property
    def set_name(self) -> str:
        """Its name in the catalog."""
        return self.catalog or self.name


def _tables(value: Any, info: ValidationInfo) -> Any:
    """Names and tables as benchmarks; a table of tables holds its names as keys. Raises ValueError naming the benchmark."""
    if isinstance(value, Mapping):
        value = [{"name": name, **table} if isinstance(table, Mapping) else table for name, table in value.items()]
    if not isinstance(value, list | tuple):
        return value
    return [_named({"name": one} if isinstance(one, str) else one, info) for one in value]


def _named(table: Any, info: ValidationInfo) -> Any:
    """The table as a benchmark; what is wrong with it is said with its name."""
    if not isinstance(table, Mapping) or not table.get("name"):
        return table
    try:
        return BenchmarkConfig.model_validate(dict(table), context=info.context)
    except ValidationError as error:
        raise ValueError(f"{table['name']}: {first_error(error, kind=BenchmarkConfig)}".replace(": config: ", ": ")) from None


Tables = list[BenchmarkConfig | str] | dict[str, BenchmarkConfig]
BenchmarkConfigs = Annotated[tuple[BenchmarkConfig, ...], BeforeValidator(_tables, json_schema_input_type=Tables)]
"""``["last_word", {name = "mmlu", shots = 5}]``, or one table each: ``[evals.benchmarks.mmlu]``, which a config that
``extends`` another adds to."""


class SetsConfig(Config):
    """Which benchmarks, and how much of them."""

    seed: int = Field(ge=0)
    """Of the samples that limits draw, and of bootstraps."""
    benchmarks: BenchmarkConfigs = Field(min_length=1)
    """What base, SFT model, policy and production answer."""
    data: str = Field(default="", exclude=True)
    """Directory of public benchmarks' files, below ``execution.inputs``; a corpus brings its own sets."""
    limit: Limit | None = None
    """Most items, or a share below 1, of every benchmark that has no limit of its own; absent: all."""

    @model_validator(mode="after")
    def _once(self) -> SetsConfig:
        names = [catalog.canonical(one.name) for one in self.benchmarks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"benchmarks: {twice[0]!r} is named twice")
        return self

    @property
    def names(self) -> list[str]:
        """Names of the benchmarks, as results call them."""
        return [one.name if one.file or one.catalog else catalog.canonical(one.name) for one in self.benchmarks]


def carried(config: BenchmarkConfig, artifacts: Sequence[Path]) -> Benchmark | None:
    """The benchmark where one of the line's own artifacts (held_out, feedback) carries its items and the config says
    nothing else; else None."""
    for directory in artifacts if not config.file and not config.data else ():
        try:
            return catalog.build(config.set_name, directory, shots=config.shots)
        except MissingDataError:
            continue
    return None


def build(config: BenchmarkConfig, sets: SetsConfig, artifacts: Sequence[Path], roots: Sequence[str]) -> Benchmark:
    """The value that a table means; a user's files are looked for below each of ``roots``.

    Raises:
        ValueError: its data are missing or cannot be used, or what is to differ has no meaning for it.
    """
    if config.file:
        built = own.build(config.name, config, roots, config.shots or 0)
    else:
        built = carried(config, artifacts) or catalog.build(config.set_name, _data(config, sets, roots), shots=config.shots)
        built = built.model_copy(update={"name": config.name}) if config.catalog else built
    items = sampled(built.items, config.limit or sets.limit, sets.seed)
    replies = _labelled(built, config, roots) if config.labelled else ()
    return changed(built.model_copy(update={"items": items, "labelled": replies}), config)


def _labelled(benchmark: Benchmark, config: BenchmarkConfig, roots: Sequence[str]) -> tuple[LabelledReply, ...]:
    """The replies that people have labelled. Raises ValueError where the benchmark's parser sorts otherwise, or the file cannot be used."""
    if benchmark.parser != labelled.PARSER:
        raise ValueError(
            f"benchmark {config.name}: labelled: is for the parser {labelled.PARSER}, and this one reads by {benchmark.parser}"
        )
    return labelled.read(find_input(config.labelled, roots, f"benchmark {config.name}"))


def _data(config: BenchmarkConfig, sets: SetsConfig, roots: Sequence[str]) -> Path:
    """Directory of a public benchmark's files."""
    named = config.data or sets.data
    return find_input(named, roots, f"data of benchmark {config.name}") if named else inputs_directory(roots[-1])


def changed(benchmark: Benchmark, config: BenchmarkConfig) -> Benchmark:
    """The benchmark asked another way, with other decoding or a rubric. Raises ValueError where that has no meaning."""
    benchmark = ways.asked(benchmark, config.choose_by, config.chat, config.explain, config.blank)
    if config.graders:
        if benchmark.method != "graded":
            raise ValueError(f"benchmark {config.name}: is not graded, so graders have no meaning; a rubric sorts its replies")
        benchmark = graded_by(benchmark, config.graders)
    keys = ("max_new_tokens", "temperature", "samples")
    decoding = {key: value for key in keys if (value := getattr(config, key)) is not None}
    update: dict[str, Any] = {"rubric": config.rubric} if config.rubric else {}
    if (decoding or update) and not benchmark.decoding.max_new_tokens:
        raise ValueError(f"benchmark {config.name}: generates nothing, so {next(iter({**decoding, **update}))} has no meaning")
    made = benchmark.decoding.model_copy(update=decoding)
    if made.samples > 1 and made.temperature == 0:
        raise ValueError(f"benchmark {config.name}: several samples at temperature 0 are all the same; give a temperature")
    return benchmark.model_copy(update={**update, "decoding": made})
