"""The large model on one replica: records with their guidance in, answers or failures out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from actors.batching import BatchPlanner, Watch, run_planned, unwatched
from actors.config import DecodingConfig, ModelConfig, PruningConfig
from actors.engine import Running
from actors.pruning import check_prunings, obstacle, peak_bytes, pruner_of
from actors.sharding import load_replica
from sgl.errors import RecordError
from sgl.types import Answer, Failure, Guidance, ImageQuestion

if TYPE_CHECKING:
    from sgl.layout import PromptLayout
    from sgl.pruning import Pruner


@dataclass(frozen=True, slots=True)
class GuidedQuestion:
    """A record for the large model; without guidance only a pruner that needs none prunes it.

    Attributes:
        record: the question.
        guidance: of the small model.
        pruning: another one than the model's own.
        probe: which of several answers to the same record this is to be; None for the main one.
    """

    record: ImageQuestion
    guidance: Guidance | None = None
    pruning: PruningConfig | None = None
    probe: int | None = None

    @property
    def id(self) -> str:
        """Of the record; of each of its answers another one, so that none can stand for another."""
        return self.record.id if self.probe is None else f"{self.record.id} (probe {self.probe})"


class LargeVLM:
    """Answers, with the visual tokens pruned by the guidance of each record or by another rule.

    Batches by `run`, or cohorts, which are run by others.

    Args:
        model: which checkpoint.
        pruning: by whom, where, and how much.
        decoding: when answers end.
        probed: other prunings that requests will come with.
        gpus: whole GPUs of the replica; see actors.sharding.
        gpu_share: of a GPU, where replicas share one.

    Raises (on construction):
        ConfigurationError: it cannot run on these devices, or be pruned, as configured.
        ModelLoadError: the checkpoint cannot be read.
        UnsupportedModelError: its architecture cannot be pruned.
    """

    stage = "large"

    def __init__(
        self,
        model: ModelConfig,
        pruning: PruningConfig,
        decoding: DecodingConfig,
        *,
        probed: Sequence[PruningConfig] = (),
        gpus: int = 1,
        gpu_share: float = 1.0,
    ) -> None:
        self._replica = load_replica(model, gpus, gpu_share)
        layers = self._replica.memory.decoder_layers
        check_prunings([pruning, *probed], self._replica.encoder.family, layers)
        self._most = model.batch_size
        self._pruning = pruning
        self._decoding = decoding

    def run(
        self, requests: Sequence[GuidedQuestion], watch: Watch = unwatched
    ) -> list[Answer | Failure]:
        """One result per request, in order.

        Either all of them have guidance or none, and all are to be pruned in the same way.
        """
        pruning = self._pruning_of(requests)
        pruner = pruner_of(pruning, guided=any(one.guidance for one in requests))
        return run_planned(
            partial(self._answer, pruner=pruner),
            requests,
            lay_out=self.lay_out,
            planner=BatchPlanner(self._most, partial(self._fits, pruning=pruning, pruner=pruner)),
            stage=self.stage,
            watch=watch,
        )

    @property
    def most(self) -> int:
        """Records of a batch."""
        return self._most

    def kind(self, request: GuidedQuestion) -> tuple[PruningConfig, bool]:
        """Requests of one kind can share a cohort."""
        return request.pruning or self._pruning, request.guidance is not None

    def lay_out(self, request: GuidedQuestion) -> "PromptLayout":
        """How its prompt will be; called from other threads than `run` and cohorts.

        Raises:
            RecordError: it cannot be laid out, or cannot be pruned as it asks for.
        """
        if request.pruning:
            layers = self._replica.memory.decoder_layers
            if reason := obstacle(request.pruning, self._replica.encoder.family, layers):
                raise RecordError(f"prune_layer {request.pruning.prune_layer:g}: {reason}")
        return self._replica.encoder.lay_out(request.record, self._decoding.max_new_tokens)

    @property
    def room_bytes(self) -> int:
        """What the fullest device has for all batches under way."""
        return self._replica.room_bytes

    def peak_bytes(
        self, kind: tuple[PruningConfig, bool], layouts: "Sequence[PromptLayout]"
    ) -> int:
        """What a batch of such a kind and prompts takes of it."""
        pruning, guided = kind
        return self._peak_bytes(layouts, pruning, pruner_of(pruning, guided=guided))

    def cohort(
        self,
        requests: Sequence[GuidedQuestion],
        heard: Collection[int] = (),
        layouts: "Sequence[PromptLayout] | None" = None,
    ) -> Running[Answer]:
        """A batch of one kind under way, of which some text is wanted as it comes.

        Raises:
            ConfigurationError: the model cannot be pruned so.
        """
        pruner = pruner_of(self._pruning_of(requests), guided=any(r.guidance for r in requests))
        records, guidance, settings = self._call(requests, pruner)
        return self._replica.engine.answering(
            records, guidance, heard=heard, layouts=layouts, **settings
        )

    def prompt_tokens(self, record: ImageQuestion) -> int:
        """How long its prompt will be; 0 for a record that cannot be laid out: `run` says why."""
        try:
            return self.lay_out(GuidedQuestion(record)).length
        except Exception:
            return 0

    def _fits(
        self,
        layouts: "Sequence[PromptLayout]",
        pruning: PruningConfig,
        pruner: "Pruner | None",
    ) -> bool:
        return self._peak_bytes(layouts, pruning, pruner) <= self.room_bytes

    def _peak_bytes(
        self,
        layouts: "Sequence[PromptLayout]",
        pruning: PruningConfig,
        pruner: "Pruner | None",
    ) -> int:
        memory, family = self._replica.memory, self._replica.encoder.family
        return peak_bytes(memory, family, layouts, pruning, pruner)

    def _pruning_of(self, requests: Sequence[GuidedQuestion]) -> PruningConfig:
        ways = {request.pruning or self._pruning for request in requests}
        assert len(ways) <= 1, "requests of several prunings in one batch"
        return ways.pop() if ways else self._pruning

    def _answer(self, requests: Sequence[GuidedQuestion], pruner: "Pruner | None") -> list[Answer]:
        records, guidance, settings = self._call(requests, pruner)
        return self._replica.engine.answer(records, guidance, **settings)

    def _call(
        self, requests: Sequence[GuidedQuestion], pruner: "Pruner | None"
    ) -> tuple[list[ImageQuestion], list[Guidance] | None, dict[str, Any]]:
        """Of the engine: records, their guidance and the settings."""
        guidance = [request.guidance for request in requests if request.guidance is not None]
        assert len(guidance) in (0, len(requests)), "guided and unguided requests in one batch"
        pruning = self._pruning_of(requests)
        settings: dict[str, Any] = {
            "prune_layer": pruning.prune_layer,
            "keep_ratio": pruning.keep_ratio,
            "pruner": pruner,
            **self._decoding.model_dump(),
        }
        return [request.record for request in requests], guidance or None, settings
