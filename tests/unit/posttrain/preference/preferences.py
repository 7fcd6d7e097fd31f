"""Policies that learn from comparisons, small enough to train in seconds: their configs, the reference they need, and a run."""

from pathlib import Path

from modelyard.execution import ExecutionConfig
from modelyard.posttrain.preference import reference, train
from modelyard.posttrain.preference.config import DPOConfig, IPOConfig, KTOConfig, KWiseDPOConfig, PreferenceConfig
from modelyard.progress import silent
from tests.unit.posttrain.conftest import optimizer

Inputs = dict[str, Path]
COMPARED = {
    "seed": 4,
    "precision": "fp32",
    "epochs": 1.0,
    "batch": 4,
    "micro_batch": 8,
    "beta": 0.1,
    "max_new_tokens": 8,
    "final_episodes": 16,
    "final_rows": 8,
}
CONTRAST = {"length_normalised": False, "sft_coef": 0.2}


def dpo_config(**changes: object) -> DPOConfig:
    return DPOConfig(**{**COMPARED, **CONTRAST, "algorithm": "dpo", "optimizer": optimizer(1e-3), **changes})


def kwise_config(**changes: object) -> KWiseDPOConfig:
    return KWiseDPOConfig(**{**COMPARED, **CONTRAST, "algorithm": "kwise_dpo", "optimizer": optimizer(1e-3), **changes})


def ipo_config(**changes: object) -> IPOConfig:
    return IPOConfig(**{**COMPARED, **CONTRAST, "algorithm": "ipo", "optimizer": optimizer(1e-3), **changes})


def kto_config(**changes: object) -> KTOConfig:
    weights = {"desirable_weight": 1.0, "undesirable_weight": 1.25}
    return KTOConfig(**{**COMPARED, **weights, "algorithm": "kto", "optimizer": optimizer(1e-3), **changes})


def run(config: PreferenceConfig, inputs: Inputs, root: Path, execution: ExecutionConfig, report: object = silent) -> dict[str, float]:
    """The reference and the policy, under ``root``; the reference of an earlier run there is used again."""
    kept, out = root / "reference", root / "out"
    out.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        kept.mkdir()
        reference.run(config.reference, inputs, kept, root / "reference-ck", execution, silent)
    return train.run(config, {**inputs, "reference": kept}, out, root / "ck", execution, report)
