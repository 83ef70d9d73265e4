"""Write deploy/grafana/dashboards/dit.json.

python -m deploy.dashboard
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from deploy.dashboard.panels import COLOURS, ROWS, Panel, Row

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "grafana" / "dashboards" / "dit.json"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24

Json = dict[str, object]


def variable(name: str, label: str, query: str) -> Json:
    """A choice of label values, all of them at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def targets(panel: Panel) -> list[Json]:
    """A panel's queries as Grafana asks them."""
    instant = panel.kind != "timeseries"
    return [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": instant,
            "range": not instant,
            "exemplar": panel.exemplars and index == 0,
        }
        | ({"format": "table"} if panel.kind == "table" else {})
        for index, query in enumerate(panel.queries)
    ]


def field_config(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["min"] = 0
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 0,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": stacking,
        }
    return {"defaults": defaults, "overrides": overrides(panel)}


def overrides(panel: Panel) -> list[Json]:
    """The same colour for the same outcome in every panel."""
    names = {query.legend for query in panel.queries}
    by_label = not names.isdisjoint(("{{outcome}}", "{{kind}}"))
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in COLOURS.items()
        if panel.kind == "timeseries" and (by_label or name in names)
    ]


def options(panel: Panel) -> Json:
    if panel.kind == "stat":
        named = any(query.legend for query in panel.queries)
        return {
            "textMode": "name" if named else "auto",
            "colorMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {"showHeader": True}


def transformations(panel: Panel) -> list[Json]:
    """A table shows the labels that say something."""
    if panel.kind != "table":
        return []
    hidden = {"Time": True, "Value": True, "__name__": True, "job": True, "digest": True}
    return [{"id": "organize", "options": {"excludeByName": hidden}}]


def panels() -> Iterator[Json]:
    """The panels in their places, row by row, from left to right."""
    number, top = 1, 0
    for row in ROWS:
        yield _heading(row, number, top)
        number, top, left = number + 1, top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + row.height
            place = {"x": left, "y": top, "w": panel.width, "h": row.height}
            yield _panel(panel, number, place)
            number, left = number + 1, left + panel.width
        top += row.height


def _heading(row: Row, number: int, top: int) -> Json:
    place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "gridPos": place,
        "collapsed": False,
        "panels": [],
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": targets(panel),
        "fieldConfig": field_config(panel),
        "options": options(panel),
        "transformations": transformations(panel),
    }


def dashboard() -> Json:
    """The whole, as Grafana's provisioning reads it."""
    choices = [
        variable("model", "Model", "label_values(dit_model_info, name)"),
        variable("instance", "Instance", 'label_values(dit_model_info{name=~"$model"}, instance)'),
    ]
    return {
        "uid": "dit",
        "title": "DiT service",
        "tags": ["dit"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": choices},
        "annotations": {"list": []},
        "panels": list(panels()),
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
