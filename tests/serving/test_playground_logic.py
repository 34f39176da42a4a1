"""The page's own rules, run in the browser and held against the engine's."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from jobs.token_map import draw_heat, draw_kept, kept_tokens, token_map
from sgl.ranking import average_retention, keep_count, top_visual_tokens
from sgl.types import TokenGrid
from tests.serving.playground_browser import (
    NEEDS_BROWSER,
    SIDE,
    Opened,
    chromium,
    expect,
    file_of,
    grey_picture,
)
from tests.serving.playground_endpoint import Endpoint, Reply, running
from tests.serving.playground_replies import COLUMNS, LAYERS, PRUNE_LAYER, ROWS, pruning, told

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    with running(Endpoint()) as endpoint, chromium() as browser:
        yield Opened(browser, endpoint)


PARSED = """(it, streams) => streams.map(pieces => {
  const parser = new it.EventParser();
  return pieces.flatMap(one => parser.push(one));
})"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_the_same_wherever_they_are_cut(opened: Opened, end: str) -> None:
    lines = [
        ": note",
        "data: a: b",
        "",
        "event: x",
        "data:two",
        "data",
        "data:  x",
        "id: 1",
        "",
        "",
    ]
    lines += ["retry: 3", "", "data: [DONE]", "", "data: never ended"]
    stream = end.join(lines) + end
    wanted = ["a: b", "two\n\n x", "[DONE]"]
    streams = [[stream[:cut], stream[cut:]] for cut in range(len(stream))] + [list(stream)]
    assert opened.run("sse", PARSED, streams) == [wanted] * len(streams)


def test_characters_are_whole_though_their_bytes_come_apart(opened: Opened) -> None:
    data = [[one] for one in 'data: "größer → 漢字"\n\n'.encode()]
    script = """async (it, parts) => {
      const body = new ReadableStream({ start(c) {
        for (const one of parts) c.enqueue(new Uint8Array(one));
        c.close();
      } });
      const found = [];
      for await (const one of it.events(body)) found.push(one);
      return found;
    }"""
    assert opened.run("sse", script, data) == ['"größer → 漢字"']


def test_as_many_tokens_are_kept_as_the_engine_keeps(opened: Opened) -> None:
    cases = [(v, r / 100) for v in (0, 1, 3, 10, 100, 256, 2048) for r in range(1, 101)]
    found = opened.run("tokens", "(it, all) => all.map(([v, r]) => it.keepCount(v, r))", cases)
    assert found == [keep_count(visual, ratio) for visual, ratio in cases]


@pytest.mark.parametrize("ratio", [0.01, 0.2, 0.55, 1.0])
def test_they_are_the_same_tokens_ties_included(opened: Opened, ratio: float) -> None:
    values = torch.from_numpy(np.random.default_rng(1).integers(0, 5, (1, 200)) / 4)
    engine = top_visual_tokens(values, torch.ones_like(values, dtype=torch.bool), ratio)
    script = "(it, [v, r]) => [...it.keptTokens(v, it.keepCount(v.length, r))]"
    found = opened.run("tokens", script, [values[0].tolist(), ratio])
    assert sorted(found) == torch.nonzero(engine[0])[:, 0].tolist()


def test_the_retention_of_another_ratio_follows_from_an_answers(opened: Opened) -> None:
    ran = pruning(1)
    visual = ran["visual_tokens"]
    ratios = [one / 100 for one in range(1, 101)]
    script = "(it, [p, all]) => all.map(r => it.averageRetention(p, r))"
    found = opened.run("tokens", script, [ran, ratios])
    wanted = [average_retention(PRUNE_LAYER, LAYERS, keep_count(visual, r), visual) for r in ratios]
    assert found == pytest.approx(wanted)
    whole = {"average_retention": 1, "visual_tokens": 4, "kept_tokens": 4}
    assert opened.run("tokens", script, [whole, [0.5]]) == [None]


