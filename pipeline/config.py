"""Settings of one job: frozen, strict, one YAML file; light to import (no Ray, no torch)."""

from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from actors.config import (
    DecodingConfig,
    GuidanceConfig,
    ModelConfig,
    PruningConfig,
    Seed,
    StrictModel,
)
from infra.deploy.config import DeployConfig
from infra.pricing import PricingConfig
from infra.s3 import StorageConfig
from pipeline.budget_config import BudgetConfig, WhenSpent
from pipeline.http_config import HttpConfig
from pipeline.logs import LogsConfig
from pipeline.metrics_config import MetricsConfig
from pipeline.pool_config import PoolConfig, PoolsConfig
from pipeline.probe import ProbeConfig, Promise
from pipeline.ray_config import RayConfig
from pipeline.submit_config import SubmitConfig


class Mode(StrEnum):
    """Which models the graph holds."""

    CASCADE = "cascade"
    SMALL = "small"
    LARGE = "large"


class ColumnsConfig(StrictModel):
    """The input's names for the columns that mean something here; all others are carried.

    Attributes:
        id: unique per record; where the column is absent, a hash of image and question is used.
        image: bytes, a path or URI, or a Hugging Face struct of bytes and path.
        question: the user's text.
        answers: accepted answers, one text or a list of them; optional, for scoring. Where no
            column has this name, and no other name is told, a column `answer` is taken.
        max_new_tokens: per-record limit; optional.
    """

    id: str = "id"
    image: str = "image"
    question: str = "question"
    answers: str = "answers"
    max_new_tokens: str = "max_new_tokens"

    def answers_among(self, names: Collection[str]) -> str:
        """The column of accepted answers in an input that has these columns."""
        told = {self.id, self.image, self.question, self.max_new_tokens}
        missing = self.answers == "answers" and self.answers not in names
        return "answer" if missing and "answer" in names and "answer" not in told else self.answers


class InputConfig(StrictModel):
    """Where the records come from.

    Attributes:
        path: a file, a directory or a glob; local or a URI such as s3://bucket/folder.
        format: "auto" goes by the file names: .parquet, .jsonl, .ndjson, .csv, .json (LLaVA),
            .tar (WebDataset), .arrow (Hugging Face, saved to disk), .tsv (VLMEvalKit). "openai" is
            OpenAI's batch format in .jsonl, which "auto" tells by its entries.
        options: columns of the answer options: one that holds a list of them, or one per option,
            A first. The question then ends with them. VLMEvalKit's need not be named.
        image_root: folder of relative image references; None means the manifest's own folder.
        columns: the input's column names.
        drop: input columns that are not carried into the output.
        limit: at most so many records, from the start of the input.
        sample: at most so many of these, drawn at random by their ids.
        sample_seed: another one draws others.
        max_image_pixels: larger pictures become failed rows before they are decoded.
        max_image_bytes: larger files become failed rows before they are read.
        http: fetch pictures over http(s); None, the default, refuses all of them.
        fetch_threads: pictures fetched at the same time by one CPU task.
        fetch_deadline_s: after so long the process that fetches a block of pictures is ended, its
            pictures are fetched one by one, and one that takes so long alone is a failed row.
        text_only: whether a record may come without an image, and the input without a column of
            them. It is then answered as all others, with nothing to rank or prune; by default it is
            a failed row, because an image that is missing is more often a fault of the data.
    """

    path: str = Field(min_length=1)
    format: Literal[
        "auto", "parquet", "jsonl", "csv", "llava", "openai", "vlmevalkit", "webdataset", "arrow"
    ] = "auto"
    options: tuple[str, ...] = ()
    image_root: str | None = None
    columns: ColumnsConfig = ColumnsConfig()
    drop: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=1)
    sample: int | None = Field(default=None, ge=1)
    sample_seed: Seed = 0
    max_image_pixels: int = Field(default=100_000_000, ge=1)
    max_image_bytes: int = Field(default=100_000_000, ge=1)
    http: HttpConfig | None = None
    fetch_threads: int = Field(default=4, ge=1)
    fetch_deadline_s: float = Field(default=600.0, gt=0)
    text_only: bool = False


