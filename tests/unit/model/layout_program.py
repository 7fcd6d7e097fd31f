"""Runs on every rank of a world of two or four: the same training, scoring, sampling and checkpoint reload at each layout; rank 0 prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.generate import Generation, generate
from modelyard.model.network import parallel
from modelyard.model.network.experts import MoEConfig
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import Head, ModelConfig
from modelyard.model.network.rope import YarnScaling
from modelyard.model.network.variant import LLAMA, Variant
from modelyard.model.network.vision import VisionConfig
from modelyard.model.pictures import Pictures
from modelyard.model.training import overlap
from modelyard.model.training.batch import SEGMENTS, STEM, UNLABELLED, Batch, LossOutput
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.state import Part
from modelyard.posttrain.losses import reward_loss

OPTIMIZER = OptimizerConfig(
    lr=1e-2, min_lr_ratio=0.1, warmup_steps=1, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, schedule="cosine"
)
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9, 10]]
ODD_VOCABULARY = 127  # no multiple of the tensor-parallel ranks
PLACEHOLDER = 126

TP2 = {"tensor_parallel": 2}
SP2 = {**TP2, "sequence_parallel": True}
PP2 = {"pipeline_parallel": 2}
DP2 = {"data_parallel": 2}
VP2 = {**PP2, "virtual_pipeline": 2}
CP2 = {"context_parallel": 2}
EP2 = {**DP2, "expert_parallel": 2}


class Split(NamedTuple):
    """A layout, the cases of the default suite and those of the slow one."""

    sizes: dict[str, Any]
    default: tuple[str, ...]
    slow: tuple[str, ...] = ()


IMAGES = ("llama-images", "llama-shown")
LAYOUTS: dict[int, dict[str, Split]] = {
    2: {
        "tp2": Split(
            TP2,
            ("llama-variant", "llama-dropped", "gpt-untied", "llama-mqa_variant"),
            (*IMAGES, "llama-tied", "llama-untied", "gpt-tied", "gpt-mqa_untied"),
        ),
        "tp2-sp": Split(
            SP2, ("llama-mqa_adapters",), ("llama-experts", "gpt-untied", "llama-tied", "llama-mqa_variant", "llama-mqa_experts")
        ),
        "tp2-sp-selective": Split(
            {**SP2, "recompute": "selective"}, ("llama-images",), ("llama-untied", "llama-variant", "llama-tied", "gpt-untied")
        ),
        "tp2-sp-full": Split(
            {**SP2, "recompute": "full"},
            ("gpt-tied", "llama-adapters"),
            (*IMAGES, "llama-experts", "gpt-untied", "llama-tied", "llama-mqa_variant"),
        ),
        "pp2": Split(
            PP2,
            ("llama-variant", "llama-adapters", "llama-shown"),
            ("gpt-tied", "llama-images", "llama-experts", "llama-tied", "llama-untied", "gpt-untied"),
        ),
        "pp2-full": Split({**PP2, "recompute": "full"}, (), ("llama-tied", "gpt-untied")),
        "pp2-vp2": Split(
            VP2,
            ("llama-deep_tied",),
            ("gpt-deep_tied", "gpt-deep_untied", "llama-deep_experts", "llama-deep_adapters", "llama-deep_variant", "llama-deep_images"),
        ),
        "pp2-vp2-full": Split({**VP2, "recompute": "full"}, (), ("llama-deep_untied",)),
        "dp2": Split(DP2, ("llama-tied",), ("llama-images", "llama-shown", "gpt-untied", "llama-adapters", "llama-experts")),
        "dp2-overlap": Split({**DP2, "overlap": "always"}, ("llama-untied",), ("llama-tied", "gpt-untied", "llama-adapters")),
        "ep2-overlap": Split({**EP2, "overlap": "always"}, (), ("llama-experts",)),
        "cp2-overlap": Split({**CP2, "overlap": "always"}, (), ("llama-variant", "llama-experts")),
        "cp2": Split(
            CP2,
            ("llama-variant",),
            ("gpt-tied", "gpt-untied", "llama-untied", "llama-tied", "llama-experts", "llama-adapters", "gpt-experts"),
        ),
        "cp2-ep2": Split({**CP2, "expert_parallel": 2}, (), ("llama-experts",)),
        "cp2-full": Split({**CP2, "recompute": "full"}, (), ("llama-untied",)),
        "ep2": Split(EP2, ("llama-experts",), ("gpt-experts",)),
        "tp2-sp-ep2": Split({**SP2, "expert_parallel": 2}, (), ("llama-experts",)),
    },
    4: {
        "tp2-pp2": Split({**TP2, **PP2}, (), ("llama-tied", "llama-images", "gpt-untied", "llama-untied", "gpt-tied")),
        "tp2-sp-pp2-full": Split({**SP2, **PP2, "recompute": "full"}, (), ("gpt-untied", "llama-tied", "llama-experts")),
        "tp2-sp-dp2-ep2": Split({**SP2, **EP2}, (), ("llama-experts", "gpt-experts")),
        "tp2-sp-pp2-vp2": Split({**SP2, **VP2}, (), ("llama-deep_tied", "gpt-deep_untied", "llama-deep_experts")),
        "dp2-pp2-vp2": Split({**VP2, **DP2}, (), ("llama-deep_untied",)),
        "tp4": Split({"tensor_parallel": 4}, (), ("llama-variant", "llama-mqa_variant", "llama-mqa_dropped", "gpt-untied")),
        "cp4": Split({"context_parallel": 4}, (), ("llama-tied", "gpt-untied")),
        "dp2-cp2": Split({**DP2, **CP2}, (), ("llama-tied", "gpt-untied", "llama-experts")),
        "tp2-sp-cp2": Split({**SP2, **CP2}, (), ("llama-variant", "llama-mqa_adapters", "gpt-untied", "llama-experts")),
        "pp2-vp2-cp2": Split({**VP2, **CP2}, (), ("llama-deep_tied", "llama-deep_variant")),
        "dp2-pp2": Split({**PP2, **DP2}, (), ("llama-tied", "gpt-tied")),
        "dp2-pp2-vp2-overlap": Split({**VP2, **DP2, "overlap": "always"}, (), ("llama-deep_tied",)),
        "dp2-tp2-overlap": Split({**SP2, **DP2, "overlap": "always"}, (), ("llama-untied",)),
    },
}


def cases(kind: str, ranks: int | None = None) -> list[tuple[str, str]]:
    """(layout, case) of the ``default`` or the ``slow`` suite, of every world or of one of ``ranks``."""
    worlds = [ranks] if ranks else list(LAYOUTS)
    return [(layout, name) for world in worlds for layout, split in LAYOUTS[world].items() for name in getattr(split, kind)]


VARIANT = Variant(
    qkv_bias=True,
    qk_norm=True,
    window=7,
    window_layers=(1,),
    no_rope_layers=(0,),
    gate="gelu_tanh",
    zero_centred_norms=True,
    scaled_embedding=True,
)
YARN = YarnScaling(factor=4.0, original_max_position_embeddings=8)


VISION = VisionConfig(tile=4, patch=2, grids=((1, 1), (1, 2)), layers=2, hidden=16, heads=2, ffn_hidden=24)
SIZES = {"square": (4, 4), "wide": (11, 5), "tall": (3, 6)}
"""Width and height of images that take 10, 14 and 9 positions."""


def model(
    style: str, tied: bool, *, experts: bool = False, variant: bool = False, vision: bool = False, vocab_size: int = 128, layers: int = 2
) -> ModelConfig:
    return ModelConfig(
        style=style,  # type: ignore[arg-type]
        layers=layers,
        hidden=32,
        heads=4,
        kv_heads=2,
        ffn_hidden=48,
        seq_len=32,
        vocab_size=vocab_size,
        tie_embeddings=tied,
        rope_base=10000.0,
        norm_eps=1e-5,
        init_std=0.1,
        moe=MoEConfig(experts=4, top_k=2, aux_loss=0.1) if experts else None,
        variant=VARIANT if variant else LLAMA,
        rope_scaling=YARN if variant else None,
        vision=VISION if vision else None,
    )


SEEING: dict[str, Part] = {"images": "all", "shown": "vision"}
"""Cases with images: all is trained, or what shows them to a language model that stays as it is."""


def case(name: str) -> ModelConfig:
    """A model by the name it has in ``LAYOUTS``."""
    style, kind = name.split("-")
    deep, one_key, kind = kind.startswith("deep_"), kind.startswith("mqa_"), _plain(kind)
    layers = 4 if deep else 2
    vocab_size = 128 if style == "llama" else ODD_VOCABULARY
    tied = kind in ("tied", "variant", "adapters", "dropped", "shown")
    parts = {"experts": kind == "experts", "variant": kind == "variant", "vision": kind in SEEING}
    shape = model(style, tied, **parts, vocab_size=vocab_size, layers=layers)
    return shape.model_copy(update={"kv_heads": 1}) if one_key else shape


def _plain(kind: str) -> str:
    """The kind of a case without what says that it has more layers, or one key head."""
    return kind.removeprefix("deep_").removeprefix("mqa_")


def adapters_of(name: str) -> LoRAConfig | None:
    """The adapters of a case; queries and the gate have none, so that fused products are adapted in part."""
    targets = ("k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    dropout = {"adapters": 0.0, "dropped": 0.1}
    kind = _plain(name.split("-")[1])
    return LoRAConfig(rank=3, alpha=6.0, dropout=dropout[kind], targets=targets) if kind in dropout else None


def batch(length: int = 25) -> Batch:
    """Rows of ``length`` positions; 25 is no multiple of the tensor-parallel ranks."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, ODD_VOCABULARY, (8, length + 1), generator=generator)
    # a mask that gives the halves of the batch unequal counts
    mask = torch.rand(8, length, generator=generator) < torch.linspace(0.1, 0.9, 8)[:, None]
    return Batch(tokens[:, :-1], tokens[:, 1:], {"mask": mask})


