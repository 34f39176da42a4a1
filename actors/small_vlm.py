"""The small model on one replica: records in, guidance or failures out."""

from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from actors.batching import BatchPlanner, Watch, run_planned, unwatched
from actors.config import DecodingConfig, GuidanceConfig, ModelConfig
from actors.engine import Running
from actors.sharding import load_replica
from sgl.types import Failure, Guidance, ImageQuestion

if TYPE_CHECKING:
    from sgl.layout import PromptLayout


class SmallVLM:
    """Answers, scores and ranks: batches by `run`, or cohorts, which are run by others.

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

    stage = "small"

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
        self._settings: dict[str, Any] = guidance.model_dump() | decoding.model_dump()

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        """One result per record, in order; a bad record never costs its neighbours theirs."""
        return run_planned(
            self._guide,
            records,
            lay_out=self.lay_out,
            planner=self._planner,
            stage=self.stage,
            watch=watch,
        )

    @property
    def most(self) -> int:
        """Records of a batch."""
        return self._planner.most

    def kind(self, _record: ImageQuestion) -> Hashable:
        """All records can share a cohort."""
        return None

    def lay_out(self, record: ImageQuestion) -> "PromptLayout":
        """How its prompt will be; called from other threads than `run` and cohorts.

        Raises:
            RecordError: it cannot be laid out.
        """
        return self._replica.encoder.lay_out(record, self._decoding.max_new_tokens)

    @property
    def room_bytes(self) -> int:
        """What the fullest device has for all batches under way."""
        return self._replica.room_bytes

    def peak_bytes(self, _kind: Hashable, layouts: "Sequence[PromptLayout]") -> int:
        """What a batch of such prompts takes of it."""
        return self._replica.memory.peak_bytes(
            layouts, capture=True, scored=self._guidance.looks_again
        )

    def cohort(
        self,
        records: Sequence[ImageQuestion],
        heard: Collection[int] = (),
        layouts: "Sequence[PromptLayout] | None" = None,
    ) -> Running[Guidance]:
        """A batch under way, of which some records' text is wanted as it comes."""
        return self._replica.engine.guiding(records, heard=heard, layouts=layouts, **self._settings)

    def _fits(self, layouts: "Sequence[PromptLayout]") -> bool:
        return self.peak_bytes(None, layouts) <= self.room_bytes

    def _guide(self, records: Sequence[ImageQuestion]) -> list[Guidance]:
        return self._replica.engine.guide(records, **self._settings)
