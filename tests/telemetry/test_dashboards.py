"""The dashboards: written from their description, and their queries are valid and name metrics that exist."""

import json
import re
import runpy

import pytest

from tests.docs.pages import ROOT

FOLDER = ROOT / "docker" / "grafana"
described = runpy.run_path(str(FOLDER / "dashboards.py"))
FILES = sorted((FOLDER / "dashboards").glob("*.json"))


def test_files_are_up_to_date():
    assert {path: path.read_text() for path in FILES} == described["files"]()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_can_be_imported(path):
    content = json.loads(path.read_text())
    panels = content["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    boxes = [panel["gridPos"] for panel in panels]
    for place, box in enumerate(boxes):
        assert box["x"] + box["w"] <= 24
        for other in boxes[:place]:
            apart_x = box["x"] + box["w"] <= other["x"] or other["x"] + other["w"] <= box["x"]
            apart_y = box["y"] + box["h"] <= other["y"] or other["y"] + other["h"] <= box["y"]
            assert apart_x or apart_y, "panels overlap"
    for panel in panels:
        if panel["type"] != "row":
            assert panel["targets"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    variables = {one["name"] for one in content["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", json.dumps([p.get("targets") for p in panels]))) - {"__rate_interval"}
    assert used == variables
