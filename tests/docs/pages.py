"""The pages of the documentation, and what stands in them as code."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "deploy" / "kubernetes" / "README.md",
        ROOT / "docker" / "secrets" / "README.md",
    ]
)
FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    """What a page is called in a test's id."""
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def blocks(page: Path) -> list[str]:
    """The blocks of code of a page, without their fences."""
    return ["\n".join(block.group().splitlines()[1:-1]) for block in FENCE.finditer(page.read_text())]


def inline(page: Path) -> list[str]:
    """What stands between backticks in a page's text."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def code(page: Path) -> list[str]:
    """All code of a page."""
    return [*inline(page), *blocks(page)]


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