def batch_of(shape: ModelConfig) -> Batch:
    """The batch of a case; with experts of a length that needs no padding, which would count in their balancing loss."""
    if shape.vision:
        return with_images(batch())
    return batch(24) if shape.moe else batch()


class Drawn:
    """Images of random pixels."""

    def size(self, image: str) -> tuple[int, int]:
        return SIZES[image.split("-")[0]]

    def pixels(self, image: str) -> np.ndarray:
        width, height = self.size(image)
        return np.random.default_rng(list(image.encode())).integers(0, 256, (height, width, 3), dtype=np.uint8)


PICTURES = Pictures(VISION, Drawn())
ROWS = [["square-1"], ["square-2", "tall-1"], [], ["wide-1"], ["tall-2"], [], ["square-1", "square-3"], []]
"""Images of the rows of a batch: of two replicas and of every micro-batch another number."""


def with_images(plain: Batch) -> Batch:
    """The batch with images in its rows, each behind two tokens of text; nothing is asked where one stands."""
    tokens = plain.tokens.clone()
    for line, images in zip(tokens, ROWS, strict=True):
        start = 2
        for image in images:
            line[start : start + PICTURES.positions(image)] = PLACEHOLDER
            start += PICTURES.positions(image) + 2
        line[start:][line[start:] == PLACEHOLDER] = 0
        line[:2][line[:2] == PLACEHOLDER] = 0
    labels = torch.cat([tokens[:, 1:], plain.labels[:, -1:]], 1)
    asked = labels != PLACEHOLDER
    mask = plain.extras["mask"] & asked
    return Batch(tokens, labels.masked_fill(~asked, UNLABELLED), {"mask": mask}, PICTURES.shown(tokens, ROWS, PLACEHOLDER))


