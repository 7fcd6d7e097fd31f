"""Training speed on one GPU, bf16, sequence 2,048: tokens/s and model FLOPs utilisation beside transformers' Llama, in one process, in turn.

``python -m bench.gpu``; ``--dry-run`` goes through the same code with tiny shapes on whatever device there is. FLOPs of a token are
6 x (parameters that multiply) + 12 x layers x hidden x sequence (PaLM, appendix B: no discount for causality, recomputation not counted);
utilisation is that over the dense bf16 peak of NVIDIA's data sheets, by device name. Peers: SDPA attention, bf16 weights under autocast's fp32
masters as in ``bench.train``, eager and compiled.
"""

from __future__ import annotations

import argparse
import functools
import statistics

import torch

from bench.shapes import alternate, llama
from bench.train import against, both
from modelyard.model.network.architecture import ModelConfig
from modelyard.model.training.batch import Batch

PEAK_TFLOPS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "B200": 2250, "L40S": 362, "RTX 4090": 165}
SHAPES: dict[str, tuple[ModelConfig, int]] = {
    "125M": (llama(12, 768, 12, 12, 2048, 50_304, 2048), 16),
    "350M": (llama(24, 1024, 16, 16, 2816, 50_304, 2048), 8),
    "1.3B": (llama(24, 2048, 16, 16, 5632, 50_304, 2048), 4),
}
DRY = {"dry": (llama(2, 64, 4, 2, 176, 512, 32), 2)}


def peak(name: str) -> float | None:
    """Dense bf16 TFLOP/s of a device, None where it is not known."""
    return next((float(value) for key, value in PEAK_TFLOPS.items() if key in name), None)


def measure(name: str, model: ModelConfig, size: int, device: str, rounds: int, forms: list[str]) -> None:
    """One shape: a line for each form of ours and of the peer."""
    rows = torch.randint(0, model.vocab_size, (size, model.seq_len + 1), generator=torch.Generator().manual_seed(0)).to(device)
    batch = Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), {})
    steps = both(model, "bf16", forms, 2, device)
    for step in steps.values():
        for _ in range(3):
            step(batch)
    seconds = alternate({key: functools.partial(step, batch) for key, step in steps.items()}, rounds)
    kind = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    top = peak(kind)
    print(f"{name}: {model.parameters() / 1e6:,.0f}M parameters, batch {size} x {model.seq_len}, {kind}, peak {top or 'unknown'} TFLOP/s")
    for key, times in seconds.items():
        rate = batch.tokens.numel() / statistics.median(times)
        flops = rate * model.flops_per_token() / 1e12
        share = f"{flops / top:6.1%} MFU" if top else "  MFU unknown"
        print(f"  {key:22s} {rate:12,.0f} tokens/s {flops:8.2f} TFLOP/s {share}   {against(seconds, key, forms)}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--forms", choices=("eager", "compiled"), nargs="+", default=["eager", "compiled"])
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes, two rounds, no compiled peer, any device")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if arguments.dry_run:
        for name, (model, size) in DRY.items():
            measure(name, model, size, device, 2, ["eager"])
        return
    if device == "cpu":
        raise SystemExit("no CUDA device here; --dry-run goes through the code without one")
    for name in arguments.shape:
        measure(name, *SHAPES[name], device, arguments.rounds, arguments.forms)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
