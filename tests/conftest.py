"""What the whole suite shares: calm threads, no deadlines, one local Ray."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Tiny models gain nothing from more threads, and on a busy machine waiting for them made the
# suite thirty times slower. Read when torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

# Where no GPU is, Triton's kernels are interpreted. Read when triton is first imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Tests never time: a slow machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray without dashboard whose workers can import the tests; its address.

    One for the session, because starting one takes 6 to 17 s.
    """
    import ray

    from jobs.cluster import quiet_ray_data

    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([known] if known else [])])
    # More logical cores make a small machine slower: 8 took a minute to the first batch.
    context = ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    quiet_ray_data()
    yield context.address_info["address"]
    ray.shutdown()
