"""The stages of the line, each listed once: what it runs, what it reads, where it runs and the metric that speaks for it.

A stage, its artifact and its config table share one name, and so do its metrics. Rows of one name are kinds of it (a base is pretrained or
continued, a tokenizer trained or taken over); which one a line has follows from the class of its config. What a stage reads is named by role, and a
role by the artifacts that may play it, of which the first that the line has does. ``reads`` is checked when this module is imported: a stage reads
what stands above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from modelyard.adapters import expectations
from modelyard.adapters.ray import train as ray_train
from modelyard.adapters.ray.data import RayTransform
from modelyard.adapters.ray.partitions import ray_partitions
from modelyard.config import Config
from modelyard.data.contamination import check as contamination
from modelyard.data.contamination import overlap
from modelyard.data.corpus import build as corpus
from modelyard.data.corpus import expectations as corpus_suites
from modelyard.data.corpus import held_out
from modelyard.data.corpus.config import CorpusConfig
from modelyard.data.feedback import gather
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.data.harms import gather as harm_labels
from modelyard.data.instructions import make as instructions
from modelyard.data.instructions.config import TaughtConfig
from modelyard.data.tokens import token_files as tokens
from modelyard.evals import evaluate
from modelyard.evals import gather as benchmarks
from modelyard.evals.recount import recount
from modelyard.evals.suite import EvalsConfig
from modelyard.posttrain import feedme, projector, reward, selection, sft
from modelyard.posttrain.content_classifier import features as harm_features
from modelyard.posttrain.content_classifier import train as content_classifier
from modelyard.posttrain.judged import ai_feedback, rbrm
from modelyard.posttrain.policy import loop as policy
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.posttrain.preference import reference
from modelyard.posttrain.preference import train as preference
from modelyard.posttrain.preference.config import PreferenceConfig
from modelyard.pretrain import continued, import_model, pretrain
from modelyard.release import decision, export
from modelyard.release.limits import LineDecision
from modelyard.scaling import ladder
from modelyard.store.manifest import Artifact
from tasks import reading
from tasks.build import Place
from tasks.stage import Name, On, Reads, Stage, reads


def _with_sources(config: CorpusConfig, place: Place, parents: Mapping[str, Artifact]) -> Config:
    return corpus.defined(config, place.store, place.execution.roots)


def _with_labels(config: harm_labels.HarmLabelsConfig, place: Place, parents: Mapping[str, Artifact]) -> Config:
    return harm_labels.defined(config)


def _with_reading(config: import_model.ImportConfig, place: Place, parents: Mapping[str, Artifact]) -> Config:
    return import_model.defined(config, place.execution.roots, place.store)


def _with_contents(config: benchmarks.GatherConfig, place: Place, parents: Mapping[str, Artifact]) -> Config:
    return benchmarks.defined(config, [place.store.fetch(one) for one in parents.values()], place.execution.roots)


def _with_texts(config: benchmarks.GatherConfig, place: Place, parents: Mapping[str, Artifact]) -> Config:
    return benchmarks.defined_by_texts(config, [place.store.fetch(one) for one in parents.values()], place.execution.roots)


def _for_corpus(config: CorpusConfig, place: Place) -> dict[str, Any]:
    ray_train.release()  # its CPUs are wanted for the filters
    workers = place.execution.threads
    return {
        "transform": RayTransform(workers),
        "partitions": ray_partitions(workers),
        "validate": expectations.validate,
        "store": place.store,
        "roots": place.execution.roots,
    }


def _for_held_out(config: held_out.HeldOutConfig, place: Place) -> dict[str, Any]:
    return {"validate": expectations.validate, "cache": place.store.scratch / "sources"}


def _with_roots(config: Config, place: Place) -> dict[str, Any]:
    return {"roots": place.execution.roots}


def _for_feedback(config: FeedbackConfig, place: Place) -> dict[str, Any]:
    return {"roots": place.execution.roots, "cache": place.store.scratch / "sources"}


def _for_decision(config: LineDecision, place: Place) -> dict[str, Any]:
    return {
        "validate": expectations.validate,
        "recount": recount,
        "name": config.line,
        "unmeasured": config.unmeasured,
        "lost_classifier": config.lost_classifier,
    }


BASE: tuple[Name, ...] = ("base", "imported")
"""The base model: pretrained or continued, else as it was imported."""
BLIND: tuple[Name, ...] = ("no_vision_projector",)
"""What the twin that never saw an image is fine-tuned from, in the place of the projector."""
CLEAN: tuple[Name, ...] = ("no_contam_tokens",)
"""Tokens of the twin that never saw a benchmark item."""
SFT: tuple[Name, ...] = ("selection", "sft")
"""The SFT model that the policy is compared with: the chosen epoch, else the last."""
SECOND: tuple[Name, ...] = ("start_selection", "sft_start")
"""The second SFT model: its chosen epoch, else the last."""
START: tuple[Name, ...] = (*SECOND, *SFT)
"""The model that the policy starts from."""
RELEASED: tuple[Name, ...] = ("policy", *START)
"""The model that is released: the policy, or the SFT model that a line ends with, the second one where there are two."""
DECODER: tuple[Name, ...] = ("imported", "sft")
"""The model whose representations the content classifier reads: the imported one, which releases share, else the SFT model."""
SHOWN: tuple[Name, ...] = ("instructions", "feedback")
"""Feedback of what learns from demonstrations or samples from prompts: people's with a teacher's, else people's."""
COMPARED: tuple[Name, ...] = ("ai_feedback", "feedback")
"""Feedback of the reward model, of the gold reward model and of a policy that learns from comparisons."""
MODELS: Reads = {"base": BASE, "sft": SFT, "policy": RELEASED}
"""The models that are measured."""

