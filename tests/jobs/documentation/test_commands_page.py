import argparse

from jobs.cli import BENCHMARKS, make_parser
from jobs.documentation.commands_page import commands, options, purposes, rendered


def made() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tool")
    below = parser.add_subparsers()
    walk = below.add_parser("walk", help="one foot, then the other")
    walk.add_argument("place", metavar="PLACE", help="where to")
    walk.add_argument("--slowly", action="store_true", help="with | time")
    walk.add_argument("--with", dest="company", choices=("dog", "cat"))
    deeper = below.add_parser("swim").add_subparsers()
    far = deeper.add_parser("far", help="beyond the buoy")
    far.add_argument("--days", type=int, metavar="N", help="of it")
    return parser


def test_commands_are_named_by_the_words_that_choose_them() -> None:
    found = commands(made())
    assert list(found) == ["walk", "swim far"]
    assert options(found["walk"]) == {"-h", "--help", "--slowly", "--with"}


def test_every_option_has_a_line() -> None:
    page = rendered(made(), "About.")
    assert "| `PLACE` | where to |" in page
    assert "| `--slowly` | with \\| time |" in page
    assert "| `--with COMPANY` | one of `dog`, `cat` |" in page
    assert "| `--days N` | of it |" in page.split("## `tool swim far`".replace("tool", "sgl"))[1]


def test_every_command_says_what_it_is_for() -> None:
    assert "## `sgl walk`\n\nOne foot, then the other.\n\n" in rendered(made(), "About.")
    assert "## `sgl swim far`\n\nBeyond the buoy.\n\n" in rendered(made(), "About.")
    assert all(purposes(make_parser()).values())


def test_all_of_sgl_is_there() -> None:
    found = commands(make_parser())
    assert {f"bench {name}" for name in BENCHMARKS} < set(found)
    assert "--threshold" in options(found["run"])
    assert "--pruners" in options(found["evaluate"])
