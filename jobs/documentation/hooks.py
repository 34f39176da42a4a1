"""What MkDocs calls while it builds the site; named in `mkdocs.yml`.

Pages that are files of the repository outside `docs/` are added where they lie, pages that the code
tells of itself are written, and the decisions are put into the navigation by their files.
"""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from jobs.documentation.generated import generated
from jobs.documentation.site_links import linked, site_path
from jobs.documentation.tables import bare_bars

ROOT = Path(__file__).parents[2]
DECISIONS = "docs/decisions"
ELSEWHERE = ("CHANGELOG.md", "CONTRIBUTING.md", "testbed/MODEL_CARD.md")
"""Pages that are not below `docs/`."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name every decision in the navigation, the latest first."""
    files = sorted((ROOT / DECISIONS).glob("*.md"), reverse=True)
    pages = [{_title(file): site_path(file.relative_to(ROOT).as_posix())} for file in files]
    assert config.nav is not None
    for section in config.nav:
        for name in section:
            if name == "Decisions":
                section[name] = pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what does not lie below `docs/`."""
    for path in (*ELSEWHERE, *_pictures()):
        files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
    for uri, content in generated().items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: object) -> str:
    """Turn places in the repository into links of the site, and its Markdown into the site's."""
    pages = {_repository_path(file.src_uri) for file in files}
    return bare_bars(linked(markdown, _repository_path(page.file.src_uri), pages))


def _pictures() -> list[str]:
    """Of the model card."""
    folder = ROOT / "testbed" / "results"
    return [file.relative_to(ROOT).as_posix() for file in sorted(folder.glob("*.png"))]


def _repository_path(uri: str) -> str:
    outside = uri in ELSEWHERE or uri.startswith("testbed/")
    return uri if outside else f"docs/{uri}"


def _title(file: Path) -> str:
    """`0025-a-ledger.md`, which begins `# 25. A ledger`: `25. A ledger`."""
    return file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
