"""What ``modelyard check`` finds in a store and in MLflow: what is cached, what must be built, how long it took."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.pipeline_config import PipelineConfig, load_pipeline
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.commands.app import main
from modelyard.commands.check import summary
from modelyard.config import Config
from modelyard.model.network import devices
from modelyard.pretrain import import_model
from modelyard.pretrain.import_model import ImportConfig
from modelyard.store.manifest import Artifact
from tasks.line import Line, Planned, _produced, spec_of, stages_of
from tasks.outlook import Row, outlook
from tasks.stage_memory import peak_bytes
from tests.unit import edited, small_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of a project that begins with a small model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    small_model.write(tmp_path, seq_len=512)
    assert main(["init", "project", "--start", "model", "--model", "hf"]) == 0
    return Path("project/modelyard.toml")


def rows(config: PipelineConfig) -> dict[str, Row]:
    return {row.stage: row for row in outlook(config).rows}


def imported(config: PipelineConfig) -> Artifact:
    """The imported model, built into the config's store by the stage's own function."""
    line = Line(config)

    def produce(out: Path, checkpoints: Path) -> Mapping[str, float]:
        table: Config | None = config.of("imported")
        assert isinstance(table, ImportConfig)
        return import_model.run(table, {}, out, checkpoints, config.execution, lambda *_, **__: None)

    return line.place.store.build(spec_of(line.planned("imported"), line.place), produce).artifact


def test_outlook_follows_store_and_record(project: Path) -> None:
    config = load_pipeline(str(project), [])
    before = rows(config)
    assert not any(row.cached for row in before.values())
    assert before["imported"].artifact, "what reads nothing is known before it is built"
    assert before["tokens"].artifact == ""
    assert before["imported"].seconds is None

    built = imported(config)
    Tracker(tracking_uri(), config.name).log(built, "link")
    after = rows(config)
    assert [name for name, row in after.items() if row.cached] == ["imported"]
    assert after["imported"].artifact == built.ref
    assert after["sft"].artifact == "", "reads the imported model, and tokens that are not built"

    shutil.move("hf", "elsewhere")
    assert rows(config)["imported"].cached, "what was read before is known where nothing lies any more"
    shutil.move("elsewhere", "hf")
    changed = rows(load_pipeline(str(project), ["base.seq_len=300"]))["imported"]
    assert not changed.cached
    assert changed.artifact not in ("", built.ref)
    assert (changed.seconds, changed.changed) == (pytest.approx(built.seconds, abs=0.051), ("seq_len",))


@pytest.mark.parametrize("name", ["tiny-images", "smallest", "smollm2"])
def test_check_counts_the_stages_that_a_run_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    config = load_pipeline(str(ROOT / f"configs/pipeline/{name}.toml"), [])
    found = outlook(config)
    assert [row.stage for row in found.rows] == list(Line(config).order)
    assert [row.stage for row in found.rows if row.anew] == ["decision"]
    assert f"{len(found.rows)} of {len(Line(config).order)} stages to build" in summary(found.rows)
    cached = [row._replace(cached=not row.anew) for row in found.rows]
    assert summary(cached) == "all stages are cached; a run decides and registers\n"


SUMS = """evals.benchmarks.sums={file="sums.jsonl", group="kind", aspect="safety", sides=["easy", "hard"], answer="a", prompt="{q}"%s}"""


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([SUMS % ""], [("sums (side hard)", 10, "release.min_items", 30)]),
        ([SUMS % ", limit=20"], [("sums", 20, "release.min_items", 30), ("sums (side easy)", 15, "", 30), ("sums (side hard)", 5, "", 30)]),
        (
            [SUMS % "", "release.limits.sums={min_items=50}"],
            [("sums", 40, "release.limits.sums.min_items", 50), ("", 30, "", 50), ("", 10, "", 50)],
        ),
        ([SUMS % "", "release.limits.sums={min_items=10}"], []),
        ([SUMS % "", "release.limits.sums={gated=false}"], []),
        (["evals.benchmarks.last_word.limit=29"], [("last_word (limit)", 29, "release.min_items", 30)]),
        (["evals.benchmarks.last_word.limit=30"], []),
        (["evals.benchmarks.last_word.limit=0.001"], []),
    ],
)
def test_check_warns_of_benchmarks_that_will_have_too_few_items(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    said: list[tuple[str, int, str, int]],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    kinds = ["easy"] * 30 + ["hard"] * 10
    (tmp_path / "sums.jsonl").write_text("".join(f'{{"q": "{n}+1", "a": "{n + 1}", "kind": "{kind}"}}\n' for n, kind in enumerate(kinds)))
    (tmp_path / "line.toml").write_text(f'extends = "{ROOT}/configs/pipeline/smallest.toml"\n')
    assert main(["check", "line.toml", *overrides]) == 0
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warned) == len(said)
    for line, (name, count, key, least) in zip(warned, said, strict=True):
        assert line.startswith(f"warning: evals.benchmarks.{name}")
        assert f": {count} items, and {key}" in line
        assert f" is {least}: " in line


def test_check_says_what_gpus_this_machine_has(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(devices, "found", lambda: "1 x H100, driver 580.95.05, CUDA 13.0, NCCL 2.27.7, 79.0 of 80.0 GiB of memory free")
    (tmp_path / "line.toml").write_text(f'extends = "{ROOT}/configs/pipeline/smallest.toml"\n')
    main(["check", "line.toml"])
    assert "GPUs of this machine: 1 x H100, driver 580.95.05, CUDA 13.0, NCCL 2.27.7, 79.0" in capsys.readouterr().out
    main(["check", "line.toml", "execution.device=cpu"])
    assert "GPUs" not in capsys.readouterr().out


def test_stage_brings_the_memory_that_check_shows_to_its_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_pipeline(str(ROOT / "configs/pipeline/smallest.toml"), [])
    line, seen = Line(config), []
    monkeypatch.setattr("tasks.line.ray_train.launch", lambda *given: seen.append(given[-1]()) or {})
    base = Planned(stages_of(config)["base"], config.base, {}, (), line._memory("base"))
    _produced(base, line.place, dict, {}, tmp_path, tmp_path, lambda *_, **__: None)
    assert seen == [peak_bytes("base", config, config.base.model)]
    assert seen[0] > 4 * config.base.model.parameters()


def test_directory_that_reads_otherwise_is_imported_anew_and_one_that_lies_otherwise_is_not(project: Path) -> None:
    config = load_pipeline(str(project), [])
    directory = Path(config.base.path)
    known = {rows(config)["imported"].artifact}
    for edit in edited.OTHERWISE:
        edit(directory)
        assert rows(config)["imported"].artifact not in known, edit.__name__
        known.add(rows(config)["imported"].artifact)
    last = rows(config)["imported"].artifact
    for edit in edited.ALIKE:
        edit(directory)
        assert rows(config)["imported"].artifact == last, edit.__name__
    directory.rename("elsewhere")
    assert rows(config)["imported"].artifact == "", "what is not there is not known"


def test_products_in_fp8_are_another_artifact_and_other_settings_of_execution_are_not(project: Path) -> None:
    line = Line(load_pipeline(str(project), []))
    planned, place = line.planned("imported"), line.place
    plain = spec_of(planned, place).fingerprint

    def fingerprint(**settings: object) -> str:
        return spec_of(planned, place._replace(execution=place.execution.model_copy(update=settings))).fingerprint

    assert fingerprint(transformer_engine=True, tensor_parallel=2, compile=True) == plain
    assert len({plain, fingerprint(fp8="hybrid"), fingerprint(fp8="e4m3"), fingerprint(fp8="e4m3", fp8_recipe="delayed")}) == 4