@pytest.mark.parametrize("thumbnail_alone", [False, True])
def test_tokens_lie_where_the_report_draws_them(opened: Opened, thumbnail_alone: bool) -> None:
    overview = TokenGrid(1, 2, 2, (0, 0, 1, 1), thumbnail=True)
    tiles = [TokenGrid(1, 3, 2, (0, 0, 0.5, 1)), TokenGrid(1, 1, 4, (0.5, 0, 1, 1))]
    grids = [TokenGrid(0, 2, 3, (0, 0, 1, 1)), *([] if thumbnail_alone else tiles), overview]
    count = sum(one.rows * one.columns for one in grids)
    size = 240
    drawn = np.zeros((size, size), np.float32)
    plain = [{name: getattr(one, name) for name in one.__slots__} for one in grids]
    for cell in opened.run("tokens", "(it, grids) => it.cellsOf(grids, 1)", plain):
        left, top, right, bottom = (
            round(cell[side] * size) for side in ("left", "top", "right", "bottom")
        )
        drawn[top:bottom, left:right] = cell["token"]
    wanted = token_map(grids, np.arange(count, dtype=np.float32), (size, size), image=1)
    assert (drawn == wanted).all()


def test_the_canvas_shows_what_the_report_shows(opened: Opened) -> None:
    """Grey levels: only there do a mean of colours and a luminosity agree."""
    endpoint_reply = told("large", 0.5)
    pixels = grey_picture()
    with running(Endpoint()) as endpoint:
        endpoint.replies.append(Reply(("x",), endpoint_reply))
        page = Opened(opened.page.context.browser, endpoint)
        page.bring(file_of(pixels))
        assert (page.canvas() == pixels).all()
        page.ask("which one?")
        page.answered()
        expect(page.one("#heatbar")).to_be_visible()
        grids = [TokenGrid(0, ROWS, COLUMNS, (0, 0, 1, 1))]
        values = np.array(endpoint_reply["importance"]["values"], np.float32)
        heat = draw_heat(pixels, grids, values).astype(int)
        assert page.canvas().shape == (SIDE, SIDE, 3)
        assert np.abs(page.canvas() - heat).max() <= 3
        page.view("kept")
        for percent in (40, 5, 90):
            page.slide("keep", percent)
            kept = kept_tokens(values, keep_count(len(values), percent / 100))
            drawn = draw_kept(pixels, grids, kept).astype(int)
            assert np.abs(page.canvas() - drawn).max() <= 3
        page.view("picture")
        assert (page.canvas() == pixels).all()


def test_no_name_of_a_file_ends_a_snippet(opened: Opened) -> None:
    script = """(it, name) => {
      const url = "data:image/png;base64,AA==";
      const body = { messages: [{ content: [{ image_url: { url } }] }], sgl: {} };
      const pictures = [{ dataUrl: url, name }];
      return ["curl", "python"].map((way) => it[way](body, pictures, "http://x/v1/", false));
    }"""
    for source in opened.run("snippets", script, "a\nJSON\ntouch forged\x1b\x85.png"):
        assert "a_JSON_touch forged__.png" in source
        assert "JSON" not in source.splitlines()[:-1]


def test_figures_read_as_people_write_them(opened: Opened) -> None:
    script = """(it) => [it.duration(3.14159), it.duration(31.4), it.duration(3141.5),
      it.percent(0.354), it.flops(2.4e9), it.flops(0), it.money(0.0000123456, "USD"),
      it.score(0.9), it.score(0.99968), it.plural(1, "token"), it.plural(2, "token")]"""
    found = opened.run("words", script)
    wanted = ["3.1 ms", "31 ms", "3.14 s", "35.4%", "2.4 GFLOPs", "0 FLOPs", "$0.0000123"]
    assert found == [*wanted, "0.9", "0.99968", "1 token", "2 tokens"]


def test_another_threshold_is_told_in_words(opened: Opened) -> None:
    cases: list[list[Any]] = [
        [told("small", 0.95), "The small model was sure enough, so its answer stands."],
        [
            told("large", 0.5),
            "The small model was not sure enough, so the large model answered.",
        ],
        [
            told("small", 0.5, degraded="large_unavailable"),
            "The large model was not available, so the small model's answer stands.",
        ],
        [told("large", 0.5) | {"exit_score": None}, "The large model answered, as asked."],
    ]
    for sgl, wanted in cases:
        told_json = json.loads(json.dumps(sgl))
        assert opened.run("words", "(it, sgl) => it.headline(sgl)", told_json) == wanted
    script = "(it) => [it.would(0.5, 0.5, true, false), it.would(0.5, 1.01, false, false)]"
    assert opened.run("words", script) == [
        "0.5 reaches 0.5: the small model's answer would stand.",
        "0.5 is below any threshold above 1: the large model would be asked.",
    ]