STAGES = (
    Stage("corpus", corpus.run, CorpusConfig, {}, on=On.DRIVER, metric="corpus/documents/kept", given=_for_corpus,
          defined=_with_sources, also=("modelyard.adapters.expectations",), suites=corpus_suites.SUITES, retries=2),
    Stage("held_out", held_out.run, held_out.HeldOutConfig, reads("corpus"), on=On.DRIVER, metric="held_out/ratings/items",
          given=_for_held_out, also=("modelyard.adapters.expectations",), suites=held_out.SUITES, choices=reading.text, retries=2),
    Stage("feedback", gather.run, FeedbackConfig, reads("held_out"), on=On.DRIVER, metric="feedback/comparisons/reward",
          given=_for_feedback),
    Stage("benchmarks", benchmarks.run, benchmarks.GatherConfig, reads("feedback", "held_out"), on=On.DRIVER,
          metric="benchmarks/all/items", given=_with_roots, defined=_with_contents),
    Stage("harm_labels", harm_labels.run, harm_labels.HarmLabelsConfig, {}, on=On.DRIVER, metric="harm_labels/texts",
          given=_with_roots, defined=_with_labels),
    Stage("imported", import_model.run, import_model.ImportConfig, {}, on=On.ONE_RANK, metric="imported/model/parameters",
          defined=_with_reading),
    Stage("instructions", instructions.run, TaughtConfig, reads("feedback", "benchmarks"), on=On.ONE_RANK, metric="instructions/kept"),
    Stage("tokens", tokens.run, tokens.TokensConfig, reads("corpus"), on=On.DRIVER, metric="tokens/train/tokens", choices=reading.text),
    Stage("tokens", tokens.run, tokens.BaseTokensConfig, reads("corpus", "imported"), on=On.DRIVER,
          metric="tokens/train/tokens", choices=reading.text),
    Stage("contamination", contamination.run, overlap.ContaminationConfig, reads("corpus", "feedback", "benchmarks"),
          reads("instructions"), on=On.DRIVER, metric="contamination/items/share", choices=reading.text),
    Stage("continuations", benchmarks.run_continuations, benchmarks.GatherConfig, reads("held_out"), on=On.DRIVER,
          metric="continuations/all/items", given=_with_roots, defined=_with_texts),
    Stage("forecast", ladder.run, ladder.AskedScalingConfig, reads("tokens", "continuations"), on=On.ONE_RANK, metric="forecast/main/loss",
          choices=reading.rows),
    Stage("forecast", ladder.run, ladder.ScalingConfig, reads("tokens"), on=On.ONE_RANK, metric="forecast/main/loss", choices=reading.rows),
    Stage("base", pretrain.run, pretrain.PretrainConfig, reads("tokens", "forecast"), metric="base/validation/loss", choices=reading.rows),
    Stage("base", continued.run, continued.ContinueConfig, reads("imported", "tokens"), metric="base/validation/loss", choices=reading.rows),
    Stage("no_contam_tokens", tokens.run, tokens.CleanTokensConfig, reads("corpus", "tokens", "contamination"), on=On.DRIVER,
          metric="tokens/train/tokens", choices=reading.text),
    Stage("no_contam", pretrain.run, pretrain.PretrainConfig, reads("forecast", tokens=CLEAN), metric="base/validation/loss", choices=reading.rows),
    Stage("no_contam", continued.run, continued.ContinueConfig, reads("imported", tokens=CLEAN), metric="base/validation/loss", choices=reading.rows),
    Stage("projector", projector.run, projector.ProjectorConfig, reads(base=BASE, feedback=SHOWN), metric="projector/validation/loss"),
    Stage("no_vision_projector", projector.run, projector.ProjectorConfig, reads(base=BASE, feedback=SHOWN),
          metric="projector/validation/loss"),
    Stage("sft", sft.run, sft.SFTConfig, reads("tokens", base=BASE, feedback=SHOWN), reads("projector"),
          metric="sft/validation/loss", choices=reading.mixed_in),
    Stage("no_vision", sft.run, sft.SFTConfig, reads("tokens", base=BASE, feedback=SHOWN), reads(projector=BLIND),
          metric="sft/validation/loss", choices=reading.mixed_in),
    Stage("harm_features", harm_features.run, harm_features.FeaturesConfig, reads("harm_labels", decoder=DECODER), on=On.ONE_RANK,
          metric="harm_features/windows"),
    Stage("content_classifier", content_classifier.run, content_classifier.ContentClassifierConfig,
          reads("harm_labels", "harm_features"), on=On.DRIVER, metric="content_classifier/any/auprc"),
    Stage("ai_feedback", ai_feedback.run, ai_feedback.AIFeedbackConfig, reads("sft", "feedback"), metric="ai_feedback/comparisons/made"),
    Stage("reward", reward.run, reward.RewardConfig, reads(body=("sft",), feedback=COMPARED), metric="reward/test/accuracy"),
    Stage("gold", reward.run, reward.RewardConfig, reads(body=BASE, feedback=COMPARED), metric="gold/test/accuracy"),
    Stage("selection", selection.run, selection.SelectionConfig, reads("sft", "reward", "feedback"), metric="selection/reward"),
    Stage("feedme", feedme.run, feedme.FeedMEConfig, reads("reward", sft=SFT, feedback=SHOWN), metric="feedme/sampled"),
    Stage("sft_start", sft.run, sft.SFTConfig, reads("tokens", base=BASE, feedback=("feedme", *SHOWN)),
          metric="sft/validation/loss", choices=reading.mixed_in),
    Stage("start_selection", selection.run, selection.SelectionConfig, reads("reward", "feedback", sft=("sft_start",)),
          metric="selection/reward"),
    Stage("rbrm", rbrm.run, rbrm.RBRMConfig, reads("reward", sft=START), metric="rbrm/fit/right"),
    Stage("reference", reference.run, reference.ReferenceConfig, reads(sft=START, feedback=COMPARED), metric="reference/comparisons"),
    Stage("before", evaluate.run, EvalsConfig,
          reads("benchmarks", "corpus", "tokens", "contamination", base=BASE, sft=SFT),
          reads("no_contam", "no_vision", scorer=("gold",)),
          metric="evals/sft/*", choices=reading.measured),
    Stage("policy", policy.run, OnPolicyConfig, reads("reward", "tokens", sft=START, feedback=SHOWN), reads("rbrm"),
          metric="policy/objective/reward", choices=reading.pretraining_mix),
    Stage("policy", preference.run, PreferenceConfig, reads("reference", "reward", "tokens", sft=START, feedback=COMPARED),
          metric="policy/objective/reward", choices=reading.measured),
    Stage("results", evaluate.run, EvalsConfig,
          reads("benchmarks", "corpus", "tokens", "contamination", **MODELS),
          reads("before", "no_contam", "no_vision", scorer=("gold",), sft_start=SECOND),
          metric="evals/policy/*/win_rate_over_sft", choices=reading.measured),
    Stage("baseline", evaluate.run, EvalsConfig, reads("benchmarks", "corpus", "contamination", policy=RELEASED, judge=SFT),
          choices=reading.measured),
    Stage("decision", decision.run, LineDecision,
          reads("corpus", "feedback", "tokens", "contamination", "results", **MODELS),
          reads("benchmarks", "reward", "gold", "forecast", "no_contam", "projector", "no_vision_projector", "no_vision",
                "content_classifier", "instructions", "ai_feedback", "feedme", "rbrm", "baseline", seeing=("sft",), begun=("sft_start",),
                sft_start=SECOND),
          on=On.DRIVER, metric="release/preference/win_rate_over_sft", given=_for_decision, choices=reading.described,
          also=("modelyard.adapters.expectations", "modelyard.evals.recount"),
          suites=("results/metrics", "results/shares")),
    Stage("export", export.run, export.ExportConfig, reads(policy=RELEASED), on=On.DRIVER),
)  # fmt: skip

METRICS = {stage.name: stage.metric for stage in STAGES}
"""Stage -> the metric that stands for it."""


def check(stages: Sequence[Stage]) -> None:
    """Raise ValueError unless every stage reads nothing but what stands above it, and every name has a row."""
    above: set[Name] = set()
    for stage in stages:
        for role, players in {**stage.reads, **stage.may_read}.items():
            if unknown := [name for name in players if name not in above]:
                raise ValueError(f"stage {stage.name}: {role}: {unknown[0]} does not stand above it in the list of stages")
        above.add(stage.name)
    if missing := set(get_args(Name)) - above:
        raise ValueError(f"stage {sorted(missing)[0]}: has no row in the list of stages")


check(STAGES)
