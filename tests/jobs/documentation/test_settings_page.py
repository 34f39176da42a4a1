from enum import StrEnum
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from jobs.documentation.settings_page import (
    Setting,
    all_settings,
    group_of,
    is_setting,
    rendered,
)
from pipeline.config import JobConfig
from serving.config import ServeConfig


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """Below.

    Attributes:
        depth: how far, in metres,
            from the top.
    """

    depth: float = Field(default=2.5, gt=0, le=10)


class Deeper(Inner):
    """Further below.

    Attributes:
        light: whether there is | any.
    """

    light: bool = False


class Outer(BaseModel):
    """Above.

    Attributes:
        colour: of it.
        form: of it too.
        names: given to it.
        inner: what is in it.
        many: likewise.
        rates: by whom.
    """

    colour: Colour = Colour.RED
    form: Literal["round", "square"]
    names: tuple[str, ...] = ()
    inner: Deeper | None = None
    many: tuple[Inner, ...] = ()
    rates: dict[str, float] = {}


def of(name: str) -> Setting:
    return next(one for one in all_settings(group_of(Outer)) if one.name == name)


def test_a_setting_is_told_by_type_bounds_default_and_docstring() -> None:
    assert of("inner.depth") == Setting(
        "inner.depth", "number, > 0, <= 10", "2.5", "how far, in metres, from the top."
    )
    assert of("colour") == Setting("colour", "`red`, `blue`", "red", "of it.")
    assert of("form").default == "needed"
    assert of("names").takes == "a list: text"
    assert of("names").default == "none"
    assert of("inner.light").default == "false"


def test_several_models_have_a_star_for_their_place() -> None:
    assert of("many.*.depth").meaning == of("inner.depth").meaning


@pytest.mark.parametrize(
    "name", ["inner", "inner.depth", "*.depth", "inner.*", "many.*.depth", "rates.me", "rates"]
)
def test_a_name_may_have_stars(name) -> None:
    assert is_setting(name, group_of(Outer))


@pytest.mark.parametrize("name", ["inne", "inner.dept", "*.width", "colour.red", ""])
def test_nothing_else_is_a_setting(name) -> None:
    assert not is_setting(name, group_of(Outer))


def test_a_group_that_is_off_says_so() -> None:
    page = rendered("Title", "About.", group_of(Outer))
    assert "Nothing of it holds unless it is written." in page.split("## `inner`")[1]
    assert "whether there is \\| any." in page


@pytest.mark.parametrize("model", [JobConfig, ServeConfig])
def test_every_setting_has_a_meaning(model) -> None:
    assert not [one.name for one in all_settings(group_of(model)) if not one.meaning]
    assert not [one.name for one in all_settings(group_of(model)) if "value" in one.takes.split()]
