"""The pages of the documentation, and the code in them."""

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
    """The name of a page in the id of a test."""
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text())


def blocks(page: Path) -> list[str]:
    """The code blocks of a page, without the fences."""
    return ["\n".join(block.group().splitlines()[1:-1]) for block in FENCE.finditer(page.read_text())]


def inline(page: Path) -> list[str]:
    """The inline code of a page."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def code(page: Path) -> list[str]:
    """All code of a page."""
    return [*inline(page), *blocks(page)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
