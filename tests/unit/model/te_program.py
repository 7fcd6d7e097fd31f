"""Trains on megatron-core's layers for Transformer Engine, over :mod:`te_stand_in`, and on ours; prints
what came of both as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.unit.model import te_stand_in

te_stand_in.install()

from bench.gpu import te  # noqa: E402
from modelyard.execution import ExecutionConfig  # noqa: E402
from modelyard.model.inference.generate import generate  # noqa: E402
from modelyard.model.network import te_layers  # noqa: E402
from modelyard.model.network.model_config import ModelConfig  # noqa: E402
from modelyard.model.training.engine import Engine  # noqa: E402
from tests.unit.model import layout_program as program  # noqa: E402


def made(shape: ModelConfig, precision: Any, *, trains: bool = True, **settings: Any) -> Engine:
    optim = program.OPTIMIZER if trains else None
    return Engine(shape, ExecutionConfig(threads=1, **settings), seed=0, precision=precision, optim=optim, total_steps=6)


def stepped(engine: Engine, steps: int = 3) -> list[dict[str, float]]:
    return [engine.train_step(program.batch(24), 4, program.masked_loss) for _ in range(steps)]


def generating(engine: Engine) -> str:
    """The line in which it is refused."""
    try:
        generate(engine, program.PROMPTS, max_new_tokens=2, temperature=0, seed=0)
    except ValueError as error:
        return str(error)
    return ""


def trained(case: str, directory: Path) -> dict[str, Any]:
    """Both ways in fp32, and checkpoints of each read by the other."""
    shape = program.case(case)
    fused, plain = made(shape, "fp32", transformer_engine=True), made(shape, "fp32")
    found = {
        "parameters": sorted(name for name, _ in fused.gpt.named_parameters() if ".0." in name),
        "layers": sorted({type(module).__name__ for module in fused.gpt.decoder.layers[0].modules()}),
        "keys": [sorted(entry.key for entry in engine._sharded_model().values() if hasattr(entry, "key")) for engine in (fused, plain)],
        "metrics": [stepped(fused), stepped(plain)],
        "optimizer": type(fused.optimizer.chained_optimizers[0].optimizer).__module__,
    }
    fused.save(directory / "fused")
    plain.save(directory / "plain")
    gone_on = stepped(fused, 2)
    crossed, resumed = made(shape, "fp32"), made(shape, "fp32", transformer_engine=True)
    crossed.load(directory / "fused")
    resumed.load(directory / "fused")
    back = made(shape, "fp32", transformer_engine=True)
    back.load(directory / "plain")
    fused.save_weights(directory / "weights")
    scored = [made(shape, "fp32", trains=False, transformer_engine=True), made(shape, "fp32", transformer_engine=True)]
    for engine in scored:
        engine.load_weights(directory / "weights")
    outputs = [engine.evaluate(program.batch(24), 4) for engine in scored]
    found |= {
        "gone_on": [gone_on, stepped(resumed, 2), stepped(crossed, 2)],
        "back": [stepped(back, 2), stepped(plain, 2)],
        "evaluated": float((outputs[0] - outputs[1]).abs().max()),
        "evaluated_layers": sorted({type(module).__name__ for module in scored[0].gpt.decoder.layers[0].modules()}),
        "refused": generating(fused),
        "generates": generating(scored[0]),
    }
    return found


def in_fp8(fp8: str, recipe: str) -> dict[str, Any]:
    """bf16 beside fp8 of a model whose sides suit it, and the recipes that megatron-core entered."""
    shape = program.case("llama-tied").model_copy(update={"ffn_hidden": 64})
    plain = stepped(made(shape, "bf16"), 6)
    te_stand_in.FP8GlobalStateManager.recipes.clear()
    rounded = stepped(made(shape, "bf16", transformer_engine=True, fp8=fp8, fp8_recipe=recipe), 6)
    entered = te_stand_in.FP8GlobalStateManager.recipes
    kinds = sorted({type(one).__mro__[-3].__name__ for one in entered})
    return {"plain": plain, "fp8": rounded, "recipes": kinds, "formats": sorted({one.settings["fp8_format"].name for one in entered})}


def main(directory: Path) -> dict[str, Any]:
    te_layers.require = lambda *_: None  # it wants a GPU
    cases = {case: trained(case, directory / case) for case in ("llama-tied", "gpt-untied", "llama-variant")}
    fp8 = {f"{fp8}-{recipe}": in_fp8(fp8, recipe) for fp8, recipe in (("hybrid", "tensorwise"), ("e4m3", "delayed"))}
    speed = te.utilisation("350M", "hybrid-delayed", tiny=True)
    return {"cases": cases, "fp8": fp8, "bench": te.learning("hybrid-tensorwise", tiny=True), "speed": speed}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = main(Path(sys.argv[1]))
    print(json.dumps(found))
