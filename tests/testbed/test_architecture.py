"""Tokenizer, image processor and prompt format."""

import numpy as np
import pytest
import torch

from sgl.conversation import ConversationWriter
from sgl.families.internvl import InternVL
from sgl.types import ImageQuestion, Role, Turn
from sgl.vlm import VLM
from testbed.architecture import TILE_TOKENS, build_image_processor, build_model, build_tokenizer
from testbed.packing import WHOLE, draw_batch
from testbed.page import PageStyle, draw_page
from testbed.questions import ask
from testbed.render import render
from testbed.vision import PagePool, tower_features
from testbed.vocabulary import TOKEN_ID

STYLES = (PageStyle(1, 20, 48), PageStyle(2, 32, 60))


@pytest.mark.parametrize("style", STYLES)
def test_no_pixel_is_scaled(style: PageStyle) -> None:
    rng = np.random.default_rng(0)
    image = render(draw_page(rng, style), rng)
    processor = build_image_processor()
    encoded = processor(images=[image], return_tensors="pt")
    assert int(encoded["num_patches"][0]) == (1 if style.tiles == 1 else style.tiles + 1)
    mean, std = (
        np.array(value)[:, None, None] for value in (processor.image_mean, processor.image_std)
    )
    pixels = encoded["pixel_values"][: style.tiles].numpy() * std + mean
    stacked = np.concatenate(list(pixels), axis=1).transpose(1, 2, 0) * 255
    np.testing.assert_allclose(stacked, image, atol=1e-3)


def test_the_prompt_of_a_conversation_holds_answers_that_are_empty() -> None:
    processor = build_image_processor()
    config = build_model("small").config
    writer = ConversationWriter(build_tokenizer(), InternVL(config, processor))
    asked, answered = Turn(Role.USER, ("w",)), Turn(Role.ASSISTANT, ("",))
    assert writer.write((asked, answered, asked)) == (
        "<|im_start|>user\nw<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
        "<|im_start|>user\nw<|im_end|>\n<|im_start|>assistant\n"
    )


def test_every_answer_survives_the_tokenizer() -> None:
    tokenizer, rng = build_tokenizer(), np.random.default_rng(1)
    for index in range(100):
        question = ask(draw_page(rng, STYLES[index % 2]), rng)
        ids = tokenizer(question.answer, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(
            [*ids, tokenizer.eos_token_id], skip_special_tokens=True
        ).strip() == (question.answer)


@pytest.mark.parametrize("style", STYLES)
def test_training_sees_the_prompt_that_inference_builds(style: PageStyle) -> None:
    """Token ids, positions and visual embeddings of a packed question equal the real prompt's."""
    rng = np.random.default_rng(2)
    page = draw_page(rng, style)
    image = render(page, rng)
    model = build_model("small").eval()
    vlm = VLM(model, build_tokenizer(), InternVL(model.config, build_image_processor()))
    with torch.inference_mode():
        pixels = build_image_processor()(images=[image], return_tensors="pt")["pixel_values"]
        pool = PagePool([page], [tower_features(model, pixels).flatten(0, 1)])
        packed = draw_batch(pool, [0], np.random.default_rng(3), {"lookup": 1.0}, 1, WHOLE)
        asked = ask_like(packed.input_ids_BT[0].tolist())
        record = ImageQuestion("a", asked, (image,))
        prompt = vlm.prompts([record]).prompt
        length = prompt.valid_BT.shape[1]
        visual = packed.input_ids_BT[0] == TOKEN_ID["<IMG_CONTEXT>"]
        assert visual.nonzero().tolist() == prompt.visual_BT[0].nonzero().tolist()
        assert int(visual.sum()) == TILE_TOKENS * (1 if style.tiles == 1 else 3)
        assert packed.positions_BT[0, :length].tolist() == prompt.position_ids_ABT[0, 0].tolist()
        projected = model.model.multi_modal_projector(packed.features_XF)
        torch.testing.assert_close(prompt.embeds_BTD[0][visual[:length]], projected)
        words = model.model.language_model.embed_tokens(packed.input_ids_BT[0, :length])
        torch.testing.assert_close(prompt.embeds_BTD[0][~visual[:length]], words[~visual[:length]])


def ask_like(ids: list[int]) -> str:
    """The question's words: between the image's end and the turn's end."""
    words = {index: word for word, index in TOKEN_ID.items()}
    text = [words[one] for one in ids]
    return " ".join(text[text.index("</img>") + 1 : text.index("<|im_end|>")])


def test_the_large_model_is_deep_and_costs_many_times_the_small_one() -> None:
    small, large = build_model("small"), build_model("large")
    assert large.config.text_config.num_hidden_layers >= 12
    sizes = [
        sum(weight.numel() for weight in model.model.language_model.layers.parameters())
        for model in (small, large)
    ]
    assert sizes[1] > 5 * sizes[0]
