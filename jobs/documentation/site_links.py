"""Links of a page, from places in the repository to places on the site.

A page says where something is as the repository has it: `../CONTRIBUTING.md`, or in code marks
`docs/decisions/0025`, as one reads it in an editor. On the site both become links.
"""

import posixpath
import re
from collections.abc import Collection

_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#:]+)(?=[)#])")
_NAMED = re.compile(r"(?<!\[)(?<!`)`(?P<path>[\w./-]*?(?:\w\.md|decisions/\d{4}))`(?!`)")
_NUMBERED = re.compile(r"(?<!\[)\bdecision (?P<number>\d{1,2})\b(?!\])")


def site_path(repository_path: str) -> str:
    """Where a file of the repository lies on the site: `docs/` is its root."""
    return repository_path.removeprefix("docs/")


def linked(markdown: str, page: str, pages: Collection[str]) -> str:
    """The page with its links to other files of the repository as the site has them.

    Args:
        markdown: of the page; fenced code is left alone.
        page: its path in the repository.
        pages: paths in the repository of everything that the site has.
    """
    parts = _FENCED.split(markdown)
    parts[::2] = (_linked(part, page, pages) for part in parts[::2])
    return "".join(parts)


def _linked(text: str, page: str, pages: Collection[str]) -> str:
    folder = posixpath.dirname(page)

    def moved(found: re.Match[str]) -> str:
        there = posixpath.normpath(posixpath.join(folder, found["target"]))
        return _way(page, there) if there in pages else found[0]

    def named(found: re.Match[str]) -> str:
        there = _found(found["path"], folder, pages)
        return found[0] if there is None else f"[{found[0]}]({_way(page, there)})"

    def numbered(found: re.Match[str]) -> str:
        there = _decision(f"docs/decisions/{int(found['number']):04d}", pages)
        return found[0] if there is None else f"[{found[0]}]({_way(page, there)})"

    text = _LINK.sub(moved, text)
    return _NUMBERED.sub(numbered, _NAMED.sub(named, text))


def _found(path: str, folder: str, pages: Collection[str]) -> str | None:
    """The file that a path means: from the root, from `docs/`, or from the page's own folder."""
    for start in ("", "docs", folder):
        there = posixpath.normpath(posixpath.join(start, path))
        if there in pages:
            return there
        if (decision := _decision(there, pages)) is not None:
            return decision
    return None


def _decision(beginning: str, pages: Collection[str]) -> str | None:
    if not re.search(r"decisions/\d{4}$", beginning):
        return None
    return next((page for page in sorted(pages) if page.startswith(f"{beginning}-")), None)


def _way(page: str, there: str) -> str:
    here = posixpath.dirname(site_path(page))
    return posixpath.relpath(site_path(there), here or ".")
