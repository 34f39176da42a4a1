"""Small VLM guidance for large VLMs (SGL, arXiv 2412.03324): guide, exit early, prune.

    small = sgl.load("path/or/id")
    large = sgl.load("path/or/id")
    answers = sgl.run_cascade(small, large, records, threshold=0.8)

Importing this package is light; torch and transformers load with the first model function.
"""

from typing import TYPE_CHECKING, Any

from sgl.types import Answer, Criterion, Guidance, ImageQuestion

if TYPE_CHECKING:
    from sgl.cascade import run_cascade
    from sgl.loading import load
    from sgl.vlm import VLM

__all__ = ["VLM", "Answer", "Criterion", "Guidance", "ImageQuestion", "load", "run_cascade"]


def __getattr__(name: str) -> Any:
    if name == "VLM":
        from sgl.vlm import VLM

        return VLM
    if name == "load":
        from sgl.loading import load

        return load
    if name == "run_cascade":
        from sgl.cascade import run_cascade

        return run_cascade
    raise AttributeError(f"module 'sgl' has no attribute {name!r}")
