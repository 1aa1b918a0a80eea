"""Management commands in the documentation exist with their actions and options, and complete ones can be parsed."""

import re
import shlex
from argparse import ArgumentParser, _SubParsersAction
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from tests.docs.pages import PAGES, code, name

pytestmark = pytest.mark.service("orders")  # whose topics are what `--topic` may name

PLACEHOLDER = re.compile(r"…|\b[A-Z]{2,}\b")
GLOBAL = {"--settings", "--help"}


def commands(page: Path) -> list[str]:
    """What stands behind `manage.py` in the code of a page, one line each."""
    joined = "\n".join(text.replace("\\\n", " ") for text in code(page))
    found = re.findall(r"manage\.py +([a-z][^\n#;|&]*)", joined)
    return sorted({command.partition("<<")[0].strip() for command in found})


WRITTEN = [(page, command) for page in PAGES for command in commands(page)]


def parser_of(word: str) -> ArgumentParser:
    """The parser of a command. Raises KeyError when there is none of this name."""
    app = get_commands()[word]
    command = load_command_class(app, word) if isinstance(app, str) else app
    return command.create_parser("manage.py", word)


def action_of(parser: ArgumentParser, words: list[str]) -> ArgumentParser:
    """The parser of the action that these words name, where the command has actions."""
    for known in parser._actions:
        if isinstance(known, _SubParsersAction):
            chosen = next((word for word in words if not word.startswith("-")), "")
            assert chosen in known.choices, f"no action {chosen!r}"
            return known.choices[chosen]
    return parser


@pytest.mark.parametrize(
    ("page", "command"), WRITTEN, ids=lambda value: name(value) if isinstance(value, Path) else value
)
def test_it_exists_with_its_options(page, command):
    word, *words = shlex.split(command)
    assert word in get_commands(), f"there is no command {word}"
    parser = parser_of(word)
    if words and words != ["…"]:
        known = {option for one in (parser, action_of(parser, words)) for option in one._option_string_actions}
        used = {part.partition("=")[0] for part in words if part.startswith("--")}
        assert used - known - GLOBAL == set()
    if "--settings" in command and not PLACEHOLDER.search(command):  # one to be copied, and no mention
        parser.parse_args(words)  # raises CommandError


def test_they_are_found():
    assert len([command for page, command in WRITTEN if page.name == "runbook.md"]) > 20
