"""One replica on several GPUs: tensor parallelism, or else the layers spread over the GPUs.

    tensor parallelism   N processes, one GPU each, all of which run every batch in step
    layers spread        one process; a batch passes from GPU to GPU

The first divides the decoder's time by N, less its collectives, but needs heads and MLP units that
divide by N and layers that `actors.tensor_parallel` knows. The second is no faster than one GPU.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from actors.config import ModelConfig
from actors.loading import device_type, load_model
from actors.ranks import RankGroup
from sgl.errors import ConfigurationError, DeviceError, ModelLoadError, UnsupportedModelError
from sgl.types import Answer, ConsistencyForm, Criterion, Guidance, ImageQuestion

if TYPE_CHECKING:
    from actors.tensor_parallel import Parameters
    from sgl.layout import PromptEncoder
    from sgl.memory import BatchMemory
    from sgl.pruning import Pruner
    from sgl.vlm import VLM

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """What a replica needs of a model, wherever it runs; see sgl.VLM."""

    def guide(
        self,
        records: Sequence[ImageQuestion],
        *,
        max_new_tokens: int,
        min_new_tokens: int,
        consistency: ConsistencyForm,
        consistency_keep_ratio: float,
        include_last_visual_row: bool,
        criterion: Criterion,
        all_criteria: bool,
    ) -> list[Guidance]:
        """Answer, score and rank one batch."""
        ...

    def answer(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        *,
        prune_layer: float,
        keep_ratio: float,
        max_new_tokens: int,
        min_new_tokens: int,
        pruner: "Pruner | None",
    ) -> list[Answer]:
        """Answer one batch, pruned where there is guidance or a pruner."""
        ...


@dataclass(frozen=True)
class Replica:
    """A model on all devices of one replica.

    Attributes:
        engine: runs batches.
        encoder: lays out their prompts.
        memory: what they need of each device.
        room_bytes: what the fullest device has for them.
    """

    engine: Engine
    encoder: "PromptEncoder"
    memory: "BatchMemory"
    room_bytes: int


def load_replica(config: ModelConfig, gpus: int = 1, gpu_share: float = 1.0) -> Replica:
    """Load one replica's model on all devices that the replica owns.

    Args:
        config: which checkpoint, and whether it is split.
        gpus: whole GPUs of the replica, all visible to this process. On a machine without any it
            says how many processes split the model on the CPU.
        gpu_share: of a GPU, where replicas share one.

    Raises:
        ConfigurationError: the model cannot be split as configured, or GPUs are missing.
        ModelLoadError: the checkpoint cannot be read.
        UnsupportedModelError: its architecture cannot be guided or pruned.
        DeviceError: one of the processes died.
    """
    ranks = config.tensor_parallel or gpus
    if max(ranks, gpus) == 1:
        vlm = load_model(config)
        vlm.cuda_graphs = config.cuda_graphs
        return _in_one_process(config, vlm, gpu_share)
    if config.cuda_graphs:
        raise ConfigurationError(
            "models.large.cuda_graphs: a graph is of one GPU, and this replica has several or is "
            "split; leave it out"
        )
    _check_gpus(config, ranks, gpus)
    if ranks > 1:
        skeleton = _skeleton(config)
        reason = _obstacle(skeleton, ranks)
        if reason is None:
            split = ShardedVLM(config, ranks, skeleton)
            return Replica(split, split.encoder, split.memory, split.room_bytes)
        if config.tensor_parallel:
            raise ConfigurationError(
                f"tensor_parallel: {config.path} cannot be split over {ranks} processes: {reason}; "
                "write another number of GPUs, or leave it out to spread the layers instead"
            )
        logger.warning(
            "%s cannot be split over %d GPUs (%s); its layers are spread over them, which holds "
            "the model but is no faster than one GPU",
            *(config.path, gpus, reason),
        )
    return _in_one_process(config, _load_spread(config, gpus), layer_parts=gpus)


def _in_one_process(
    config: ModelConfig, vlm: "VLM", gpu_share: float = 1.0, layer_parts: int = 1
) -> Replica:
    from actors.devices import room_bytes

    room = room_bytes(vlm.model, gpu_share=gpu_share, cpu_threads=config.cpu_threads)
    memory = vlm.memory.split(layers=layer_parts)
    if config.cuda_graphs and not vlm.language_model.has_windows:
        memory = replace(memory, caches=2)
    return Replica(vlm, vlm.encoder, memory, room)


def indivisible(text_config: Mapping[str, Any], ranks: int) -> str | None:
    """Why a decoder of these sizes cannot be split evenly; None if it can.

    Args:
        text_config: of the decoder, as in a config.json.
        ranks: how many processes.
    """
    heads = text_config.get("num_attention_heads")
    sizes = {
        "attention heads": heads,
        "key-value heads": text_config.get("num_key_value_heads") or heads,
        "MLP units": text_config.get("intermediate_size"),
    }
    for name, size in sizes.items():
        if size is not None and size % ranks:
            return f"its {size} {name} do not divide by {ranks}"
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a VLM's method."""

    method: Literal["guide", "answer"]
    arguments: tuple[Any, ...]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a rank says of itself.

    Attributes:
        share: of the model's parameters.
        memory: what batches need of a device that holds the whole model.
        room_bytes: what this rank's device has for them.
    """

    share: "Parameters"
    memory: "BatchMemory"
    room_bytes: int


class ShardedVLM:
    """A VLM whose layers are split over the ranks of a group; runs what an Engine runs.

    Args:
        config: which checkpoint.
        ranks: how many processes; the model divides by it.
        skeleton: the native model without weights.

    Attributes:
        encoder: lays out its prompts.
        memory: what its batches need of each rank's device.
        room_bytes: what the fullest of these has for them.

    Raises (on construction):
        ModelLoadError: the checkpoint cannot be read.
        DeviceError: a rank died, or holds another part of the model than its share.
    """

    def __init__(self, config: ModelConfig, ranks: int, skeleton: Any) -> None:
        from actors.sharded_rank import ShardedRank
        from actors.tensor_parallel import parameters
        from sgl.loading import load_encoder

        self.encoder = load_encoder(config.path, revision=config.revision)
        self._group = RankGroup(partial(ShardedRank, config), ranks)
        whole = parameters(skeleton)
        introductions: list[Introduction] = self._group.introductions
        shares = [rank.share for rank in introductions]
        if any(share.split * ranks != whole.split for share in shares):
            self._group.close()
            raise DeviceError(f"the ranks hold {shares} of {whole}: they are not split")
        logger.info(
            "%s: %d ranks, each with %.1f M of %.1f M parameters",
            *(config.path, ranks, shares[0].total / 1e6, whole.total / 1e6),
        )

        self.memory = introductions[0].memory.split(heads=ranks)
        self.room_bytes = min(rank.room_bytes for rank in introductions)

    def guide(self, records: Sequence[ImageQuestion], **settings: Any) -> list[Guidance]:
        """As VLM.guide; DeviceError where the ranks have failed, and this replica with them."""
        results: list[Guidance] = self._group.run(Request("guide", (records,), settings))
        return results

    def answer(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        **settings: Any,
    ) -> list[Answer]:
        """As VLM.answer; DeviceError where the ranks have failed, and this replica with them."""
        results: list[Answer] = self._group.run(Request("answer", (records, guidance), settings))
        return results


def _skeleton(config: ModelConfig) -> Any:
    """The native model without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from sgl.families import family_of

    try:
        native = AutoConfig.from_pretrained(
            config.path, revision=config.revision, trust_remote_code=False
        )
        family_of(native.model_type)
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(native)
    except UnsupportedModelError:
        raise
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"cannot read the checkpoint {config.path!r}: {error}") from error


def _obstacle(skeleton: Any, ranks: int) -> str | None:
    from actors.tensor_parallel import obstacle

    text_config = skeleton.config.get_text_config().to_dict()
    return indivisible(text_config, ranks) or obstacle(skeleton)


def _check_gpus(config: ModelConfig, ranks: int, gpus: int) -> None:
    """Refuse GPUs that are not there, or that would stand idle."""
    import torch

    if gpus > 1 and ranks not in (1, gpus):
        raise ConfigurationError(
            f"tensor_parallel: {ranks} processes would not use the replica's {gpus} GPUs; "
            "write the same number for both, or leave one out"
        )
    if device_type(config) == "cuda" and torch.cuda.device_count() < max(ranks, gpus):
        raise ConfigurationError(
            f"num_gpus: a replica is to run on {max(ranks, gpus)} GPUs, and its process sees "
            f"{torch.cuda.device_count()}; write the same number for num_gpus and tensor_parallel"
        )


def _load_spread(config: ModelConfig, gpus: int) -> "VLM":
    import torch

    from actors.layer_placement import spread

    vlm = load_model(config, device="cpu")
    kind = device_type(config)
    spread(vlm.model, [torch.device(kind, index if kind == "cuda" else 0) for index in range(gpus)])
    return vlm
