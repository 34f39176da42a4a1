"""What a replica may fill of its devices' memory."""

from types import SimpleNamespace

import pytest
import torch

from actors import devices
from tests.tiny_models import internvl

GIB = 1 << 30


def test_a_replica_on_a_cpu_has_its_cores_share_of_half_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_memory_bytes", lambda: 64 * GIB)
    monkeypatch.setattr(devices, "_cores", lambda: 32)

    def room(threads: int) -> float:
        return devices.room_bytes(internvl().model, gpu_share=1.0, cpu_threads=threads) / GIB

    assert (room(32), room(8), room(64)) == (32, 8, 32)
    assert room(1) == 4  # an eighth at least


@pytest.mark.parametrize(
    ("share", "weights", "others", "room"),
    [
        (1.0, 16, 0, 0.9 * 64),
        (0.5, 2, 0, 0.9 * 39),
        (0.5, 2, 60, 0.9 * 18),  # others have taken more than their share
        (0.5, 52, 0, 0.9 * 14),  # weights beyond the share leave a share of what is free
    ],
)
def test_a_replica_on_a_gpu_has_its_share_beside_its_weights(
    monkeypatch: pytest.MonkeyPatch, share: float, weights: int, others: int, room: float
) -> None:
    """Of 80 GiB; torch's own unused memory counts as free."""
    reserved = weights + 1
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda _: ((80 - reserved - others) * GIB, 80 * GIB)
    )
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: weights * GIB)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: reserved * GIB)
    parameter = SimpleNamespace(device=torch.device("cuda", 0))
    model = SimpleNamespace(parameters=lambda: [parameter])
    assert devices.room_bytes(model, gpu_share=share, cpu_threads=1) == pytest.approx(room * GIB)