def comparisons_of(shape: ModelConfig) -> Batch:
    """Rows of the same lengths with two texts each, which share a stem of 3 to 6 tokens; the first is the better one."""
    tokens = batch_of(shape).tokens
    rows, length = tokens.shape
    stem, places = 3 + torch.arange(rows) % 4, torch.arange(length).expand(rows, -1)
    middle = (stem + length) // 2
    segments = (places >= stem[:, None]).long() + (places >= middle[:, None])
    texts = {
        "ends": torch.stack([middle - 1, torch.full_like(middle, length - 1)], 1),
        "comparison": torch.arange(rows)[:, None].expand(-1, 2),
    }
    return Batch(tokens, tokens, {**texts, "rank": torch.tensor([1, 0]).expand(rows, -1), SEGMENTS: segments, STEM: stem})


def documents_of(shape: ModelConfig) -> Batch:
    """Rows of the same lengths of three texts each that do not see each other, of other lengths in every row."""
    tokens = batch_of(shape).tokens
    rows, length = tokens.shape
    places = torch.arange(length).expand(rows, -1)
    segments = sum(places >= (torch.arange(rows) + cut)[:, None] for cut in (2, 12))
    return Batch(tokens, tokens, {SEGMENTS: segments.long()})


def masked_loss(output: torch.Tensor, part: Batch) -> LossOutput:
    mask = part.extras["mask"]
    return LossOutput(((output + 1).square() * mask).sum(), mask.sum(), {"mean": (output * mask).sum()})


