"""What documents say is what the code has."""

import re
from collections.abc import Iterator
from functools import cache

import pytest
import yaml

from jobs import cli
from jobs.documentation import commands_page
from jobs.documentation.generated import generated
from jobs.documentation.settings_page import Group, group_of, is_setting
from pipeline.config import JobConfig
from serving.config import ServeConfig
from sgl import errors
from tests.documents import DOCUMENTS, HISTORY, ROOT, commands, fences, marked, prose

DOCS = ROOT / "docs"
FILES = re.compile(r"\.(py|md|json|jsonl|txt|ya?ml|png|parquet|toml|html|js|css|csv|tsv)$")
OTHERS = {"base", "body", "sgl", "stream_options", "testbed", "usage"}
"""What dotted names begin with that are no settings: fields of requests and answers, modules."""
PARSERS = commands_page.commands(cli.make_parser())
OPTIONS = set().union(*map(commands_page.options, PARSERS.values()))
OF_CHAOS = {"--keep"}
"""Options of `python -m tests.chaos`, of which CONTRIBUTING.md tells."""
TODAY = [document for document in DOCUMENTS if document.name not in HISTORY]

documents = pytest.mark.parametrize("document", TODAY, ids=lambda d: str(d.relative_to(ROOT)))


@cache
def groups() -> tuple[Group, Group]:
    return group_of(JobConfig), group_of(ServeConfig)


def known(name: str) -> bool:
    return any(is_setting(name, group) for group in groups())


def kinds(of: type[Exception]) -> set[str]:
    return {of.__name__}.union(*map(kinds, of.__subclasses__()))


def test_every_error_that_a_row_may_have_is_explained() -> None:
    lines = (DOCS / "INPUTS.md").read_text().splitlines()
    listed = {line.split("`")[1] for line in lines if line.startswith("| `") and "Error`" in line}
    assert listed == kinds(errors.RecordError) | {"OutOfMemoryError"}


@documents
def test_every_command_and_its_options_exist(document) -> None:
    for command in commands(document):
        words = re.findall(r"[\w-]+", command)[1:]
        if not words or words[0].startswith("-"):
            continue
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in PARSERS), words[0])
        assert any(known.split()[0] == name.split()[0] for known in PARSERS), command
        takes = commands_page.options(PARSERS[name]) if name in PARSERS else set()
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", command)) <= takes, command


@documents
def test_every_option_that_stands_alone_exists(document) -> None:
    found = [re.match(r"--[a-z][a-z0-9-]*", text) for text in marked(document)]
    alone = {one[0] for one in found if one is not None}
    assert alone <= OPTIONS | OF_CHAOS


@documents
def test_every_setting_exists(document) -> None:
    for text in marked(document):
        found = re.fullmatch(r"([a-z][a-z_]*(?:\.[a-z*][a-z0-9_*]*)+)(: .*|=.*)?", text)
        if found is None or FILES.search(found[1]) or found[1].split(".")[0] in OTHERS:
            continue
        assert known(found[1]), text


@documents
def test_every_setting_that_a_command_sets_exists(document) -> None:
    for command in commands(document):
        for name in re.findall(r"--set ([a-z_.*]+)=", command):
            assert known(name), command


@documents
def test_whole_files_of_settings_are_taken(document) -> None:
    for language, text in fences(document):
        model = {"# job.yaml": JobConfig, "# serve.yaml": ServeConfig}.get(text.split("\n")[0])
        if language == "yaml" and model is not None:
            model.model_validate(yaml.safe_load(text))


def names_of(settings: object, above: str = "") -> Iterator[str]:
    if not isinstance(settings, dict) or not settings:
        yield above
        return
    for name, value in settings.items():
        yield from names_of(value, f"{above}.{name}".strip("."))


@documents
def test_every_setting_in_yaml_exists(document) -> None:
    for language, text in fences(document):
        if language == "yaml" and not re.match(r"# (?!(job|serve)\.yaml)\w+\.yaml", text):
            for name in names_of(yaml.safe_load(text)):
                assert known(name), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(document) -> None:
    made = {(DOCS / page).resolve() for page in generated()}
    for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", prose(document)):
        there = (document.parent / target).resolve()
        assert there.exists() or there in made, target


def test_every_exit_code_is_explained() -> None:
    table = (DOCS / "OPERATIONS.md").read_text().split("## Exit codes")[1].split("##")[0]
    explained = [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert cli.__doc__ is not None
    told = cli.__doc__.split("Exit codes:")[1]
    assert explained == [int(code) for code in re.findall(r"\b\d+\b", told)]
    assert set(cli.EXIT_CODES.values()) <= set(explained)


def test_the_readme_is_the_short_of_it() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