class OutputConfig(StrictModel):
    """Where the rows go; the layout is told in `pipeline/output.py`.

    Attributes:
        path: the output directory; it is appended to, never overwritten.
        rows_per_file: at least so many rows per Parquet file; also what a crash can cost.
        write_importance: add the importance map of every record, float16, relative to its most
            important token.
    """

    path: str = Field(min_length=1)
    rows_per_file: int = Field(default=256, ge=1)
    write_importance: bool = False


class ModelsConfig(StrictModel):
    """The pair; a mode that needs only one of them may leave the other out."""

    small: ModelConfig | None = None
    large: ModelConfig | None = None


class FaultsConfig(StrictModel):
    """When to give up on a record, and when on a replica.

    Attributes:
        max_deaths: a record during which its process died so often, each time in no other's
            company, is a failed row. Below three, replicas that are killed at random, many times in
            one run, can cost a good record its answer.
        max_restarts: deaths of one replica in a row, while it loads or works and without one
            finished batch between, that are put up with. More are a broken device, and an error.
    """

    max_deaths: int = Field(default=3, ge=1)
    max_restarts: int = Field(default=8, ge=0)


class JobConfig(StrictModel):
    """One run of the pipeline.

    Attributes:
        mode: cascade (both models), small or large (one of them, the large one unpruned unless
            `pruning.pruner` names a rule that needs no small model).
        threshold: records whose exit score reaches it keep the small model's answer. Needed by
            the cascade. A value above 1 lets none exit.
        rows_per_block: granularity of streaming: rows that move between stages together.
        probe: a random slice of the records that the large model also answers unpruned, or in other
            ways; only in the cascade.
        promise: that the probe is held against; a policy brings its own.
        pricing: where prices come from that no pool has of its own; None is the built-in table.
        budget: what the output may cost; nothing limits it by default.
        metrics: served for Prometheus while the job runs.
        logs: lines for people, or JSON.
        deploy: what `sgl deploy render` makes of the job; a run does not look at it.
        submit: where `sgl submit` takes the job; a run does not look at it.
    """

    input: InputConfig
    output: OutputConfig
    mode: Mode = Mode.CASCADE
    threshold: float | None = Field(default=None, ge=0)
    models: ModelsConfig = ModelsConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    pruning: PruningConfig = PruningConfig()
    decoding: DecodingConfig = DecodingConfig()
    pools: PoolsConfig = PoolsConfig()
    faults: FaultsConfig = FaultsConfig()
    rows_per_block: int = Field(default=64, ge=1)
    probe: ProbeConfig | None = None
    promise: Promise | None = None
    pricing: PricingConfig | None = None
    budget: BudgetConfig | None = None
    metrics: MetricsConfig | None = None
    logs: LogsConfig = LogsConfig()
    storage: StorageConfig = StorageConfig()
    ray: RayConfig = RayConfig()
    deploy: DeployConfig | None = None
    submit: SubmitConfig = SubmitConfig()

    @model_validator(mode="after")
    def _models_for_mode(self) -> "JobConfig":
        for role in ("small", "large"):
            if self.uses(role) and getattr(self.models, role) is None:
                raise ValueError(
                    f"models.{role}: mode '{self.mode}' needs it; "
                    f"write models.{role}.path, or another mode"
                )
        return self

    @model_validator(mode="after")
    def _graphs_of_one_gpu(self) -> "JobConfig":
        if self.models.small and self.models.small.cuda_graphs:
            raise ValueError(
                "models.small.cuda_graphs: the small model captures its attention at every token, "
                "which no graph can; leave it out"
            )
        large = self.models.large
        several = max(self.pools.large.num_gpus or 1, (large and large.tensor_parallel) or 1) > 1
        if large and large.cuda_graphs and several:
            raise ValueError(
                "models.large.cuda_graphs: a graph is of one GPU, and the replicas have several; "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _threshold_for_cascade(self) -> "JobConfig":
        if self.mode is Mode.CASCADE and self.threshold is None:
            raise ValueError("threshold: the cascade needs it; write a number from 0 to 1")
        return self

    @model_validator(mode="after")
    def _balance_of_a_cascade(self) -> "JobConfig":
        if self.pools.balance and self.mode is not Mode.CASCADE:
            raise ValueError(f"pools.balance: mode '{self.mode}' has one pool only; leave it out")
        return self

    @model_validator(mode="after")
    def _guided_needs_small(self) -> "JobConfig":
        guided = self.pruning.pruner == "guided" and "pruner" in self.pruning.model_fields_set
        if self.mode is Mode.LARGE and guided:
            raise ValueError(
                "pruning.pruner: 'guided' is by the small model, which mode 'large' does not run; "
                "write another pruner, mode cascade, or leave it out to prune nothing"
            )
        return self

    @model_validator(mode="after")
    def _budget_of_a_cascade(self) -> "JobConfig":
        degrades = self.budget is not None and self.budget.then is WhenSpent.SMALL
        if degrades and self.mode is not Mode.CASCADE:
            raise ValueError(
                "budget.then: 'small' is for the cascade, whose small model goes on alone; write "
                "'stop'"
            )
        return self

    @model_validator(mode="after")
    def _importance_needs_small(self) -> "JobConfig":
        if self.output.write_importance and not self.uses("small"):
            raise ValueError(
                "output.write_importance: mode 'large' has no small model that ranks; write false"
            )
        return self

    @model_validator(mode="after")
    def _prices_of_all_pools(self) -> "JobConfig":
        prices = [p.usd_per_hour for role, p in self._pools() if self.uses(role)]
        if len({price is None for price in prices}) > 1:
            raise ValueError(
                "pools: usd_per_hour is given for one pool only; write it for both or for none"
            )
        return self

    def _pools(self) -> tuple[tuple[str, PoolConfig], ...]:
        return (("small", self.pools.small), ("large", self.pools.large))

    def uses(self, role: str) -> bool:
        """Whether the graph of this mode holds the model of that role ("small" or "large")."""
        return self.mode is Mode.CASCADE or self.mode == role

    @property
    def prunes(self) -> bool:
        """Whether the large model's visual tokens are pruned in this mode."""
        unguided = self.pruning.pruner != "guided"
        return self.mode is Mode.CASCADE or (self.mode is Mode.LARGE and unguided)

    def model(self, role: str) -> ModelConfig:
        """The model of a role that this mode uses."""
        model: ModelConfig | None = getattr(self.models, role)
        assert model is not None, f"mode {self.mode} has no {role} model"
        return model

    def ignored(self) -> tuple[str, ...]:
        """Settings that were written and that this mode does not look at."""
        written = self.model_fields_set
        unused = {
            Mode.CASCADE: (),
            Mode.SMALL: ("threshold", "pruning", "probe"),
            Mode.LARGE: ("threshold", "pruning", "guidance", "probe"),
        }[self.mode]
        looked_at = {"pruning"} if self.prunes else set()
        return tuple(name for name in unused if name in written and name not in looked_at)

    def absolute(self, *, elsewhere: bool = False) -> "JobConfig":
        """The same job as workers need it: paths absolute, the storage's endpoint settled.

        Args:
            elsewhere: where the job runs the environment says another endpoint, or none.

        Raises:
            ValidationError: the environment's endpoint is none.
        """
        data = self.model_dump(exclude_unset=True)
        if not elsewhere:
            data["storage"] = self.storage.resolved().model_dump()
        data["input"]["path"] = absolute_path(self.input.path)
        if self.input.image_root is not None:
            data["input"]["image_root"] = absolute_path(self.input.image_root)
        data["output"]["path"] = absolute_path(self.output.path)
        if self.pricing and self.pricing.file:
            data["pricing"]["file"] = absolute_path(self.pricing.file)
        for role, model in (("small", self.models.small), ("large", self.models.large)):
            if model is not None and Path(model.path).expanduser().exists():
                data["models"][role]["path"] = absolute_path(model.path)
        return JobConfig.model_validate(data)


def absolute_path(path: str) -> str:
    """A local path made absolute; a URI as it is."""
    return path if "://" in path else str(Path(path).expanduser().absolute())
