"""What a row depends on, as names and values, and twelve hex digits over them.

Replicas, batch sizes, devices, block sizes and the input's path are no part of it: more records or
other machines continue the same job. Nor are the versions of packages, which are recorded and told
when they differ (docs/decisions/0020).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from actors.config import GuidanceConfig, ModelConfig
from pipeline.config import InputConfig, JobConfig, Mode
from pipeline.output import JobRecord
from pipeline.preflight import Resources
from sgl.errors import ConfigurationError
from sgl.types import Criterion

ENGINE = 1
"""Raised whenever the code itself begins to give other answers to the same settings."""
CHANCE = 2
"""Raised whenever sgl.chance begins to give other numbers."""

_TOLD = ("transformers", "torch", "ray", "pillow", "tokenizers")
_READ = frozenset({".json", ".jinja", ".model", ".txt", ".safetensors", ".bin"})
_SMALL_FILE = 32 << 20
_WINDOW = 4096
_WINDOWS = 256

_LATER = {
    f"{section}.{name}": json.dumps(model.model_fields[name].default)
    for section, model, names in (
        ("input", InputConfig, ("options",)),
        ("guidance", GuidanceConfig, ("criterion", "all_criteria")),
    )
    for name in names
}
"""Settings from after there were outputs, and the defaults by which those go on. Whoever adds a
setting of answers adds it here; of pruners see PruningConfig, whose data also stand in lists."""


def identity_of(job: JobConfig) -> dict[str, str]:
    """Everything that changes a row of this job, by the setting's name; model files are read."""
    found: dict[str, str] = {"engine": str(ENGINE), "mode": job.mode.value}
    found |= _flat("decoding", job.decoding)
    found |= _flat("input.columns", job.input.columns)
    for name in (
        "image_root",
        "drop",
        "options",
        "max_image_pixels",
        "max_image_bytes",
        "text_only",
    ):
        found[f"input.{name}"] = _text(getattr(job.input, name))
    found["output.write_importance"] = _text(job.output.write_importance)
    for role in ("small", "large"):
        if job.uses(role):
            found |= _model(f"models.{role}", job.model(role))
    if job.uses("small"):
        found |= _flat("guidance", job.guidance)
    if job.prunes:
        found |= _flat("pruning", job.pruning)
    if job.mode is Mode.CASCADE:
        found["threshold"] = _text(job.threshold)
        if job.probe:
            found |= _flat("probe", job.probe)
            # Rows say what an alarm did to them, and whoever was warned may go on fail-safe.
            del found["probe.on_alarm"]
    return _as_before(found | _chance(job))


def _as_before(identity: dict[str, str]) -> dict[str, str]:
    """An identity without later settings that are at their defaults and so change no answer."""
    return {name: text for name, text in identity.items() if _LATER.get(name) != text}


def _chance(job: JobConfig) -> dict[str, str]:
    """The settings of a job by which its rows go by chance, and by which numbers these go."""
    probe = job.probe if job.mode is Mode.CASCADE else None
    drawn = {
        "guidance": job.uses("small") and job.guidance.criterion is Criterion.RANDOM,
        "pruning": job.prunes and job.pruning.pruner == "random",
        "probe": probe and (probe.share < 1 or any(w.pruner == "random" for w in probe.prunings)),
    }
    return {f"{name}.chance": str(CHANCE) for name, by_chance in drawn.items() if by_chance}


def fingerprint_of(identity: Mapping[str, str]) -> str:
    """Twelve hex digits over an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def precision_of(job: JobConfig, resources: Resources) -> dict[str, str]:
    """The dtype of each model of the job on this cluster."""
    return {
        role: _dtype(job.model(role), placement.num_gpus)
        for role, placement in resources.placements.items()
    }


def continues(before: JobRecord | None, now: JobRecord) -> list[str]:
    """Whether a run may add to the rows of an earlier one, as far as the fingerprint cannot tell.

    Args:
        before: what the output says of itself; None for a new one.
        now: of this run, its precision settled.

    Returns:
        What the user should know, one line each.

    Raises:
        ConfigurationError: "auto" means another precision here, which would give other answers.
    """
    if before is None or before.fingerprint != now.fingerprint:
        return []
    for role, dtype in now.precision.items():
        if before.precision.get(role, dtype) != dtype:
            raise ConfigurationError(
                f"models.{role}.dtype: the rows so far were computed in {before.precision[role]}, "
                f"and here 'auto' is {dtype}; go on where there are the same devices, or write "
                "another directory"
            )
    return [
        f"{name} {new} goes on with rows of {name} {before.versions[name]}"
        for name, new in now.versions.items()
        if before.versions.get(name, new) != new
    ]


def unpinned(job: JobConfig) -> list[str]:
    """Models that may change between two runs without anybody noticing, one line each."""
    return [
        f"models.{role}.revision: not pinned; if the default branch of {job.model(role).path} "
        "moves, a resumed run adds answers of another model"
        for role in ("small", "large")
        if job.uses(role) and not job.model(role).revision and not _is_local(job.model(role))
    ]


def versions() -> dict[str, str]:
    """Of the packages that answers rest on, as far as they are installed here."""
    found = {}
    for name in _TOLD:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def checkpoint_digest(folder: Path) -> str:
    """Sixteen hex digits over the files that a model is made from, at the top of its folder.

    Small files count with every byte. Of a large safetensors file the header counts, which names
    every tensor, its type and its place, and 4 KiB at the start, in the middle and at the end of
    each tensor; of any other large file 256 windows. So a model of any size is read in seconds,
    and training, quantising or merging even a single tensor is noticed. Times of change do not
    count: a copy is the same model.
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.iterdir()):
        if file.suffix not in _READ or not file.is_file() or file.name.startswith("."):
            continue
        size = file.stat().st_size
        digest.update(f"{file.name}\n{size}\n".encode())
        with file.open("rb") as stream:
            for start, length in _spans(file, size):
                stream.seek(start)
                digest.update(stream.read(length))
    return digest.hexdigest()


def _spans(file: Path, size: int) -> Iterator[tuple[int, int]]:
    if size <= _SMALL_FILE:
        yield 0, size
    elif file.suffix == ".safetensors":
        yield from _tensor_spans(file)
    else:
        for i in range(_WINDOWS):
            yield i * (size - _WINDOW) // (_WINDOWS - 1), _WINDOW


def _tensor_spans(file: Path) -> Iterator[tuple[int, int]]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    data = 8 + length
    yield 0, data
    for name, tensor in sorted(header.items()):
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            last = max(begin, end - _WINDOW)
            for start in sorted({begin, (begin + last) // 2, last}):
                yield data + start, min(_WINDOW, end - start)


def _model(name: str, model: ModelConfig) -> dict[str, str]:
    # The folder's name is no part of it where its contents are.
    return {
        f"{name}.path": checkpoint_digest(Path(model.path)) if _is_local(model) else model.path,
        f"{name}.revision": _text(model.revision),
        f"{name}.dtype": model.dtype,
    }


def _is_local(model: ModelConfig) -> bool:
    return (Path(model.path) / "config.json").is_file()


def _dtype(model: ModelConfig, num_gpus: float) -> str:
    if model.dtype != "auto":
        return model.dtype
    return "bfloat16" if num_gpus and model.device != "cpu" else "float32"


def _flat(name: str, settings: BaseModel) -> dict[str, str]:
    return {f"{name}.{key}": _text(value) for key, value in settings.model_dump().items()}


def _text(value: object) -> str:
    return json.dumps(value, default=str)
