"""Train a model of the pair from nothing: `python -m testbed.train --model small --output DIR`.

First the vision tower learns to name what is in every slot; then it is frozen and projector and
language model learn to answer, many questions per page in one sequence. The same command resumes
from DIR/checkpoint.pt. All schedules go by step, data and weights by seed, one thread by default:
the same command gives the same weights on the same machine.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from testbed import MODEL_NAMES, ModelName
from testbed.architecture import SHAPES, build_model, export
from testbed.curriculum import Curriculum
from testbed.packing import IGNORE, Difficulty, PackedBatch, draw_batch
from testbed.questions import KINDS
from testbed.schedule import learning_rate_factor
from testbed.vision import PagePool, draw_pool, train_tower
from testbed.vocabulary import COLOURS, DIGITS, END, IMAGE, LETTERS, SECOND_DIGITS, TOKEN_ID


@dataclass(frozen=True)
class Recipe:
    """Of the language model's training.

    Attributes:
        steps: of the optimiser.
        learning_rate: its peak.
        pages: per step.
        patience, whole_images: see `Curriculum`.
    """

    steps: int
    learning_rate: float
    pages: int
    patience: int
    whole_images: float


RECIPES: dict[ModelName, Recipe] = {
    "small": Recipe(6_000, learning_rate=3e-3, pages=24, patience=1_000, whole_images=0.25),
    "large": Recipe(5_000, learning_rate=2e-3, pages=16, patience=400, whole_images=0.1),
}
_QUESTIONS = 10
"""Per page."""
_POOL, _VALIDATION_POOL = (3000, 1000), (192, 64)
_ALIGNMENT_WEIGHT = 0.3
_EVALUATE_EVERY, _SAVE_EVERY = 200, 1000


def train(name: ModelName, steps: int, output: Path) -> None:
    """Train, resume or just export one model.

    Args:
        name: which of the pair.
        steps: of the language model.
        output: gets checkpoint.pt, log.jsonl and, at the end, the folder `model`.
    """
    output.mkdir(parents=True, exist_ok=True)
    seed, started = SHAPES[name].seed, time.perf_counter()

    def log(line: str, **values: Any) -> None:
        print(f"{time.perf_counter() - started:7.0f} s  {line}", flush=True)
        if values:
            with (output / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    model = build_model(name)
    checkpoint = output / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    if state:
        model.load_state_dict(state["model"])
        log(f"resumed at step {state['step']}")
    else:
        train_tower(model, seed, log)
    model.model.vision_tower.requires_grad_(False)
    _train_language(name, model, steps, checkpoint, state, log)
    export(model, output / "model")
    log(f"exported to {output / 'model'}")


def _train_language(
    name: ModelName,
    model: Any,
    steps: int,
    checkpoint: Path,
    state: dict[str, Any] | None,
    log: Callable[..., None],
) -> None:
    seed, recipe = SHAPES[name].seed, RECIPES[name]
    pool = draw_pool(model, seed, _POOL)
    validation = draw_pool(model, seed + 5000, _VALIDATION_POOL)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=(0.9, 0.98), weight_decay=0.02)
    curriculum, first = Curriculum(recipe.patience, recipe.whole_images), 0
    if state:
        optimizer.load_state_dict(state["optimizer"])
        curriculum.stage, curriculum.since = state["curriculum"]
        first = state["step"]
    for step in range(first, steps):
        rate = recipe.learning_rate * learning_rate_factor(step, steps)
        difficulty = curriculum.difficulty(step / steps)
        rng = np.random.default_rng([seed, 2, step])
        batch = draw_batch(pool, rng, difficulty, recipe.pages, _QUESTIONS)
        loss = _step(model, batch, optimizer, rate)
        done = step + 1
        if done % _EVALUATE_EVERY == 0 or done == steps:
            accuracy = _accuracy(model, validation, difficulty)
            log(
                f"step {done}: loss {loss:.3f}, up to {difficulty.most_labels} labels, {accuracy}",
                step=done,
                loss=round(loss, 4),
                most_labels=difficulty.most_labels,
                whole_images=difficulty.whole_images,
                token_accuracy=accuracy,
            )
            curriculum.advance(_EVALUATE_EVERY, accuracy)
        if done % _SAVE_EVERY == 0 or done == steps:
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "curriculum": (curriculum.stage, curriculum.since),
                    "step": done,
                },
                checkpoint,
            )


def _step(model: Any, batch: PackedBatch, optimizer: Any, rate: float) -> float:
    optimizer.param_groups[0]["lr"] = rate
    logits_XN, targets_X, visual_XD = _forward(model, batch)
    loss = functional.cross_entropy(logits_XN, targets_X)
    alignment = _alignment(model, visual_XD, batch.attributes_X4)
    optimizer.zero_grad()
    (loss + _ALIGNMENT_WEIGHT * alignment).backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    return loss.item()


def _forward(model: Any, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and targets of the answer tokens, and the projected visual tokens."""
    decoder = model.model.language_model
    visual_XD = model.model.multi_modal_projector(batch.features_XF)
    is_image_BT1 = (batch.input_ids_BT == TOKEN_ID[IMAGE])[..., None]
    hidden_BTD = decoder.embed_tokens(batch.input_ids_BT).masked_scatter(is_image_BT1, visual_XD)
    rope = decoder.rotary_emb(hidden_BTD, batch.positions_BT)
    for layer in decoder.layers:
        hidden_BTD = layer(
            hidden_BTD,
            attention_mask=batch.mask_B1TT,
            position_embeddings=rope,
            position_ids=None,
        )
    asked_BT = batch.labels_BT != IGNORE
    logits_XN = model.lm_head(decoder.norm(hidden_BTD[asked_BT]))
    return logits_XN, batch.labels_BT[asked_BT], visual_XD


def _alignment(model: Any, visual_XD: Tensor, attributes_X4: Tensor) -> Tensor:
    """A visual token should be embedded like the words that it shows.

    Without this loss the link between page and vocabulary takes many times longer to appear.
    """
    embeddings_ND = model.model.language_model.embed_tokens.weight
    labelled = attributes_X4[:, 1] != IGNORE
    losses = []
    for words, target_X in zip(
        (COLOURS, LETTERS, DIGITS, SECOND_DIGITS), attributes_X4[labelled].unbind(-1), strict=True
    ):
        first = TOKEN_ID[words[0]]
        logits_XN = visual_XD[labelled] @ embeddings_ND[first : first + len(words)].T
        losses.append(functional.cross_entropy(logits_XN, target_X))
    return torch.stack(losses).sum()


@torch.no_grad()
def _accuracy(model: Any, pool: PagePool, difficulty: Difficulty) -> dict[str, float]:
    """Share of answer tokens (end tokens aside) predicted right, by kind, on unseen pages."""
    accuracy = {}
    for kind in KINDS:
        one_kind = Difficulty(difficulty.most_labels, {kind: 1.0}, difficulty.whole_images)
        batch = draw_batch(pool, np.random.default_rng(3), one_kind, pages=48, questions=4)
        logits_XN, targets_X, _ = _forward(model, batch)
        counted = targets_X != TOKEN_ID[END]
        right = (logits_XN.argmax(-1) == targets_X)[counted]
        accuracy[kind] = round(float(right.float().mean()), 3)
    return accuracy


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.train", description=__doc__)
    parser.add_argument("--model", choices=MODEL_NAMES, required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, help="of the language model; default: the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.model, options.steps or RECIPES[options.model].steps, options.output)


if __name__ == "__main__":
    main()
