"""The small model on one replica: records in, guidance or failures out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.batching import BatchPlanner, Watch, run_planned, unwatched
from actors.config import DecodingConfig, GuidanceConfig, ModelConfig
from actors.sharding import load_replica
from sgl.types import Failure, Guidance, ImageQuestion

if TYPE_CHECKING:
    from sgl.layout import PromptLayout


class SmallVLM:
    """Answers, scores and ranks.

    Args:
        model: which checkpoint.
        guidance: how it scores and ranks.
        decoding: when answers end.
        gpus: whole GPUs of the replica; see actors.sharding.
        gpu_share: of a GPU, where replicas share one.

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
        gpu_share: float = 1.0,
    ) -> None:
        self._replica = load_replica(model, gpus, gpu_share)
        self._planner = BatchPlanner(model.batch_size, self._fits)
        self._guidance = guidance
        self._decoding = decoding

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        """One result per record, in order; a bad record never costs its neighbours theirs."""
        return run_planned(
            self._guide,
            records,
            lay_out=self._lay_out,
            planner=self._planner,
            stage="small",
            watch=watch,
        )

    def _lay_out(self, record: ImageQuestion) -> "PromptLayout":
        return self._replica.encoder.lay_out(record, self._decoding.max_new_tokens)

    def _fits(self, layouts: "Sequence[PromptLayout]") -> bool:
        needed = self._replica.memory.peak_bytes(
            layouts, capture=True, scored=self._guidance.looks_again
        )
        return needed <= self._replica.room_bytes

    def _guide(self, records: Sequence[ImageQuestion]) -> list[Guidance]:
        return self._replica.engine.guide(
            records,
            max_new_tokens=self._decoding.max_new_tokens,
            min_new_tokens=self._decoding.min_new_tokens,
            consistency=self._guidance.consistency,
            consistency_keep_ratio=self._guidance.consistency_keep_ratio,
            include_last_visual_row=self._guidance.include_last_visual_row,
            criterion=self._guidance.criterion,
            all_criteria=self._guidance.all_criteria,
        )
