"""What runs in a rank: its share of a VLM, every batch in step with the other ranks."""

import os
import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from actors.config import ModelConfig
from actors.devices import room_bytes
from actors.loading import device_type, load_model
from actors.ranks import Rank
from actors.sharded_vlm import Introduction, Request
from actors.tensor_parallel import Collectives, parameters, split
from sgl.cohort import Cohort, Done, Said

COLLECTIVE_TIMEOUT = timedelta(minutes=10)
"""A collective that lasts so long hangs; torch then fails or ends the rank."""


class ShardedRank:
    """A rank's worker (see actors.ranks.RankWorker) for a VLM whose layers are split.

    Raises (on construction):
        ModelLoadError: the checkpoint cannot be read.
    """

    def __init__(self, config: ModelConfig, rank: Rank) -> None:
        on_gpu = device_type(config) == "cuda"
        device = torch.device("cuda", rank.index) if on_gpu else torch.device("cpu")
        if on_gpu:
            torch.cuda.set_device(device)
        _join_group(rank, device)
        self._collectives = Collectives()
        # Never whole on the device, which need not be able to hold it.
        self._vlm = load_model(config, device="cpu")
        split(self._vlm, self._collectives)
        self._vlm.model.to(device)
        self._cpu_threads = config.cpu_threads
        self._cohorts: dict[int, Cohort[Any]] = {}

    @property
    def collectives(self) -> int:
        """Entered so far."""
        return self._collectives.entered

    def introduce(self) -> Introduction:
        """What of the model is here, and what room is left."""
        room = room_bytes(self._vlm.model, gpu_share=1.0, cpu_threads=self._cpu_threads)
        return Introduction(parameters(self._vlm.model), self._vlm.memory, room)

    def run(self, request: Request) -> tuple[Any, Any]:
        """Run a batch, or one step of a cohort; the ranks must agree on the tokens."""
        if request.method == "leave":
            self._cohorts.pop(request.cohort, None)
            return None, None
        if request.method == "step":
            return self._step(request)
        made = getattr(self._vlm, request.method)(*request.arguments, **request.settings)
        if request.method in ("guide", "answer"):
            return made, [one.token_ids for one in made]
        self._cohorts[request.cohort] = made
        return None, None

    def _step(self, request: Request) -> tuple[list[Said | Done[Any]], Any]:
        cohort = self._cohorts.pop(request.cohort)  # for good where the step fails
        for record in request.cancelled:
            cohort.cancel(record)
        events = cohort.step()
        if cohort.unfinished:
            self._cohorts[request.cohort] = cohort
        done = [event for event in events if isinstance(event, Done)]
        return events, [(event.record, event.result.token_ids) for event in done]


def _join_group(rank: Rank, device: torch.device) -> None:
    on_gpu = device.type == "cuda"
    if not on_gpu and sys.platform == "linux":
        # Left alone, gloo looks up the host's own name, which not every host can.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=TCPStore("127.0.0.1", rank.store_port, is_master=False),
        rank=rank.index,
        world_size=rank.ranks,
        timeout=COLLECTIVE_TIMEOUT,
        device_id=device if on_gpu else None,
    )
