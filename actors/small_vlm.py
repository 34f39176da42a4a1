"""The small model on one replica: records in, guidance or failures out."""

from collections.abc import Sequence

from actors.batching import run_isolated
from actors.config import DecodingConfig, GuidanceConfig, ModelConfig
from actors.sharding import load_engine
from sgl.types import Failure, Guidance, ImageQuestion


class SmallVLM:
    """Answers, scores and ranks.

    Args:
        model: which checkpoint.
        guidance: how it scores and ranks.
        decoding: when answers end.
        gpus: whole GPUs of the replica; see actors.sharding.

    Raises (on construction):
        ConfigurationError: it cannot run on these devices as configured.
        ModelLoadError: the checkpoint cannot be read.
        UnsupportedModelError: its architecture cannot be guided.
    """

    def __init__(
        self,
        model: ModelConfig,
        guidance: GuidanceConfig,
        decoding: DecodingConfig,
        *,
        gpus: int = 1,
    ) -> None:
        self._vlm = load_engine(model, gpus)
        self._batch_size = model.batch_size
        self._guidance = guidance
        self._decoding = decoding

    def run(self, records: Sequence[ImageQuestion]) -> list[Guidance | Failure]:
        """One result per record, in order; a bad record never costs its neighbours theirs."""
        return run_isolated(self._guide, records, batch_size=self._batch_size, stage="small")

    def _guide(self, records: Sequence[ImageQuestion]) -> list[Guidance]:
        return self._vlm.guide(
            records,
            max_new_tokens=self._decoding.max_new_tokens,
            min_new_tokens=self._decoding.min_new_tokens,
            consistency=self._guidance.consistency,
            consistency_keep_ratio=self._guidance.consistency_keep_ratio,
            include_last_visual_row=self._guidance.include_last_visual_row,
        )
