import pytest

from jobs.documentation.site_links import linked

PAGES = (
    "docs/INPUTS.md",
    "docs/decisions/0025-a-ledger.md",
    "docs/reference/ERRORS.md",
    "testbed/MODEL_CARD.md",
    "CHANGELOG.md",
)


@pytest.mark.parametrize(
    ("page", "written", "on_the_site"),
    [
        ("docs/A.md", "[x](INPUTS.md#top)", "[x](INPUTS.md#top)"),
        ("docs/A.md", "[x](../CHANGELOG.md)", "[x](CHANGELOG.md)"),
        ("docs/decisions/0001-a.md", "[x](../../CHANGELOG.md)", "[x](../CHANGELOG.md)"),
        ("docs/A.md", "`INPUTS.md`", "[`INPUTS.md`](INPUTS.md)"),
        ("docs/A.md", "`docs/INPUTS.md`", "[`docs/INPUTS.md`](INPUTS.md)"),
        ("CHANGELOG.md", "`docs/INPUTS.md`", "[`docs/INPUTS.md`](INPUTS.md)"),
        ("docs/reference/P.md", "`INPUTS.md`", "[`INPUTS.md`](../INPUTS.md)"),
        (
            "docs/A.md",
            "`testbed/MODEL_CARD.md`",
            "[`testbed/MODEL_CARD.md`](testbed/MODEL_CARD.md)",
        ),
        ("docs/A.md", "`decisions/0025`", "[`decisions/0025`](decisions/0025-a-ledger.md)"),
        ("CHANGELOG.md", "(decision 25)", "([decision 25](decisions/0025-a-ledger.md))"),
        ("docs/decisions/0026-b.md", "decision 25.", "[decision 25](0025-a-ledger.md)."),
    ],
)
def test_places_in_the_repository_become_places_on_the_site(page, written, on_the_site) -> None:
    assert linked(written, page, PAGES) == on_the_site


@pytest.mark.parametrize(
    "written",
    [
        "`pipeline/config.py`",
        "`decisions/0099`",
        "decision 99",
        "`README.md`",
        "[x](https://example.org/INPUTS.md)",
        "[decision 25](decisions/0025-a-ledger.md)",
        "[`INPUTS.md`](INPUTS.md)",
        "```\n`docs/INPUTS.md`\n```",
    ],
)
def test_all_else_stays(written) -> None:
    assert linked(written, "docs/A.md", PAGES) == written
