"""What the processor is and can multiply, within what torch and oneDNN are told to use of it.

``ATEN_CPU_CAPABILITY`` (torch's own kernels) and ``ONEDNN_MAX_CPU_ISA`` (oneDNN's) make a processor behave as an older one. oneDNN says that it
supports bfloat16 from AVX-512 on, but without instructions for it multiplies at a third of fp32's rate, and below AVX-512 at a fiftieth
(docs/benchmarks.md); so the instructions are asked for by name. Left out: GPUs.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Any of them multiplies bfloat16: AVX-512, AMX, ARM."""
WITHOUT_BF16 = ("AVX512_CORE", "AVX512_CORE_VNNI")
"""Caps of oneDNN that leave it AVX-512 and take the bfloat16 instructions away; it reports what lower ones take away itself."""


def multiplies_bf16() -> bool:
    """Whether matrix products of bfloat16 run on instructions made for them."""
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    if cap in WITHOUT_BF16 or not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BF16_INSTRUCTIONS)


def description() -> str:
    """One line that benches print: name, cores, torch's instruction set, and how products of bfloat16 are computed."""
    capability = torch.backends.cpu.get_cpu_capability()
    products = "by its own instructions" if multiplies_bf16() else "in fp32"
    return f"{_name()}, {len(os.sched_getaffinity(0))} cores, {capability}, bf16 products {products}"


def _name() -> str:
    """As Linux names it, with family and model, which tell generations of one name apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return str(torch.cpu.get_capabilities().get("cpu_name", "unknown processor"))
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    family = f" (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else ""
    return facts.get("model name", "unknown processor") + family
