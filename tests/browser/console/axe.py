"""The accessibility checker axe-core in a page of a test. `axe.min.js` is axe-core 4.14.1 (MPL 2.0), unchanged, from npm."""

from pathlib import Path
from typing import Any

SCRIPT = (Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
BAD = {"serious", "critical"}


def findings(page: Any) -> list[str]:
    """What axe-core finds serious or critical on a page now, one line for each element: `assert findings(page) == []`."""
    # Evaluated through the debugger, so that the page's content security policy stays as it is.
    page.evaluate(SCRIPT)
    found = page.evaluate("rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", RULES)
    return [
        f"{one['impact']} {one['id']}: {node['target'][0]}: {node['failureSummary'].splitlines()[-1].strip()}"
        for one in found["violations"]
        if one["impact"] in BAD
        for node in one["nodes"]
    ]
