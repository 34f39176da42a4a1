"""The page in a real browser: a question, its decision, and what another setting would do."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from serving.api_errors import ApiError
from sgl.ranking import keep_count
from tests.serving.playground_browser import (
    NEEDS_BROWSER,
    Opened,
    chromium,
    expect,
    file_of,
    grey_picture,
)
from tests.serving.playground_endpoint import MODELS, Endpoint, Reply, running
from tests.serving.playground_replies import COLUMNS, KEEP_RATIO, ROWS, THRESHOLD, told

pytestmark = NEEDS_BROWSER
VISUAL = ROWS * COLUMNS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running(Endpoint()) as one:
        yield one


def answers(endpoint: Endpoint, *replies: Reply) -> None:
    endpoint.replies.extend(replies)


LARGE = Reply(("7", "2"), told("large", 0.5))
SMALL = Reply(("72",), told("small", 0.95))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_an_error_or_a_foreign_request(
    browser: Any, endpoint: Endpoint, scheme: str
) -> None:
    opened = Opened(browser, endpoint, color_scheme=scheme)
    expect(opened.one("#model option")).to_have_text(list(MODELS))
    assert opened.wrong == []


def test_an_answer_arrives_piece_by_piece_and_tells_its_route(
    browser: Any, endpoint: Endpoint
) -> None:
    opened = Opened(browser, endpoint)
    opened.bring(file_of(grey_picture()))
    sgl = told("large", 0.5)
    reply = Reply(("sie", "ben ", "→ 72"), sgl, hold_after=1)
    answers(endpoint, reply)
    opened.ask("what is red A?")
    expect(opened.one(".answer")).to_have_text("sie")
    expect(opened.one(".answer")).to_have_attribute("aria-busy", "true")
    expect(opened.one(".turn .badge")).to_have_text("large model")
    expect(opened.one("#cancel")).to_be_visible()
    reply.release.set()
    opened.answered()
    expect(opened.one(".answer")).to_have_text("sieben → 72")
    assert "large model: sieben → 72" in opened.text("#status")
    assert "not sure enough" in opened.text("#headline")
    assert opened.text("#said-text") == "87"
    assert opened.text("#reason") == sgl["reason"]
    assert opened.text("#score-text") == "exit score 0.5"
    assert f"0.5 is below {THRESHOLD}: the large model was asked" in opened.text("#would")
    assert f"{keep_count(VISUAL, KEEP_RATIO)} of {VISUAL}" in opened.text("#figures")
    assert "$0.0000031" in opened.text("#figures")
    assert "large model 66 ms" in opened.text("#time-legend")
    assert opened.one("#scores-body tr").count() == 4
    assert opened.text("#scores-body .chosen th").startswith("confidence")
    assert opened.wrong == []


def test_a_sure_small_model_is_told_as_such(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    unpriced = told("small", 0.95, policy="careful")
    unpriced["cost"]["usd"] = None
    answers(endpoint, Reply(("72",), unpriced))
    opened.ask("without a picture?")
    opened.answered()
    assert "sure enough, so its answer stands" in opened.text("#headline")
    assert opened.text("#reason").startswith("Policy careful: exit score 0.95")
    assert "Device time" in opened.text("#figures")
    expect(opened.one("#said")).to_be_hidden()
    assert endpoint.asked[0]["messages"] == [{"role": "user", "content": "without a picture?"}]


def test_the_threshold_tells_at_once_what_it_would_do(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    answers(endpoint, LARGE, SMALL)
    opened.ask("what is red A?")
    opened.answered()
    assert "endpoint's own" in opened.text("#threshold-value")
    opened.slide("threshold", 0.5)
    assert "0.5 reaches 0.5: the small model's answer would stand" in opened.text("#would")
    opened.slide("threshold", 0.505)
    assert "0.5 is below 0.505: the large model would be asked" in opened.text("#would")
    opened.page.focus("#threshold")
    opened.page.keyboard.press("End")
    assert "any threshold above 1" in opened.text("#would")
    assert "above 1" in opened.one("#threshold").get_attribute("aria-valuetext")
    opened.page.click("#threshold-own")
    assert f"{THRESHOLD}, endpoint's own" == opened.text("#threshold-value")
    expect(opened.one("#again")).to_be_hidden()
    opened.slide("threshold", 0.4)
    opened.slide("keep", 25)
    assert opened.text("#again-text") == "Changed: threshold 0.4, retention 25%"
    opened.page.click("#again-ask")
    opened.answered()
    expect(opened.one(".answer")).to_have_text("72")
    assert endpoint.asked[0]["sgl"] == {"explain": True}
    assert endpoint.asked[1]["sgl"] == {"explain": True, "threshold": 0.4, "keep_ratio": 0.25}
    assert endpoint.asked[1]["messages"] == endpoint.asked[0]["messages"]
    expect(opened.one("#again")).to_be_hidden()


def test_changes_can_be_taken_back(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    answers(endpoint, LARGE)
    opened.ask("what is red A?")
    opened.answered()
    opened.slide("keep", 10)
    assert f"{keep_count(VISUAL, 0.1)} of {VISUAL} visual tokens" in opened.text("#keep-note")
    opened.page.select_option("#model", "pair:large")
    opened.page.fill("#temperature", "0.7")
    assert "model pair:large" in opened.text("#again-text")
    opened.page.click("#again-back")
    expect(opened.one("#again")).to_be_hidden()
    assert opened.one("#model").input_value() == "pair"
    assert f"{keep_count(VISUAL, KEEP_RATIO)} of {VISUAL}" in opened.text("#keep-note")


def test_follow_ups_carry_the_conversation_and_a_new_one_forgets_it(
    browser: Any, endpoint: Endpoint
) -> None:
    opened = Opened(browser, endpoint)
    opened.bring(file_of(grey_picture()))
    answers(endpoint, LARGE, Reply(("52",), told("small", 0.95, images=2)), SMALL)
    opened.ask("what is red A?")
    opened.answered()
    opened.bring(file_of(grey_picture(1), "second.png"))
    opened.ask("and here?")
    opened.answered(2)
    first, said, second = endpoint.asked[1]["messages"]
    assert (first["role"], said, second["role"]) == (
        "user",
        {"role": "assistant", "content": "72"},
        "user",
    )
    for message, text in ((first, "what is red A?"), (second, "and here?")):
        picture, question = message["content"]
        assert picture["image_url"]["url"].startswith("data:image/png;base64,")
        assert question == {"type": "text", "text": text}
    assert "sure enough, so" in opened.text("#headline")
    opened.page.click("text=Show its decision")
    assert "not sure enough" in opened.text("#headline")
    opened.page.click("#anew")
    assert opened.one(".turn").count() == opened.one(".thumb").count() == 0
    opened.ask("afresh?")
    opened.answered()
    assert endpoint.asked[2]["messages"] == [{"role": "user", "content": "afresh?"}]


def test_every_picture_has_its_own_tokens(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    opened.bring(file_of(grey_picture(), "a.png"), file_of(grey_picture(1), "b.png"))
    answers(endpoint, Reply(("72",), told("large", 0.5, images=2)))
    opened.ask("which?")
    opened.answered()
    drawn = []
    for number in (0, 1):
        opened.one(".thumb").nth(number).click()
        drawn.append(opened.canvas())
        name = opened.one("#canvas").get_attribute("aria-label")
        assert name.startswith(f"Picture {number + 1} of 2, {'ab'[number]}.png")
    assert not np.array_equal(*drawn)


def test_a_cancelled_request_frees_the_endpoint_and_keeps_the_question(
    browser: Any, endpoint: Endpoint
) -> None:
    opened = Opened(browser, endpoint)
    opened.bring(file_of(grey_picture()))
    reply = Reply(("half", "whole"), told("large", 0.5), hold_after=1)
    answers(endpoint, reply, SMALL)
    opened.ask("what is red A?")
    expect(opened.one(".answer")).to_have_text("half")
    opened.page.click("#cancel")
    expect(opened.one("#ask")).to_be_visible()
    assert reply.left.wait(10)
    expect(opened.one("#question")).to_have_value("what is red A?")
    assert "cancelled" in opened.text(".turn")
    opened.page.click("#ask")
    opened.answered()
    assert len(endpoint.asked[1]["messages"]) == 1
    assert endpoint.asked[1] == endpoint.asked[0]
    assert opened.wrong == []


def test_escape_cancels_and_an_earlier_answer_comes_back(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    answers(endpoint, LARGE, Reply(("half", "whole"), told("large", 0.5), hold_after=1))
    opened.ask("what is red A?")
    opened.answered()
    opened.page.click("text=Ask again")
    expect(opened.one(".answer")).to_have_text("half")
    opened.page.keyboard.press("Escape")
    expect(opened.one(".answer")).to_have_text("72")
    assert opened.one("#question").input_value() == ""


OVERLOADED = ApiError(
    503, "128 requests wait.", kind="overloaded_error", code="overloaded", retry_after_s=2
)


def test_an_overloaded_endpoint_says_when_to_come_back(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    opened.bring(file_of(grey_picture()))
    opened.page.clock.install()
    opened.page.clock.pause_at(datetime(2100, 1, 1, tzinfo=UTC))
    answers(endpoint, Reply(error=OVERLOADED), SMALL)
    opened.ask("what is red A?")
    expect(opened.one("#alert")).to_contain_text("128 requests wait.")
    assert opened.text("#alert-title") == "The endpoint is overloaded"
    assert opened.text("#alert-note") == "HTTP 503 · overloaded · request req-1"
    again = opened.one("#alert-again")
    expect(again).to_be_disabled()
    expect(again).to_have_text("Try again in 2 s")
    opened.page.clock.run_for(1000)
    expect(again).to_have_text("Try again in 1 s")
    opened.page.clock.run_for(1000)
    expect(again).to_be_enabled()
    again.click()
    opened.answered()
    expect(opened.one("#alert")).to_be_hidden()
    assert endpoint.asked[1] == endpoint.asked[0]


def test_errors_in_the_middle_and_broken_connections_are_told(
    browser: Any, endpoint: Endpoint
) -> None:
    opened = Opened(browser, endpoint)
    failed = ApiError(500, "The large model failed.", kind="server_error")
    answers(
        endpoint,
        Reply(("7",), told("large", 0.5), error=failed),
        Reply(("7",), told("large", 0.5), cut=True),
    )
    opened.ask("what is red A?")
    expect(opened.one("#alert-text")).to_have_text("The large model failed.")
    expect(opened.one("#alert-note")).to_be_hidden()
    opened.page.click("#alert-again")
    expect(opened.one("#alert-text")).to_have_text("The connection ended before the answer did.")
    opened.page.route("**/v1/chat/completions", lambda route: route.abort())
    opened.page.click("#alert-again")
    expect(opened.one("#alert-title")).to_have_text("The endpoint cannot be reached")
    expect(opened.one("#question")).to_have_value("what is red A?")
    assert opened.one(".turn").count() == 0
    assert opened.wrong == []


def test_text_of_others_is_never_markup(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    bad = "<img src=x onerror=alert(1)><b>bold</b>"
    answers(endpoint, Reply((bad,), told("large", 0.5, reason=bad, small_answer=bad)))
    opened.bring(file_of(grey_picture(), f"{bad.replace('/', '')}.png"))
    opened.ask(bad)
    opened.answered()
    assert opened.text(".answer") == opened.text("#reason") == opened.text("#said-text") == bad
    assert opened.one("main b, main img[src=x]").count() == 0
    assert opened.wrong == []


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_failed_question_is_not_lost_for_a_new_one(
    browser: Any, endpoint: Endpoint, cancelled: bool
) -> None:
    opened = Opened(browser, endpoint)
    opened.bring(file_of(grey_picture()))
    refused = Reply(("7",), told("large", 0.5), error=OVERLOADED, hold_after=0)
    answers(endpoint, refused, SMALL)
    opened.ask("the first?")
    expect(opened.one("#cancel")).to_be_visible()
    opened.page.fill("#question", "the second?")
    if cancelled:
        opened.page.click("#cancel")
        expect(opened.one(".turn")).to_contain_text("the first?")
        return
    refused.release.set()
    opened.page.click("#alert-again")
    opened.answered()
    assert endpoint.asked[1] == endpoint.asked[0]
    assert opened.one("#question").input_value() == "the second?"
    opened.page.click("#ask")


@pytest.mark.parametrize("name", ["small", "large"])
def test_one_model_alone_is_told_as_such(browser: Any, endpoint: Endpoint, name: str) -> None:
    opened = Opened(browser, endpoint)
    changes = {"threshold": None, "reason": f"the {name} model was asked for", "pruning": None}
    alone = told(name, 0.5, **changes)
    if name == "large":
        alone |= {"exit_score": None, "scores": None, "small_answer": None}
    held = Reply(("72",), alone, hold_after=0)
    answers(endpoint, LARGE, held)
    opened.ask("of the pair?")
    opened.answered()
    opened.page.select_option("#model", f"pair:{name}")
    opened.ask("of one?")
    expect(opened.one(".turn").last).to_contain_text("of one?")
    held.release.set()
    opened.answered(2)
    expect(opened.one(".turn .badge").last).to_have_text(f"{name} model")
    assert opened.text("#headline").endswith(f"The {name} model answered, as asked.")
    assert opened.text("#reason") == f"the {name} model was asked for"
    assert "nothing to decide" in opened.text("#would")


def test_who_is_asked_first_is_named(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    opened.page.route("**/v1/chat/completions", lambda _: None)
    opened.page.select_option("#model", "pair:large")
    opened.ask("what is red A?")
    expect(opened.one(".answer")).to_have_text("The large model looks at it …")
