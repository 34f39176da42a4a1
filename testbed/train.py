"""Train a model of the pair from nothing: `python -m testbed.train --model small --output DIR`.

First the vision tower learns to name what is in every slot; then it is frozen and projector and
language model learn to answer, many questions per page in one sequence. The large model does not
start from nothing: it is the small one with more layers, which add nothing at first.

The same command resumes from DIR/checkpoint.pt. All schedules go by step, data and weights by seed,
one thread by default: the same command gives the same weights on the same machine.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForImageTextToText

from testbed import MODEL_NAMES, ModelName, model_path
from testbed.architecture import SHAPES, build_model, export, grow
from testbed.curriculum import Curriculum
from testbed.packing import IGNORE, Difficulty, PackedBatch, draw_batch
from testbed.questions import KINDS
from testbed.recipes import RECIPES
from testbed.schedule import learning_rate_factor
from testbed.vision import PagePool, draw_pool, train_tower
from testbed.vocabulary import COLOURS, DIGITS, END, IMAGE, LETTERS, SECOND_DIGITS, TOKEN_ID

_QUESTIONS = 10
"""Per page."""
_POOL, _VALIDATION_POOL = (3000, 1000), (192, 64)
_ALIGNMENT_WEIGHT = 0.3
_SLOT_CLASSES = [len(COLOURS), len(LETTERS), len(DIGITS), len(SECOND_DIGITS)]
_EVALUATE_EVERY, _SAVE_EVERY = 200, 1000


def train(name: ModelName, steps: int, output: Path, grow_from: Path | None = None) -> None:
    """Train, resume or just export one model.

    Args:
        name: which of the pair.
        steps: of the language model.
        grow_from: a trained, shallower model to start from, instead of from nothing.
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
    elif grow_from:
        grow(AutoModelForImageTextToText.from_pretrained(grow_from, dtype=torch.float32), model)
        log(f"grown from {grow_from}")
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
    heads = nn.Linear(SHAPES[name].hidden, 2 * sum(_SLOT_CLASSES))
    weights = [
        weight for weight in (*model.parameters(), *heads.parameters()) if weight.requires_grad
    ]
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=(0.9, 0.98), weight_decay=0.02)
    curriculum, first = Curriculum(recipe.plan), 0
    if state:
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        curriculum.stage, curriculum.since = state["curriculum"]
        first = state["step"]
    for step in range(first, steps):
        rate = recipe.learning_rate * learning_rate_factor(step, steps)
        difficulty = curriculum.difficulty(step / steps)
        rng = np.random.default_rng([seed, 2, step])
        batch = draw_batch(pool, rng, difficulty, recipe.pages, _QUESTIONS)
        loss = _step(model, heads, recipe.surroundings_weight, batch, optimizer, rate)
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
                    "heads": heads.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "curriculum": (curriculum.stage, curriculum.since),
                    "step": done,
                },
                checkpoint,
            )


def _step(
    model: Any,
    heads: nn.Module,
    surroundings_weight: float,
    batch: PackedBatch,
    optimizer: Any,
    rate: float,
) -> float:
    optimizer.param_groups[0]["lr"] = rate
    forward = _forward(model, batch)
    loss = functional.cross_entropy(forward.logits_XN, forward.targets_X)
    alignment = _alignment(model, forward.visual_XD, batch.attributes_X4)
    surroundings = _surroundings(heads, forward.halfway_XD, batch.neighbours_X8)
    optimizer.zero_grad()
    (loss + _ALIGNMENT_WEIGHT * alignment + surroundings_weight * surroundings).backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    return loss.item()


@dataclass(frozen=True)
class _Forward:
    """Logits and targets of the answer tokens; visual tokens as projected, and halfway up."""

    logits_XN: Tensor
    targets_X: Tensor
    visual_XD: Tensor
    halfway_XD: Tensor


def _forward(model: Any, batch: PackedBatch) -> _Forward:
    decoder = model.model.language_model
    visual_XD = model.model.multi_modal_projector(batch.features_XF)
    is_image_BT = batch.input_ids_BT == TOKEN_ID[IMAGE]
    hidden_BTD = decoder.embed_tokens(batch.input_ids_BT)
    hidden_BTD = hidden_BTD.masked_scatter(is_image_BT[..., None], visual_XD)
    rope = decoder.rotary_emb(hidden_BTD, batch.positions_BT)
    for index, layer in enumerate(decoder.layers):
        if index == len(decoder.layers) // 2:
            halfway_XD = hidden_BTD[is_image_BT]
        hidden_BTD = layer(
            hidden_BTD,
            attention_mask=batch.mask_B1TT,
            position_embeddings=rope,
            position_ids=None,
        )
    asked_BT = batch.labels_BT != IGNORE
    logits_XN = model.lm_head(decoder.norm(hidden_BTD[asked_BT]))
    return _Forward(logits_XN, batch.labels_BT[asked_BT], visual_XD, halfway_XD)


def _surroundings(heads: nn.Module, halfway_XD: Tensor, neighbours_X8: Tensor) -> Tensor:
    """Halfway up a visual token should know what stands to its left and above it.

    Causal attention lets it look there; a question about a neighbour then is one look-up.
    """
    logits = heads(halfway_XD).split(2 * _SLOT_CLASSES, dim=-1)
    losses = [
        functional.cross_entropy(part, target_X, ignore_index=IGNORE)
        for part, target_X in zip(logits, neighbours_X8.unbind(-1), strict=True)
    ]
    return torch.stack(losses).sum()


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
        one_kind = replace(difficulty, shares={kind: 1.0})
        batch = draw_batch(pool, np.random.default_rng(3), one_kind, pages=48, questions=4)
        forward = _forward(model, batch)
        counted = forward.targets_X != TOKEN_ID[END]
        right = (forward.logits_XN.argmax(-1) == forward.targets_X)[counted]
        accuracy[kind] = round(float(right.float().mean()), 3)
    return accuracy


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.train", description=__doc__)
    parser.add_argument("--model", choices=MODEL_NAMES, required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, help="of the language model; default: the recipe's")
    parser.add_argument(
        "--grow-from",
        type=Path,
        metavar="DIR",
        help="the trained small model that the large one starts from; default: the shipped one",
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    grow_from = options.grow_from or model_path("small") if options.model == "large" else None
    steps = options.steps or RECIPES[options.model].steps
    train(options.model, steps, options.output, grow_from)


if __name__ == "__main__":
    main()
