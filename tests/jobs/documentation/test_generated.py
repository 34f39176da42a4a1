import yaml

from jobs.documentation.generated import generated
from tests.documents import ROOT


def test_every_generated_page_is_named_in_the_navigation() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = {
        page for section in navigation for pages in section.values() for page in map(_place, pages)
    }
    assert set(generated()) <= named


def _place(entry: str | dict[str, str]) -> str:
    return entry if isinstance(entry, str) else next(iter(entry.values()))
