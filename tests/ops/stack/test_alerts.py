"""The alert rules: the metrics that they name, and when they fire."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.dashboard.dcgm import counters
from deploy.dashboard.prometheus import MISSING, tool
from service.fleet.front_metrics import FrontMetrics
from service.http.middleware.observation import OUTCOMES
from service.metrics import Metrics
from tests.ops.stack.files import ROOT, text_of

SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}


def test_alerts_name_metrics_and_outcomes_that_exist() -> None:
    families = list(Metrics().registry.collect())
    exported = {one.name + suffix for one in families for suffix in SUFFIXES.get(one.type, [""])}
    exported |= set(re.findall(r"^# TYPE (\w+)", FrontMetrics(["a model"]).text(), re.MULTILINE))
    outcomes = {one.labels.get("outcome") for family in families for one in family.samples}
    groups = yaml.safe_load(text_of("deploy/alerts.yml"))["groups"]
    rules = "\n".join(rule["expr"] for group in groups for rule in group["rules"])
    assert set(re.findall(r"\bdit_\w+", rules)) <= exported
    assert set(re.findall(r"\bDCGM_\w+", rules)) <= {name for name, *_ in counters()}
    named = {
        word for match in re.findall(r'outcome=~?"([^"]+)"', rules) for word in match.split("|")
    }
    assert named <= outcomes | set(OUTCOMES.values())


def test_the_alert_tests_name_the_rules() -> None:
    (rules,) = yaml.safe_load(text_of("tests/ops/alerts.promtool.yml"))["rule_files"]
    assert (ROOT / "tests/ops" / rules).samefile(ROOT / "deploy/alerts.yml")


@pytest.mark.skipif(tool("promtool") is None, reason=MISSING)
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "deploy/prometheus.yml"],
        ["test", "rules", "tests/ops/alerts.promtool.yml"],
    ],
)
def test_promtool_accepts(arguments: list[str]) -> None:
    done = subprocess.run(
        [str(tool("promtool")), *arguments], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(tool("amtool") is None, reason=MISSING)
@pytest.mark.parametrize("name", ["alertmanager.yml", "alertmanager-webhook.yml"])
def test_amtool_accepts(name: str, tmp_path: Path) -> None:
    """Debian's version knows no url_file, so the URL stands in its place."""
    text = text_of(f"deploy/{name}")
    config = tmp_path / name
    config.write_text(re.sub("url_file: .*", "url: http://127.0.0.1/", text))
    done = subprocess.run(
        [str(tool("amtool")), "check-config", str(config)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_a_runbook() -> None:
    groups = yaml.safe_load(text_of("deploy/alerts.yml"))["groups"]
    names = {rule["alert"] for group in groups for rule in group["rules"]}
    tested = text_of("tests/ops/alerts.promtool.yml")
    assert not [name for name in names if name not in tested]
    described = re.findall(r"^\| `(Dit\w+)` \|", text_of("docs/operations.md"), re.MULTILINE)
    assert sorted(described) == sorted(names)
