"""How much memory a replica's devices have for batches."""

import os
from pathlib import Path
from typing import Any

import torch

_GPU_SHARE = 0.9
"""Of a GPU's memory; the rest is fragmentation, and what libraries allocate for themselves."""
_CPU_SHARE = 0.5
"""Of the memory that goes with a replica's cores; the rest is for data on its way."""
_LEAST_CPU_SHARE = 1 / 8
"""A container may be given little memory on a machine of many cores."""


def room_bytes(model: Any, *, gpu_share: float, cpu_threads: int) -> int:
    """What the fullest of a model's devices has for batches.

    Args:
        model: native, loaded.
        gpu_share: of each GPU, that this replica may use.
        cpu_threads: of this replica: on a CPU it may use as large a share of the memory as of the
            cores, and an eighth at least.
    """
    devices = {parameter.device for parameter in model.parameters()}
    return min(
        _on_gpu(device, gpu_share) if device.type == "cuda" else _on_cpu(cpu_threads)
        for device in devices
    )


def _on_gpu(device: torch.device, share: float) -> int:
    free, total = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    free += torch.cuda.memory_reserved(device) - used
    # Weights larger than the share leave a share of what is free.
    return int(_GPU_SHARE * min(max(share * total - used, share * free), free))


def _on_cpu(threads: int) -> int:
    share = min(1.0, max(_LEAST_CPU_SHARE, threads / _cores()))
    return int(_CPU_SHARE * share * _memory_bytes())


def _cores() -> int:
    """That this process may run on, where the system tells; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    """Of this machine, or of the container that this process runs in."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such limit, or "max"
        return memory
