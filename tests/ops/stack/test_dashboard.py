"""The dashboard's file: what Grafana reads is what the code describes, of metrics that exist."""

from __future__ import annotations

import json
import re

from deploy.dashboard.__main__ import COLUMNS, FILE, panels, text
from deploy.dashboard.dcgm import counters
from deploy.dashboard.panels import ROWS
from service.metrics import Metrics
from tests.ops.stack.files import text_of

SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
QUERIES = [query for row in ROWS for panel in row.panels for query in panel.queries]


def test_the_file_is_what_the_code_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "make dashboard writes it"


def test_every_metric_that_is_shown_exists() -> None:
    families = list(Metrics().registry.collect())
    exported = {one.name + suffix for one in families for suffix in SUFFIXES.get(one.type, [""])}
    known = exported | {name for name, *_ in counters()}
    shown = {
        name for query in QUERIES for name in re.findall(r"\b(?:dit|process|DCGM)_\w+", query.expr)
    }
    assert shown <= known


def test_rates_follow_the_scrape_interval() -> None:
    for query in QUERIES:
        ranges = re.findall(r"(rate|increase|changes)\([^[]+\[([^]]+)\]", query.expr)
        for function, window in ranges:
            assert window == ("$__rate_interval" if function == "rate" else "1h"), query.expr


def test_every_query_of_ours_heeds_the_chosen_instance() -> None:
    for query in QUERIES:
        for name, selector in re.findall(r"\b((?:dit|process)_\w+)(\{[^}]*\})?", query.expr):
            assert 'instance=~"$instance"' in selector, name
    chosen = json.loads(text())["templating"]["list"]
    assert [each["name"] for each in chosen] == ["model", "instance"]
    assert 'name=~"$model"' in chosen[1]["query"]["query"]


def test_panels_fill_the_grid_without_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    numbers = []
    for panel in panels():
        numbers.append(panel["id"])
        place = panel["gridPos"]
        assert isinstance(place, dict)
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert all(x < COLUMNS for x, _ in cells)
        assert not cells & taken
        taken |= cells
    assert len(set(numbers)) == len(numbers)


def test_the_source_is_the_one_that_is_provisioned() -> None:
    provisioned = text_of("deploy/grafana/provisioning/datasources/prometheus.yml")
    uids = re.findall(r'"uid": "(\w+)"', text())
    assert set(uids) == {"dit", "prometheus"}
    assert "uid: prometheus" in provisioned
