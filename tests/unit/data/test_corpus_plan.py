"""A plan's arithmetic by hand, and the costs of a small corpus."""

import json
import random
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from modelyard.commands.app import main
from modelyard.config import load_config
from modelyard.data.build import DataConfig, store_of
from modelyard.data.corpus import trained
from modelyard.data.corpus.costs import Costs, measure
from modelyard.data.corpus.plan import Wanted, plan
from modelyard.data.corpus.shard import BlocksConfig
from modelyard.data.filters import abuse
from modelyard.data.filters.abuse_teacher import Teacher
from modelyard.exit_codes import BAD_INPUT, DONE

ROOT = Path(__file__).parents[3]
COSTS = Costs(
    sources=["web"], megabytes=4.0, documents=1000, kept=0.5, read=0.01, screen=1.0, write=0.05, resolve=1e-4, search=2e-5, merge=1e-5,
    compare=1e-6, pairs=1e-6, output=0.4, index=1000.0, columns=33, filter_bytes=2**29, block_bytes=3.0,
)  # fmt: skip
BLOCKS = BlocksConfig(shard_megabytes=512.0, block_megabytes=32.0, validation=0.02, cluster_similarity=0.4, seed=0)
WANTED = Wanted(bytes=2.048e9, workers=4, rate=0.5, memory_gib=1.0, disk_reads=1000.0)
WORDS = [a + b for a in ("river", "stone", "cloud", "field", "water", "wind") for b in ("side", "bank", "house", "maker", "keeper")]


def test_plan_of_64_blocks_is_what_a_hand_works_out() -> None:
    made = plan(COSTS, WANTED, BLOCKS)
    assert (made.blocks, made.shards, made.documents, made.kept) == (64, 4, 512_000, 256_000)
    assert made.runs == 8.0, "two levels, 3.5 runs each, and the newest"
    assert made.comparisons == pytest.approx(512_000 * 1e-6 * 128_000)
    hours = {step.name: step.hours * 3600 for step in made.steps}
    assert hours["read"] == pytest.approx(20.48)
    assert hours["write, and judge"] == pytest.approx(102.4)
    assert hours["screen"] == pytest.approx(512.0)
    deeper = np.log2(32_000) / 22
    assert hours["look-up: search"] == pytest.approx(512_000 * (1e-4 + 8 * 2e-5 * deeper) / 4)
    assert hours["look-up: merge the index"] == pytest.approx(256_000 * 1e-5 * 2 / 4)
    assert hours["look-up: compare"] == pytest.approx(65_536 * 1e-6 / 4)
    assert hours["read the index from disk"] == 0.0
    assert made.hours == pytest.approx(sum(hours.values()) / 3600)
    assert (made.hours - made.hours_alike) * 3600 == pytest.approx((65_536 - 512_000 * 1e-6 * 250) * 1e-6 / 4)
    assert made.price == pytest.approx(made.hours * 5 * 0.5)
    assert made.least_hours == pytest.approx(122.88 / 3600)
    assert (made.index_bytes, made.spilled_bytes, made.output_bytes) == pytest.approx((2.56e8, 0.0, 8.192e8))
    assert made.driver_bytes == pytest.approx(2**29 + 1.92e8)
    assert made.worker_bytes == pytest.approx(2**29 + 6.4e7)


def test_plan_index_beyond_memory_is_spilled_and_read_from_disk() -> None:
    small = plan(COSTS, WANTED.model_copy(update={"memory_gib": 0.5 + 3.2e7 / 2**30}), BLOCKS)
    assert small.spilled_bytes == pytest.approx(1.28e8)
    assert small.worker_bytes == pytest.approx(2**29 + 3.2e7)
    reads = (512_000 * 8.0 * 33 + small.comparisons) / 2
    assert next(step.hours for step in small.steps if step.name == "read the index from disk") == pytest.approx(reads / 1000 / 4 / 3600)
    assert small.price > plan(COSTS, WANTED, BLOCKS).price


def test_plan_more_workers_take_fewer_hours_and_never_fewer_than_the_drivers() -> None:
    hours = [plan(COSTS, WANTED.model_copy(update={"workers": workers}), BLOCKS).hours for workers in (1, 2, 4, 1000, 100_000)]
    assert hours == sorted(hours, reverse=True)
    assert hours[-1] >= plan(COSTS, WANTED, BLOCKS).least_hours


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config whose two sources hold 60 pages of their own and 20 copies."""
    limits = tomllib.loads((ROOT / "configs/data/web.toml").read_text())["corpus"]["filters"]["abuse"]
    teacher = Teacher(["vileword"], np.array([8.0]), np.array([2.0]), -1.0, 8.0, 0.0, frozenset())
    small = abuse.train(["vileword"], teacher, abuse.AbuseConfig.model_validate(limits))
    monkeypatch.setattr(trained, "train_abuse", lambda *_: small)
    rng = random.Random(0)
    pages = [
        "\n".join(" ".join(["The", *rng.choices(WORDS, k=14), "of", "the", rng.choice(WORDS)]) + "." for _ in range(8)) for _ in range(60)
    ]
    for name, texts in {"one": pages[:40], "two": [*pages[40:], *pages[:20]]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = 'format = "jsonl"\nkind = "text"\nlicence = "CC0-1.0"\n'
    sources = "".join(f'[corpus.sources.{name}]\npath = "{name}.jsonl"\n{source}' for name in ("one", "two"))
    execution = f'[execution]\nstore = "file://{tmp_path}/store"\nscratch = "{tmp_path}/scratch"\n'
    path = tmp_path / "data.toml"
    path.write_text(f'extends = "{ROOT}/configs/data/web.toml"\nname = "planned"\n{sources}{execution}')
    return path


def test_costs_of_a_sample_that_is_the_whole_corpus_count_what_the_stage_keeps(corpus: Path) -> None:
    config = load_config(DataConfig, corpus)
    costs = measure(config.corpus, store_of(config), config.execution.roots, 10.0, time.process_time)
    assert (costs.sources, costs.documents, costs.kept, costs.columns) == (["one", "two"], 80, 60 / 80, 33)
    assert min(costs.read, costs.screen, costs.write, costs.resolve, costs.search, costs.merge, costs.compare) > 0
    assert 916 < costs.index < 1500, "a document's hashes, rows, signature, cluster and id, and the files' heads"
    assert not (corpus.parent / "store" / "corpus").exists()


def test_command_prints_hours_price_and_every_assumption(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    words = ["data", "plan", str(corpus), "--bytes", "100TB", "--workers", "64", "--rate", "0.04", "--sample", "0.01", "--json", str(out)]
    assert main(words) == DONE
    said = capsys.readouterr().out
    for word in ("64 workers", "price", "spilled", "assumed:", "0.04 for a core and hour", "documents of one, two"):
        assert word in said
    written = json.loads(out.read_text())
    assert written["wanted"]["bytes"] == 1e14
    assert written["plan"]["price"] == pytest.approx(written["plan"]["hours"] * 65 * 0.04)


@pytest.mark.parametrize("given", ["", "TB", "100 T", "-1GB", "0", "1e30TB", "nan", "100TB of it"])
def test_command_size_that_is_none_is_one_line_and_2(given: str, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "plan", str(corpus), "--workers", "1", "--rate", "1", "--bytes", given]) == BAD_INPUT
    error = capsys.readouterr().err
    assert "--bytes" in error
    assert error.count("\n") == 1
