"""The arithmetic of a training run."""

from __future__ import annotations

from typing import Literal

import torch

_NATIVE = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16")  # of x86 and of ARM


def lightning_precision(precision: str, accelerator: str) -> Literal["32-true", "bf16-mixed"]:
    """`TrainConfig.precision` in Lightning's words; ``auto`` is bf16 where the hardware computes in it.

    Elsewhere bfloat16 is emulated and slower than float32, four times so on some CPUs.
    """
    if precision == "auto":
        precision = "bf16" if native_bfloat16(accelerator) else "32"
    return "32-true" if precision == "32" else "bf16-mixed"


def native_bfloat16(accelerator: str) -> bool:
    """Whether ``gpu`` or ``cpu`` computes in bfloat16; False for a CPU of which torch does not say."""
    if accelerator == "gpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(found.get(name, False) for name in _NATIVE)
