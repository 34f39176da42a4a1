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


def purposes(parser: argparse.ArgumentParser, name: str = "") -> dict[str, str]:
    """What each of `commands` is for, in the words of its parent's help."""
    found: dict[str, str] = {}
    for one in parser._actions:
        if isinstance(one, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in one._choices_actions}
            for word, below in one.choices.items():
                words = f"{name} {word}".strip()
                found |= purposes(below, words) or {words: told.get(word, "")}
    return found


def rendered(parser: argparse.ArgumentParser, about: str) -> str:
    """The page."""
    lines, told = ["# Commands", "", about, ""], purposes(parser)
    for name, one in commands(parser).items():
        purpose = told[name]
        said = [f"{purpose[0].upper()}{purpose[1:]}.", ""] if purpose else []
        lines += [f"## `sgl {name}`", "", *said, *_section(one), ""]
    return "\n".join(lines)


def _section(parser: argparse.ArgumentParser) -> Iterator[str]:
    shown = [one for one in parser._actions if not isinstance(one, argparse._HelpAction)]
    yield table(("argument", "meaning"), ((f"`{_written(one)}`", _help(one)) for one in shown))


def _written(action: argparse.Action) -> str:
    takes = action.metavar or (action.dest.upper() if action.choices else "")
    names = ", ".join(action.option_strings)
    return f"{names} {takes}".strip() if action.nargs != 0 else names


def _help(action: argparse.Action) -> str:
    named = ", ".join(f"`{choice}`" for choice in action.choices or ())
    return "; ".join(filter(None, (action.help, named and f"one of {named}")))
