"""The pages: one module each, with its `urlpatterns`, whose names are `MODULE:NAME`, such as `stories:index`.

The templates of a page are in `templates/console/MODULE/`; `static/console/MODULE.css` and `.js` are loaded by them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the navigation. `module` is its module in this package, and the namespace of its URLs."""

    module: str
    title: str

    @property
    def index(self) -> str:
        """The name of its first URL."""
        return f"{self.module}:index"


PAGES = (
    Page("map", "Map"),
    Page("stories", "Stories"),
    Page("topics", "Topics"),
    Page("deadletters", "Dead letters"),
    Page("catalogue", "Catalogue"),
    Page("breakit", "Break it"),
)
