"""Which instructions for short numbers this CPU has: they decide what pays, and can decide what is answered."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

BF16 = ("avx512_bf16", "amx_bf16")
INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Linux's names for them; 8-bit numbers are multiplied without VNNI too, in 16 bits, which may saturate."""


@cache
def instructions() -> frozenset[str]:
    """Those of `BF16` and `INT8` that the CPU has."""
    try:
        found = set(Path("/proc/cpuinfo").read_text("utf-8", "replace").split())
    except OSError:  # not Linux
        tests = {"avx512_bf16": "_is_avx512_bf16_supported", "avx512_vnni": "_is_vnni_supported"}
        found = {name for name, test in tests.items() if getattr(torch.cpu, test, bool)()}
    return frozenset(found & {*BF16, *INT8})


def bf16_note(device: torch.device) -> str | None:
    """Why bf16 is not fast there; None where it is."""
    if device.type == "cuda":
        is_fast = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return None if is_fast else "this GPU has no bf16 units: it will not be fast"
    return None if instructions() & {*BF16} else "this CPU has neither AVX512-BF16 nor AMX: it will not be fast"


def int8_note() -> str | None:
    """Why int8 gains less here; None where it gains what it can."""
    return None if instructions() & {*INT8} else "this CPU has no VNNI: it gains less than int8 can"
