"""The whole site, built as `make docs` builds it: every page, link and anchor."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tests.documents import ROOT

_LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


class Page(HTMLParser):
    """Where a page leads, what it loads, and what can be led to in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.ids: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.ids |= {told[name] for name in ("id", "name") if name in told}
        if tag == "a" and "href" in told:
            self.links.add(told["href"])
        if tag in _LOADED and _LOADED[tag] in told:
            self.loaded.add(told[_LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Strict: a page that is not in the navigation, or a link or an anchor to nowhere, ends it.
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_link_leads_to_a_page_and_a_place_in_it(pages) -> None:
    for file, page in pages.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert there.exists(), (file.name, link)
            if parts.fragment and there in pages:
                assert unquote(parts.fragment) in pages[there].ids, (file.name, link)


def test_nothing_is_loaded_from_elsewhere(site, pages) -> None:
    assert not [one for page in pages.values() for one in page.loaded if urlsplit(one).netloc]
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", text), style.name


def test_every_decision_is_in_the_navigation(pages, site) -> None:
    links = pages[site / "index.html"].links
    files = list((ROOT / "docs" / "decisions").glob("*.md"))
    assert files
    assert not [file for file in files if f"decisions/{file.stem}.html" not in links]


def test_pages_beside_docs_are_there_with_their_pictures(pages, site) -> None:
    assert "results/heldout_ranking.png" in pages[site / "testbed" / "MODEL_CARD.html"].loaded
    assert "decisions/0026-chaos-is-a-plan-of-lives.html" in pages[site / "CONTRIBUTING.html"].links


def test_tables_keep_their_cells(site) -> None:
    page = (site / "INPUTS.html").read_text(encoding="utf-8")
    assert "<td>a text holds a token that only the model's chat template may write" in page
    assert "<code>&lt;|im_end|&gt;</code> or <code>&lt;image&gt;</code></td>" in page


def test_the_search_knows_the_pages(site) -> None:
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert "pools.large.linger_s" in index
    assert "OutputBusyError" in index
