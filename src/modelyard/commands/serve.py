"""``modelyard serve``: a model behind an OpenAI-compatible server, until interrupted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import at_least, between
from modelyard.commands.served_filter import filter_of

if TYPE_CHECKING:
    from modelyard.serving.content_filter import ContentFilter
    from modelyard.serving.served_model import ServedModel

MODEL = typer.Argument(help="models:/name@alias, or a model directory of ours or of Hugging Face.", show_default=False)
NAME = typer.Option(help="What clients call it; without it, MODEL's own name.")
HOST = typer.Option(help="Address to listen on; the server asks nobody for a key, so behind 127.0.0.1 belongs a proxy that does.")
ROWS = typer.Option(help="Requests answered at once; memory for their keys and values grows with the longest.", callback=at_least(1))
CONTEXT = typer.Option(help="Most tokens of a conversation and its answer; without it, the model's own.", callback=at_least(2))
WAITING = typer.Option(help="Requests that may wait for their turn; one more is told to come again (429).", callback=at_least(0))
FOLLOW = typer.Option(help="Seconds between two looks at the alias; 0: it is looked up once.", callback=at_least(0))

RELOADS = typer.Option(
    "--reloads",
    help="Take the weights of another directory when asked as vLLM's development mode is (/collective_rpc): for a trainer that has its "
    "samples drawn here. Whoever reaches the server can ask.",
)

LOOK_SECONDS = 10.0
"""Between two looks at a trial where no alias is followed."""

CLASSIFIER = typer.Option(
    help="What holds prompts and answers. 'release': the version's content classifier, else its corpus's abuse model; a directory with "
    "abuse.npz; 'none'."
)
THRESHOLD = typer.Option(
    help="Probability from which on a text is held; without it, each category's own, and 0.5 of an abuse model.",
    callback=between(0, 1, ends=False),
)

BOOK = typer.Option(help="Database of answers and feedback, as a URL of SQLAlchemy's; 'none'. Without it, .modelyard/serving.db.")
KEEP = typer.Option(help="Hours that an answer is kept whose user did not agree to more.", callback=at_least(0))

ENGINE = typer.Option(
    help="What decodes: 'own', or a command that serves a Hugging Face directory as vLLM does, given DIRECTORY --host --port: 'vllm serve'."
)
TRACES = typer.Option(
    help="MLflow experiment that gets a trace of every answer: where its time went, and its texts where the user agreed and a book keeps them. "
    "Without it, none.",
    metavar="EXPERIMENT",
)

CANARY = typer.Option(help="Version that answers a share of the users until what they say shows it worse, given like MODEL.")
SHADOW = typer.Option(help="Version that is asked what MODEL is asked and answers nobody, given like MODEL.")
SHARE = typer.Option(help="Share of users (canary) or requests (shadow); without it 0.05 and 1.", callback=between(0, 1))
ALPHA = typer.Option(help="Probability with which a version as good as MODEL is stopped, by each test.", callback=between(0, 1, ends=False))


def serve(
    model: Annotated[str, MODEL],
    name: Annotated[str | None, NAME] = None,
    host: Annotated[str, HOST] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.", callback=between(0, 65535))] = 8000,
    rows: Annotated[int, ROWS] = 8,
    context: Annotated[int | None, CONTEXT] = None,
    waiting: Annotated[int, WAITING] = 64,
    threads: Annotated[int, typer.Option(help="CPU threads.", callback=at_least(1))] = 2,
    engine: Annotated[str, ENGINE] = "own",
    follow: Annotated[float, FOLLOW] = 10.0,
    reloads: Annotated[bool, RELOADS] = False,
    classifier: Annotated[str, CLASSIFIER] = "release",
    threshold: Annotated[float | None, THRESHOLD] = None,
    book: Annotated[str | None, BOOK] = None,
    keep_hours: Annotated[float, KEEP] = 24.0,
    traces: Annotated[str | None, TRACES] = None,
    canary: Annotated[str | None, CANARY] = None,
    shadow: Annotated[str | None, SHADOW] = None,
    share: Annotated[float | None, SHARE] = None,
    alpha: Annotated[float, ALPHA] = 0.05,
) -> None:
    """Answer /v1/chat/completions and /v1/completions, whole or streamed; requests share decoding steps.

    What an alias names is looked up again every few seconds: another version takes over without a request lost.
    """
    from contextlib import ExitStack

    from modelyard.adapters.mlflow.model_source import local_directory
    from modelyard.adapters.mlflow.server import tracking_uri
    from modelyard.adapters.mlflow.traces import Traces
    from modelyard.commands.evaluate import CACHE
    from modelyard.commands.feedback import default_book
    from modelyard.execution import ExecutionConfig
    from modelyard.model.inference.slots import Slots
    from modelyard.model.subject import Subject
    from modelyard.serving.beside import Beside, Referee
    from modelyard.serving.book import Book
    from modelyard.serving.conversation import Serving
    from modelyard.serving.current import Current, Follower
    from modelyard.serving.metrics import Metrics
    from modelyard.serving.served_model import ServedModel
    from modelyard.serving.server import run
    from modelyard.serving.trial import Judge, TrialRecord

    tried = trial_of(canary, shadow, share, book)
    if context and engine != "own":
        raise ValueError(
            "--context: another engine has an option of its own for it, which belongs into --engine (vLLM's is --max-model-len)"
        )
    if reloads and model.startswith("models:/"):
        raise ValueError("--reloads: MODEL is a version of the registry, which another directory's weights must not answer for")

    with ExitStack() as ended:

        def held(spec: str, judged: bool) -> ContentFilter | None:
            return filter_of(spec, classifier, threshold, threads) if judged else None

        def loaded(directory: Path, spec: str, called: str, judged: bool) -> ServedModel:
            version = spec.rpartition("/")[2] if spec.startswith("models:/") else ""
            if engine != "own":
                return elsewhere(called, directory, engine, rows + waiting, held(spec, judged), version)
            subject = Subject.open(called, directory, ExecutionConfig(threads=threads), micro_batch=rows)
            slots = Slots(subject.engine, rows, context)
            if line := slots.shortage():
                say(line)
            return ServedModel.here(called, subject, slots, waiting, held(spec, judged), version)

        def opened(spec: str, called: str, judged: bool) -> Current:
            """A model, with what holds its texts where it is ``judged`` by itself; its alias is followed where it has one."""

            def load(version: str) -> ServedModel:
                return loaded(local_directory(version, CACHE / "models"), version, called, judged)

            version = named(spec)
            current = Current(called, load(version), version)
            if follow > 0 and spec.startswith("models:/") and "@" in spec:
                ended.callback(Follower(current, partial(named, spec), load, follow, say).close)
            return current

        current = opened(model, name or name_of(model), judged=True)
        other = opened(tried.model, name_of(tried.model), judged=False) if tried else None  # the served version's filter judges both
        kept = None if book == "none" else Book(default_book() if book is None else book, keep_hours)
        beside = None
        if tried and other and kept:
            record = TrialRecord(kept)
            beside = Beside(other, tried.kind, tried.share, record)
            ended.callback(Referee(current, beside, Judge(record, alpha), follow or LOOK_SECONDS, say).close)
        tracer = Traces(tracking_uri(), traces, say, kept) if traces else None
        if tracer:
            ended.callback(tracer.close)
        reload = partial(loaded, spec=model, called=current.name, judged=True) if reloads else None
        run(Serving(current, kept, Metrics(), beside, tracer, reload), host, port, say)


def elsewhere(name: str, directory: Path, command: str, most: int, content_filter: ContentFilter | None, version: str) -> ServedModel:
    """The model of a Hugging Face directory, decoded by a server that ``command`` starts and that ends with the model's last answer.

    Raises ValueError where the directory is none, ServerError where the server does not start.
    """
    from contextlib import ExitStack

    from modelyard.adapters.home import opened
    from modelyard.child_server import started_engine
    from modelyard.serving.served_model import Reader, ServedModel
    from modelyard.serving.upstream import Upstream

    reader = Reader.of_directory(directory)
    with ExitStack() as running:
        url = running.enter_context(started_engine(command, directory, opened() / f"engine-{reader.weights[:16]}.log"))
        upstream = Upstream(url, reader.encoder.decode, most)
        upstream.end = running.pop_all().close
    return ServedModel(name, reader, upstream, content_filter, version)


class Tried(NamedTuple):
    """A version that is to be tried."""

    model: str
    kind: Literal["canary", "shadow"]
    share: float


def trial_of(canary: str | None, shadow: str | None, share: float | None, book: str | None) -> Tried | None:
    """The version on trial, if any. Raises ValueError where the options do not belong together."""
    if canary and shadow:
        raise ValueError("--canary and --shadow: one version at a time is tried")
    if share is not None and not (canary or shadow):
        raise ValueError("--share: belongs to --canary or --shadow")
    if (canary or shadow) and book == "none":
        raise ValueError("--book none: a version is tried by what is kept of answers")
    if canary:
        return Tried(canary, "canary", 0.05 if share is None else share)
    return Tried(shadow, "shadow", 1.0 if share is None else share) if shadow else None


def name_of(model: str) -> str:
    """What clients call a model that has no other name."""
    return model.removeprefix("models:/") if model.startswith("models:/") else Path(model).name


def named(model: str) -> str:
    """The version that an alias names now, by its number: weights, number and content filter of a model are those of one answer of the registry.
    A directory as it is. Raises NothingReleasedError where an alias names nothing."""
    from modelyard.adapters.mlflow.model_source import NoVersionError, registered_version
    from modelyard.serving.current import NothingReleasedError

    if not model.startswith("models:/"):
        return model
    try:
        return registered_version(model)
    except NoVersionError as error:
        raise NothingReleasedError(str(error)) from None
