"""A hook of MkDocs: pages of the repository that are not in docs/ are pages of the site too, and links follow them."""

import posixpath
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/kubernetes/README.md": "kubernetes.md",
    "docker/secrets/README.md": "secrets.md",
}
"""Pages outside docs/, and what each is called on the site."""

DECISIONS = "adr/"
LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every decision below the entry of the navigation that names their folder, in the order of their numbers."""
    folder = Path(config.docs_dir) / DECISIONS
    decisions = [f"{DECISIONS}{page.name}" for page in (folder / "README.md", *sorted(folder.glob("0*.md")))]
    config.nav = [
        {title: decisions if target == DECISIONS else target for title, target in entry.items()}
        for entry in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, name in ELSEWHERE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that are right in the repository into links that are right on the site."""
    here = {name: source for source, name in ELSEWHERE.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    folder = posixpath.dirname(page.file.src_uri)

    def to_site(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if ":" in target:
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        if (ROOT / there).is_dir():
            there += "/README.md"
        name = ELSEWHERE.get(there) or str(PurePosixPath(there).relative_to("docs"))
        return f"]({posixpath.relpath(name, folder or '.')}{anchor})"

    return LINK.sub(to_site, markdown)
