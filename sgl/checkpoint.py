"""What a checkpoint's files say before its weights are read.

No code that comes with a checkpoint is ever run: `trust_remote_code` is False, not left open, since
transformers would otherwise ask on a terminal.
"""

from typing import Any

from jinja2 import TemplateError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig
from transformers.processing_utils import ProcessorMixin

from sgl.errors import ModelLoadError
from sgl.families import Family, family_of
from sgl.language_model import check_decoder


def read_family(source: str, revision: str | None) -> tuple[Any, type[Family]]:
    """The configuration and the family that serves it.

    Raises:
        UnsupportedModelError: none does, or its text model cannot be pruned.
        OSError, ValueError: there is no configuration that transformers can read.
    """
    # The type first: the native reader would advise to run the code of a type it does not know.
    said, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    if "model_type" in said:
        family_of(said["model_type"])
    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    family = family_of(config.model_type)
    check_decoder(config.text_config, family.position_axes)
    return config, family


def read_image_processor(source: str, revision: str | None, family: type[Family]) -> Any:
    """The family's image processor with the checkpoint's settings; it needs no torchvision."""
    return family.image_processor_class.from_pretrained(
        source, revision=revision, **family.image_processor_settings
    )


def read_tokenizer(source: str, revision: str | None, family: type[Family]) -> Any:
    """The tokenizer, with the chat template of the checkpoint's processor where it has its own.

    Some checkpoints keep the template with image placeholders in the processor's files and a
    text-only one, of the language model that they were made from, in the tokenizer's.

    Raises:
        ModelLoadError: there is no chat template, or none that knows images.
    """
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    said, _ = ProcessorMixin.get_processor_dict(source, revision=revision)
    tokenizer.chat_template = said.get("chat_template") or tokenizer.chat_template
    remedy = "put the chat_template.jinja of its processor beside it"
    if not tokenizer.chat_template:
        raise ModelLoadError(f"the checkpoint {source!r} has no chat template; {remedy}")
    if _images_written(tokenizer, family) != 1:
        raise ModelLoadError(
            f"the chat template of the checkpoint {source!r} does not write {family.placeholder!r} "
            f"for an image; {remedy}"
        )
    return tokenizer


def _images_written(tokenizer: Any, family: type[Family]) -> int:
    content = [{"type": "image"}, {"type": "text", "text": "question"}]
    try:
        text: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
    except (TypeError, TemplateError):  # written for contents that are text
        return 0
    return text.count(family.placeholder)
