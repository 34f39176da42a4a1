"""The large model pruned by each of `sgl.pruners` at equal average retention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

import sgl
from sgl.equal_retention import RETENTIONS, place_at
from sgl.generation import Generating
from sgl.pruners import PRUNERS
from sgl.pruning import Pruner, Ranked, Scene
from sgl.ranking import Cut, staged_retention
from sgl.selection import Plan, Selection
from sgl.types import Guidance, ImageQuestion
from testbed import GUIDES

PRESETS: tuple[tuple[int, float], ...] = ((4, 0.46), (2, 0.22), (0, 0.09))
"""Prune layer K of the large model's 12, keep ratio: 64, 35 and 9 % of the visual token-layers.
K is what the paper's prune layers (`sgl.equal_retention`) give here."""
OWN = "own global"
"""The large model's own global map: needs a full pass of it first, so it saves nothing."""
GUIDED = {f"guided by {name}": name for name in GUIDES}
OTHERS = {
    "FastV": "fastv",
    "PyramidDrop": "pyramid",
    "vision attention": "vision",
    "DivPrune": "diverse",
    "uniform": "uniform",
    "random": "random",
}
"""Rankings that need no model's guidance, and their pruners."""
BATCH = 16
MAX_NEW_TOKENS = 64

Rankings = Mapping[str, Sequence[Guidance]]
"""By name of the ranking: the guidance of those that have it, a model's own included."""


@dataclass(frozen=True)
class Setting:
    """A ranking, where it prunes and how much; `preset` is what it is compared with."""

    ranking: str
    preset: tuple[int, float]
    layer: int
    keep_ratio: float

    @property
    def pruner(self) -> Pruner:
        """A model's own guidance stands for its own first pass, which would give the same."""
        return PRUNERS[OTHERS.get(self.ranking, "guided")]


@dataclass
class Outcome:
    """Per record: the answer's text, and the share of visual token-layers that was computed."""

    texts: list[str]
    retention: list[float]


def all_settings(layers: int) -> list[Setting]:
    """Every ranking at every preset, or at a layer where it can prune to the same retention."""
    found = []
    for preset, retention in zip(PRESETS, RETENTIONS, strict=True):
        found += [Setting(name, preset, *preset) for name in (*GUIDED, OWN)]
        for name in OTHERS:
            found.append(Setting(name, preset, *_place(name, preset, retention, layers)))
    return found


def _place(
    name: str, preset: tuple[int, float], retention: float, layers: int
) -> tuple[int, float]:
    """The preset's own, but where the pruner needs a layer to rank by."""
    place = place_at("fastv", retention, layers) if name == "FastV" else preset
    assert place is not None, "the testbed's models have layers enough"
    return place


@torch.inference_mode()
def pruned_answers(
    large: sgl.VLM,
    records: Sequence[ImageQuestion],
    rankings: Rankings,
    settings: Sequence[Setting],
) -> dict[Setting, Outcome]:
    """Answers by setting; images are read once for all of them.

    The large model's unpruned answer serves as a draft: it changes no token.
    """
    found = {setting: Outcome([], []) for setting in settings}
    watch = any(setting.pruner.watches_vision for setting in settings)
    for start in range(0, len(records), BATCH):
        part = slice(start, start + BATCH)
        scene = large.scene(records[part], max_new_tokens=MAX_NEW_TOKENS, watch_vision=watch)
        drafts = [one.token_ids for one in rankings[OWN][part]]
        for setting, outcome in found.items():
            seen = _guided_scene(scene, rankings.get(setting.ranking), part)
            plan = setting.pruner.plan(seen, setting.layer, setting.keep_ratio)
            _answer(large, scene, plan, drafts, outcome)
    return found


@torch.inference_mode()
def blind_answers(
    large: sgl.VLM, records: Sequence[ImageQuestion], own: Sequence[Guidance], layer: int
) -> list[str]:
    """Answers when no visual token stays from a layer on."""
    outcome = Outcome([], [])
    for start in range(0, len(records), BATCH):
        part = slice(start, start + BATCH)
        scene = large.scene(records[part], max_new_tokens=MAX_NEW_TOKENS)
        batch = len(scene.ids)
        selections = [Selection(layer, ~scene.visual_BT)]
        plan = Plan(selections, [[Cut(layer, 0)]] * batch, [0.0] * batch)
        _answer(large, scene, plan, [one.token_ids for one in own[part]], outcome)
    return outcome.texts


@torch.inference_mode()
def importance_by(
    large: sgl.VLM, records: Sequence[ImageQuestion]
) -> dict[str, list[npt.NDArray[np.float32]]]:
    """What the rankings of `OTHERS` that are known beforehand say, record by record."""
    ranked = {
        name: pruner
        for name, of_pruner in OTHERS.items()
        if isinstance(pruner := PRUNERS[of_pruner], Ranked)
    }
    found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in ranked}
    for start in range(0, len(records), BATCH):
        scene = large.scene(records[start : start + BATCH], watch_vision=True)
        for name, pruner in ranked.items():
            importance_BT, _ = pruner.rank(scene)
            found[name] += [
                one_T[visual_T].cpu().numpy()
                for one_T, visual_T in zip(importance_BT, scene.visual_BT, strict=True)
            ]
    return found


def _guided_scene(scene: Scene, guidance: Sequence[Guidance] | None, part: slice) -> Scene:
    return scene.guided_by(guidance[part]) if guidance else scene


def _answer(
    large: sgl.VLM,
    scene: Scene,
    plan: Plan,
    drafts: Sequence[Sequence[int]],
    outcome: Outcome,
) -> None:
    answers = Generating(
        scene.lm, scene.batch.prompt, scene.limits, selections=plan.selections, drafts=drafts
    ).finish()
    outcome.texts += [large.text(ids) for ids in answers.token_ids]
    outcome.retention += [
        staged_retention(cuts, large.layers, visual)
        for cuts, visual in zip(plan.cuts, scene.visual_tokens, strict=True)
    ]
