"""Train a model of the pair from nothing: `python -m testbed.train --model small --output DIR`.

First the vision tower learns to name what is in every cell; then it is frozen and projector and
language model learn to answer, many questions per page in one sequence. In the first part of the
training they are also taught where to look and what a visual token should know of its
surroundings; these lessons fade out, and from then on the answers alone are learned. A recipe may
end with a finish, in which pages are pruned and the lessons come back for its first half.

The same command resumes from DIR/checkpoint.pt. All schedules go by step, data and weights by seed:
the same command gives the same weights on the same machine.
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
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from testbed import MODEL_NAMES, ModelName
from testbed.architecture import SHAPES, build_model, export
from testbed.packing import ANSWER, AROUND, ITEMS, WHOLE, PackedBatch, Shown, draw_batch
from testbed.page import PageStyle
from testbed.recipes import RECIPES, SHARES, STAGES, Recipe
from testbed.render import VALIDATION_HANDS
from testbed.schedule import learning_rate_factor
from testbed.vision import BINDING_CLASSES, IGNORE, PagePool, draw_pool, train_tower
from testbed.vocabulary import COLOURS, DIGITS, IMAGE, LETTERS, ORDINALS, SECOND_DIGITS, TOKEN_ID

_QUESTIONS = 8
"""Per page."""
_TALL_SHARE = 0.2
_WHOLE_PAGES = {1: 8, 2: 3}
"""Pages per step by tiles while whole images are shown."""
_THINNED_PAGES, _THINNED_QUESTIONS = {1: 24, 2: 8}, 4
"""The same of thinned and pruned ones: fewer questions, or what they need leaves little to drop."""
_POOL_STEPS = 1000
"""A new pool of pages after so many steps."""
_VALIDATION_POOL = ((PageStyle(1, 20, 48), 96), (PageStyle(2, 32, 60), 24))
_ALIGNMENT_WEIGHT, _BINDING_WEIGHT = 0.3, 0.2
_READING_WEIGHTS = {"reading": 1.0, "memory": 0.1, "told": 0.2}
"""Where to look; what a visual token still shows where it is looked at; what was seen there."""
_AROUND_HEAD = _COUNTING_HEAD = 2
"""First head of those that find items by their surroundings, and head that counts: heads of their
own, because one pair of heads for every way to look learns none of them well."""
_EVALUATE_EVERY, _SAVE_EVERY = 200, 500


def train(name: ModelName, steps: int, output: Path, device: str = "cpu") -> None:
    """Train, resume or just export one model.

    Args:
        name: which of the pair.
        steps: of the language model, without the finish.
        output: gets checkpoint.pt, log.jsonl and, at the end, the folder `model`.
        device: a torch device.
    """
    output.mkdir(parents=True, exist_ok=True)
    seed, started = SHAPES[name].seed, time.perf_counter()

    def log(line: str, **values: Any) -> None:
        print(f"{time.perf_counter() - started:7.0f} s  {line}", flush=True)
        if values:
            with (output / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    model = build_model(name).to(device)
    checkpoint, tower = output / "checkpoint.pt", output / "tower.pt"
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    if state:
        model.load_state_dict(state["model"])
        log(f"resumed at step {state['step']}")
    elif tower.exists():
        trained = torch.load(tower, weights_only=True)
        model.model.vision_tower.load_state_dict(trained["weights"])
        torch.set_rng_state(trained["random"])
        log("took up the trained vision tower")
    else:
        train_tower(model, seed, log)
        trained = {
            "weights": model.model.vision_tower.state_dict(),
            "random": torch.get_rng_state(),
        }
        torch.save(trained, tower)
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
    heads = nn.Linear(SHAPES[name].hidden, sum(BINDING_CLASSES)).to(model.device)
    weights = [
        weight for weight in (*model.parameters(), *heads.parameters()) if weight.requires_grad
    ]
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=(0.9, 0.98), weight_decay=0.02)
    validation = draw_pool(
        model, np.random.default_rng([seed, 5000]), _VALIDATION_POOL, VALIDATION_HANDS
    )
    first, pool, pool_key = 0, validation, None
    if state:
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    last = steps + (recipe.finish.steps if recipe.finish else 0)
    for step in range(first, last):
        rng = np.random.default_rng([seed, 2, step])
        moment = _moment(recipe, step, steps, rng)
        if pool_key != (key := (moment.stage, step // _POOL_STEPS)):
            pool = draw_pool(
                model, np.random.default_rng([seed, 1, *key]), STAGES[moment.stage].pages
            )
            pool_key = key
        batch = _draw(pool, rng, recipe, moment).to(model.device)
        barred = bool(rng.random() < 0.5) and step < steps
        lesson = _Lesson(recipe, moment.taught, barred, moment.pruned_from)
        optimizer.param_groups[0]["lr"] = moment.learning_rate
        losses = _step(model, heads, lesson, batch, optimizer)
        done = step + 1
        if done % _EVALUATE_EVERY == 0 or done == last:
            accuracy = _accuracy(model, validation, WHOLE if moment.whole_images else ITEMS)
            losses = {part: round(loss, 4) for part, loss in losses.items()}
            log(f"step {done}: {losses} {accuracy}", step=done, losses=losses, accuracy=accuracy)
        if done % _SAVE_EVERY == 0 or done == last:
            state = {
                "model": model.state_dict(),
                "heads": heads.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
            }
            partial = checkpoint.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(checkpoint)


@dataclass(frozen=True)
class _Moment:
    """What the schedules say of one step.

    Attributes:
        stage: index into STAGES.
        learning_rate: of the optimiser.
        taught: weight of the lessons.
        whole_images: whether these are shown.
        pruned_from: layer from which on pages are pruned; None: they are not.
    """

    stage: int
    learning_rate: float
    taught: float
    whole_images: bool
    pruned_from: int | None = None


def _moment(recipe: Recipe, step: int, steps: int, rng: np.random.Generator) -> _Moment:
    """Of a step of the main part, of `steps`, or of the finish behind it."""
    if step < steps:
        progress = step / steps
        shares, weights = zip(*recipe.lessons, strict=True)
        return _Moment(
            stage=next(i for i, one in enumerate(STAGES) if progress < one.until),
            learning_rate=recipe.learning_rate * learning_rate_factor(step, steps),
            taught=float(np.interp(progress, shares, weights)),
            whole_images=progress >= 1 - recipe.whole_images,
        )
    finish, step = recipe.finish, step - steps
    assert finish is not None
    return _Moment(
        stage=len(STAGES) - 1,
        learning_rate=finish.learning_rate * learning_rate_factor(step, finish.steps),
        taught=finish.lessons * max(0.0, 1 - 2 * step / finish.steps),
        whole_images=True,
        pruned_from=int(rng.integers(finish.deepest + 1)) if rng.random() < finish.pruned else None,
    )


def _draw(pool: PagePool, rng: np.random.Generator, recipe: Recipe, moment: _Moment) -> PackedBatch:
    """Pages of one height only: no padding to the longest image."""
    tiles = 2 if rng.random() < _TALL_SHARE and pool.pages[-1].tiles == 2 else 1
    indices = [index for index, page in enumerate(pool.pages) if page.tiles == tiles]
    pages, questions, shown, shares = recipe.pages, _QUESTIONS, ITEMS, SHARES
    if moment.whole_images:
        pages, shown = _WHOLE_PAGES[tiles], WHOLE
    if moment.pruned_from is not None:
        assert recipe.finish is not None
        questions, shares = _THINNED_QUESTIONS, recipe.finish.shares
        shown = replace(WHOLE, kept=rng.random() ** 2)
    elif moment.whole_images and recipe.thinned > 0 and rng.random() < recipe.thinned:
        pages, questions = _THINNED_PAGES[tiles], _THINNED_QUESTIONS
        shown = Shown(items=False, others=rng.random() ** 2)
    chosen = rng.choice(indices, pages).tolist()
    return draw_batch(pool, chosen, rng, shares, questions, shown)


@dataclass(frozen=True)
class _Lesson:
    """What a step teaches beside the answers.

    Attributes:
        recipe: of the training.
        weight: of the lessons, 0 to 1.
        barred: whether the barrier is down.
        pruned_from: layer from which on what is pruned is not seen; None: all is.
    """

    recipe: Recipe
    weight: float
    barred: bool
    pruned_from: int | None = None


def _step(
    model: Any, heads: nn.Module, lesson: _Lesson, batch: PackedBatch, optimizer: Any
) -> dict[str, float]:
    forward = _forward(model, batch, lesson)
    losses = {"answer": functional.cross_entropy(forward.logits_XN, forward.targets_X)}
    total = losses["answer"]
    if lesson.weight > 0:
        losses["alignment"] = _alignment(model, forward.visual_XD, batch.attributes_X6)
        losses["binding"] = _binding(heads, forward.bound_XD, batch.bindings_X5)
        total = total + lesson.weight * (
            _ALIGNMENT_WEIGHT * losses["alignment"] + _BINDING_WEIGHT * losses["binding"]
        )
        for name, loss in forward.reading.items():
            losses[name] = loss
            part = name.split()[0]
            total = total + lesson.weight * _READING_WEIGHTS[part] * loss
    optimizer.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    return {part: loss.item() for part, loss in losses.items()}


@dataclass(frozen=True)
class _Forward:
    """What one pass gives.

    Attributes:
        logits_XN, targets_X, questions_X: of the answer tokens.
        visual_XD: visual tokens as projected.
        bound_XD: the same at the binding layer.
        reading: losses of the lessons in reading, by name.
    """

    logits_XN: Tensor
    targets_X: Tensor
    questions_X: Tensor
    visual_XD: Tensor
    bound_XD: Tensor
    reading: dict[str, Tensor]


def _forward(model: Any, batch: PackedBatch, lesson: _Lesson | None = None) -> _Forward:
    decoder = model.model.language_model
    visual_XD = model.model.multi_modal_projector(batch.features_XF)
    is_image_BT = batch.input_ids_BT == TOKEN_ID[IMAGE]
    hidden_BTD = decoder.embed_tokens(batch.input_ids_BT)
    hidden_BTD = hidden_BTD.masked_scatter(is_image_BT[..., None], visual_XD)
    rope = decoder.rotary_emb(hidden_BTD, batch.positions_BT)
    barred_B1TT = batch.mask_B1TT & (is_image_BT[:, None, :, None] | ~is_image_BT[:, None, None])
    bound_XD = visual_XD
    reading: dict[str, Tensor] = {}
    for index, layer in enumerate(decoder.layers):
        mask_B1TT = batch.mask_B1TT
        if lesson:
            if lesson.barred and index < lesson.recipe.barrier:
                mask_B1TT = barred_B1TT
            if lesson.pruned_from is not None and index >= lesson.pruned_from:
                mask_B1TT = mask_B1TT & ~batch.pruned_BT[:, None, None]
            if index == lesson.recipe.binding_layer:
                bound_XD = hidden_BTD[is_image_BT]
        before_BTD = hidden_BTD
        hidden_BTD = layer(
            hidden_BTD,
            attention_mask=mask_B1TT,
            position_embeddings=rope,
            position_ids=None,
        )
        if lesson and lesson.weight > 0:
            hidden = _Hidden(index, layer, before_BTD, hidden_BTD)
            reading |= _reading_lessons(model, hidden, rope, batch, lesson)
    asked_BT = batch.labels_BT != IGNORE
    return _Forward(
        model.lm_head(decoder.norm(hidden_BTD[asked_BT])),
        batch.labels_BT[asked_BT],
        batch.question_BT[asked_BT],
        visual_XD,
        bound_XD,
        reading,
    )


@dataclass(frozen=True)
class _Hidden:
    """A layer with its index, input and output."""

    index: int
    layer: Any
    before_BTD: Tensor
    after_BTD: Tensor


def _reading_lessons(
    model: Any, hidden: _Hidden, rope: Any, batch: PackedBatch, lesson: _Lesson
) -> dict[str, Tensor]:
    """Losses of one layer by name: where to look, what is still shown there, what it told."""
    recipe, at, losses = lesson.recipe, hidden.index, {}
    norm = model.model.language_model.norm
    for stage, taught_at in recipe.reading.items():
        reads_R4 = batch.reads_R5[batch.reads_R5[:, 0] == stage, 1:]
        if taught_at != at or len(reads_R4) == 0:
            continue
        where = f"around at layer {at}" if stage == AROUND else f"at layer {at}"
        first_head = _AROUND_HEAD if stage == AROUND else 0
        losses[f"reading {where}"] = _reading(hidden, rope, batch, reads_R4, first_head)
        if stage != AROUND:
            remembered_XD = norm(hidden.before_BTD[batch.input_ids_BT == TOKEN_ID[IMAGE]])
            losses[f"memory {where}"] = _alignment(model, remembered_XD, batch.attributes_X6)
        if stage not in (ANSWER, AROUND):
            losses[f"told after layer {at}"] = _told(model, norm(hidden.after_BTD), batch, reads_R4)
    if recipe.counting == at and len(batch.counts_C4):
        losses[f"reading counts at layer {at}"] = _counting(hidden, rope, batch)
    return losses


def _told(model: Any, hidden_BTD: Tensor, batch: PackedBatch, reads_R4: Tensor) -> Tensor:
    """After looking at an item, a token should be embedded like what the item shows.

    One that looked for a number learns the name beside it.
    """
    page_R, token_R, value_R, key_R = reads_R4.unbind(-1)
    is_image_BT = batch.input_ids_BT == TOKEN_ID[IMAGE]
    visual_BT = (is_image_BT.flatten().cumsum(0) - 1).view(is_image_BT.shape)
    shown_R = visual_BT[page_R, value_R] - (key_R == IGNORE).long()
    return _alignment(model, hidden_BTD[page_R, token_R], batch.attributes_X6[shown_R])


def _reading(
    hidden: _Hidden, rope: Any, batch: PackedBatch, reads_R4: Tensor, first_head: int
) -> Tensor:
    """Mean negative log attention of one head to values and of the next one to keys."""
    page_R, token_R, *targets = reads_R4.unbind(-1)
    log_R2T = _log_attention(hidden, rope, batch, page_R, token_R, first_head)
    found = [
        log_R2T[target_R != IGNORE, head].gather(1, target_R[target_R != IGNORE][:, None])
        for head, target_R in enumerate(targets)
    ]
    return -torch.cat(found).mean()


def _counting(hidden: _Hidden, rope: Any, batch: PackedBatch) -> Tensor:
    """Cross-entropy of the third head's attention, even over what is counted and the sink.

    The sink's share, 1 / (n + 1), then tells the number n.
    """
    page_C, token_C, target_C, size_C = batch.counts_C4.unbind(-1)
    log_C2T = _log_attention(hidden, rope, batch, page_C, token_C, _COUNTING_HEAD)
    log_C = log_C2T[:, 0].gather(1, target_C[:, None])[:, 0]
    return -(log_C / size_C).sum() / (1 / size_C).sum()


def _log_attention(
    hidden: _Hidden, rope: Any, batch: PackedBatch, page_R: Tensor, token_R: Tensor, first_head: int
) -> Tensor:
    """Log attention of two neighbouring heads in some rows: (R, 2, T)."""
    attention = hidden.layer.self_attn
    part = slice(first_head * attention.head_dim, (first_head + 2) * attention.head_dim)
    normed_BTD = hidden.layer.input_layernorm(hidden.before_BTD)
    shape = (*normed_BTD.shape[:2], 2, attention.head_dim)
    query, key = (
        functional.linear(normed_BTD, linear.weight[part], linear.bias[part]).view(shape)
        for linear in (attention.q_proj, attention.k_proj)
    )
    query, key = apply_rotary_pos_emb(query.transpose(1, 2), key.transpose(1, 2), *rope)
    scores_B2TT = (query @ key.transpose(-1, -2)) * attention.scaling
    scores_R2T = scores_B2TT[page_R, :, token_R]
    unseen_R1T = ~batch.mask_B1TT[page_R, 0, token_R][:, None]
    return scores_R2T.masked_fill(unseen_R1T, float("-inf")).log_softmax(-1)


def _binding(heads: nn.Module, bound_XD: Tensor, bindings_X5: Tensor) -> Tensor:
    """An item's tokens should know its key, the key before it in its row, and its row."""
    is_item_X = bindings_X5[:, 0] != IGNORE
    logits = heads(bound_XD[is_item_X]).split(list(BINDING_CLASSES), dim=-1)
    losses = [
        functional.cross_entropy(part, target_X, ignore_index=IGNORE)
        for part, target_X in zip(logits, bindings_X5[is_item_X].unbind(-1), strict=True)
    ]
    return torch.stack(losses).sum()


