"""What answers depend on, bit by bit, beside the bundle: the CPU's type and the libraries."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache
from pathlib import Path

LIBRARIES = ("shortlist", "numpy", "onnxruntime", "hnswlib")
KERNEL_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_tile")
"""Flags by which numpy and ONNX Runtime choose kernels, which differ in the last bits."""


@cache
def cpu_type() -> str:
    """Return the model of the CPU and the vector instructions that kernels are chosen by."""
    return _cpu_type(Path("/proc/cpuinfo"))


def _cpu_type(cpu_info: Path) -> str:
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    model = facts.get("model name") or platform.processor() or "unknown model"
    have = set(facts.get("flags", "").split())
    return " ".join([platform.machine(), model, *(flag for flag in KERNEL_FLAGS if flag in have)])


@cache
def software() -> str:
    """Return the versions of the libraries that compute: `numpy 2.1.3, onnxruntime 1.20.1`."""
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed as a package")
    return ", ".join(versions)
