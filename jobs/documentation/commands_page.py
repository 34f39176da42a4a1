"""Every command of `sgl` and its options, from the parser that reads them, as a page."""

import argparse
from collections.abc import Iterator

from jobs.documentation.tables import table


def commands(parser: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """The parsers that options can be given to, by the words that choose them."""
    below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not below:
        return {name: parser}
    found: dict[str, argparse.ArgumentParser] = {}
    for word, one in below[0].choices.items():
        found |= commands(one, f"{name} {word}".strip())
    return found


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Those that it takes, dashes included."""
    return {option for action in parser._actions for option in action.option_strings}


def rendered(parser: argparse.ArgumentParser, about: str) -> str:
    """The page."""
    lines = ["# Commands", "", about, ""]
    for name, one in commands(parser).items():
        lines += [f"## `sgl {name}`", "", *_section(one), ""]
    return "\n".join(lines)


def _section(parser: argparse.ArgumentParser) -> Iterator[str]:
    shown = [one for one in parser._actions if not isinstance(one, argparse._HelpAction)]
    yield table(("", "meaning"), ((f"`{_written(one)}`", _help(one)) for one in shown))


def _written(action: argparse.Action) -> str:
    takes = action.metavar
    if takes is None and action.choices:
        takes = "|".join(map(str, action.choices))
    names = ", ".join(action.option_strings)
    return f"{names} {takes or ''}".strip() if action.nargs != 0 else names


def _help(action: argparse.Action) -> str:
    return action.help or ("" if action.choices is None else "one of these")