def _alignment(model: Any, hidden_XD: Tensor, attributes_X6: Tensor) -> Tensor:
    """A visual token should be embedded like the words that it shows.

    Without this loss the link between page and vocabulary takes many times longer to appear.
    """
    embeddings_ND = model.model.language_model.embed_tokens.weight
    losses = [hidden_XD.sum() * 0]
    for words, target_X in zip(
        (COLOURS, LETTERS, DIGITS, SECOND_DIGITS, ORDINALS),
        attributes_X6[:, 1:].unbind(-1),
        strict=True,
    ):
        shown = target_X != IGNORE
        first = TOKEN_ID[words[0]]
        if shown.any():
            logits_XN = hidden_XD[shown] @ embeddings_ND[first : first + len(words)].T
            losses.append(functional.cross_entropy(logits_XN, target_X[shown]))
    return torch.stack(losses).sum()


@torch.no_grad()
def _accuracy(model: Any, pool: PagePool, shown: Shown) -> dict[str, float]:
    """Share of questions of each kind whose every token is predicted right, on unseen pages.

    With the right tokens so far given: the same as an exact match of greedy decoding.
    """
    rng = np.random.default_rng(3)
    accuracy = {}
    for kind in SHARES:
        chosen = rng.choice(len(pool.pages), 24, replace=False).tolist()
        batch = draw_batch(pool, chosen, rng, {kind: 1.0}, 4, shown).to(model.device)
        forward = _forward(model, batch)
        wrong = forward.questions_X[forward.logits_XN.argmax(-1) != forward.targets_X]
        asked = len(forward.questions_X.unique())
        accuracy[kind] = round(1 - len(wrong.unique()) / asked, 3)
    return accuracy


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.train", description=__doc__)
    parser.add_argument("--model", choices=MODEL_NAMES, required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, help="without the finish; default: the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="a torch device, such as cuda")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps = options.steps or RECIPES[options.model].steps
    train(options.model, steps, options.output, options.device)


if __name__ == "__main__":
    main()