def engine(execution: ExecutionConfig, name: str, head: Head) -> Engine:
    """The engine of a case."""
    part = SEEING.get(_plain(name.split("-")[1]), "language")
    settings = {"head": head, "optim": OPTIMIZER, "total_steps": 6, "lora": adapters_of(name), "part": part}
    return Engine(case(name), execution, seed=3, precision="fp32", **settings)


def sampled(lm: Engine) -> Generation:
    """Texts drawn after the prompts, with images in them where the model is shown any."""
    prompts, gallery = PROMPTS, None
    if lm.model.vision:
        gallery = Gallery(lm, PICTURES, PLACEHOLDER)
        shown = ["square-1", "wide-1", "square-1"]
        prompts = [gallery.numbered([*ids, *[PLACEHOLDER] * PICTURES.positions(i), 5], [i]) for ids, i in zip(PROMPTS, shown, strict=True)]
    return generate(lm, prompts, max_new_tokens=8, temperature=1.0, seed=5, gallery=gallery, batch=2)


def measure(execution: ExecutionConfig, name: str, first: Path, saved: Path | None) -> dict[str, Any]:
    """Losses and gradient norms of three steps; then from ``saved`` if given (written at another layout) scores, samples and two more steps.

    Scores and samples are of equal weights: after three steps AdamW has turned the layouts' roundings of gradients near 0 into whole steps.
    The checkpoint after the first step goes to ``first``: its first moments are the gradients of every parameter. What was loaded from ``saved``
    is saved again, beside ``first``.
    """
    shape = case(name)
    data, lm, scalar = batch_of(shape), engine(execution, name, "lm"), engine(execution, name, "scalar")
    steps = [lm.train_step(data, 2, masked_loss)]
    gathering = sum(group.param_gather_handle is not None for group in lm._gathered)
    lm.save(first)
    steps += [e.train_step(data, 2, masked_loss) for e in (lm, lm, scalar, scalar)]
    steps.append(scalar.train_step(comparisons_of(shape), 2, reward_loss))
    result: dict[str, Any] = {
        "loss": [step["loss"] for step in steps],
        "grad_norm": [step["grad_norm"] for step in steps],
        "gathering": gathering,
        "state": sum(moments["exp_avg"].numel() for part in lm.optimizer.chained_optimizers for moments in part.optimizer.state.values()),
    }
    if saved:
        lm.load(saved)
        lm.save(first.with_name(f"{first.name}-again"))
    result["scores"] = [number for scored in (data, documents_of(shape)) for number in lm.evaluate(scored, 2)[:, ::6].flatten().tolist()]
    generation = sampled(lm)
    result["sampled"], result["logprobs"] = generation.tokens, generation.logprobs
    result["resumed"] = [lm.train_step(data, 2, masked_loss)["loss"] for _ in range(2)]
    if execution.data_parallel == 1:  # three micro-batches, no multiple of the pipeline's ranks
        lm.train_step(data.rows(0, 6), 2, masked_loss)
        result["resumed"].append(lm.train_step(data, 2, masked_loss)["loss"])
    return result


def main() -> None:
    from megatron.core import parallel_state

    root, kind, results = Path(sys.argv[1]), sys.argv[2], {}
    overlap.BUCKET = 4096  # of several buckets
    dist.init_process_group("gloo")
    ranks = dist.get_world_size()
    for layout, split in LAYOUTS[ranks].items():
        for name in getattr(split, kind):
            execution = ExecutionConfig(threads=1, **split.sizes)
            results[f"{layout}/{name}"] = measure(execution, name, root / layout / name, root / "one-three-steps" / name)
        if parallel_state.model_parallel_is_initialized():
            parallel_state.destroy_model_parallel()
    if dist.get_rank() == 0:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
    parallel.leave()
