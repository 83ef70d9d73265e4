"""The manifests of Kubernetes that watch and scale: they ask for metrics that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from bench.simulate.curve import CURVES
from deploy.dashboard.prometheus import MISSING, tool
from service.metrics import Metrics
from tests.ops.stack.files import text_of
from tests.ops.stack.kubernetes import BASE, KUBERNETES, Fields, Metadata, deployment, of_kind

MONITORING = KUBERNETES / "monitoring"


class Trigger(Fields):
    name: str
    metric_type: str
    metadata: dict[str, str]


class Target(Fields):
    name: str


class ScalingSpec(Fields):
    scale_target_ref: Target
    min_replica_count: int
    max_replica_count: int
    fallback: dict[str, int | str]
    triggers: list[Trigger]
    advanced: dict[str, dict[str, dict[str, dict[str, object]]]]


class ScaledObject(Fields):
    spec: ScalingSpec


class Endpoint(Fields):
    port: str
    path: str
    relabelings: list[dict[str, str | list[str]]]


class MonitorSpec(Fields):
    job_label: str
    pod_metrics_endpoints: list[Endpoint]


class PodMonitor(Fields):
    metadata: Metadata
    spec: MonitorSpec


def scaled() -> ScalingSpec:
    text = (KUBERNETES / "autoscaling/scaled-object.yaml").read_text(encoding="utf-8")
    return ScaledObject.model_validate(yaml.safe_load(text)).spec


def monitor() -> PodMonitor:
    text = (MONITORING / "pod-monitor.yaml").read_text(encoding="utf-8")
    return PodMonitor.model_validate(yaml.safe_load(text))


TRIGGERS = {each.name: each for each in scaled().triggers}


def test_prometheus_scrapes_the_port_of_the_metrics_under_the_name_that_the_alerts_know() -> None:
    base = deployment(BASE)
    (endpoint,) = monitor().spec.pod_metrics_endpoints
    assert base.pod.container.port(endpoint.port) == 9464
    job = base.spec.template.metadata.labels[monitor().spec.job_label]
    named = set(re.findall(r'job="(\w+)"', text_of("deploy/alerts.yml")))
    assert named == {job, "dcgm"}
    assert [each["targetLabel"] for each in endpoint.relabelings] == ["instance"]


def test_the_dashboard_is_the_file_that_compose_mounts() -> None:
    folder = KUBERNETES.parent / "grafana"
    (made,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["configMapGenerator"]
    (file,) = made["files"]
    assert (folder / file).samefile(folder / "dashboards/dit.json")
    assert (folder / file).stat().st_size < 1 << 20  # what a ConfigMap may have
    data = of_kind("ConfigMap", "gpu")["data"]
    assert data == {"dit.json": (folder / file).read_text(encoding="utf-8")}


def test_autoscaling_is_of_the_deployment_and_keeps_two() -> None:
    spec = scaled()
    assert spec.scale_target_ref.name == deployment(BASE).metadata.name
    assert spec.max_replica_count > spec.min_replica_count >= 2
    assert spec.fallback["replicas"] == spec.min_replica_count
    assert spec.fallback["behavior"] == "currentReplicasIfHigher"


def test_pods_go_more_slowly_than_they_come() -> None:
    behavior = scaled().advanced["horizontalPodAutoscalerConfig"]["behavior"]
    waits_s = [behavior[way]["stabilizationWindowSeconds"] for way in ("scaleUp", "scaleDown")]
    assert waits_s == [30, 600]


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_asks_for_metrics_that_exist_of_these_pods(name: str) -> None:
    metadata, query = TRIGGERS[name].metadata, TRIGGERS[name].metadata["query"]
    exported = {family.name for family in Metrics().registry.collect()}
    shown = re.findall(r"\b(dit_\w+)\{([^}]*)\}", query)
    assert shown
    for metric, selector in shown:
        assert metric.removesuffix("_total") in exported
        assert 'job="dit"' in selector
        assert f'namespace="{namespace()}"' in selector
    assert len(shown) == len(re.findall(r"\bdit_\w+", query))
    assert metadata["ignoreNullValues"] == "false"  # no data is not no load
    assert TRIGGERS[name].metric_type == "AverageValue"  # the fallback heeds no other


def namespace() -> str:
    tree = yaml.safe_load((KUBERNETES / "gpu/kustomization.yaml").read_text(encoding="utf-8"))
    return str(tree["namespace"])


def test_thresholds_are_what_they_are_said_to_be() -> None:
    """Of the H100's curve: 65 % of its row-steps a second, and one second's worth."""
    most = CURVES["h100"].row_steps_per_s
    load, backlog, room = (
        float(TRIGGERS[name].metadata["threshold"]) for name in ("load", "backlog", "room")
    )
    assert load / most == pytest.approx(0.65, abs=0.01)
    assert backlog / most == pytest.approx(1.0, abs=0.05)
    assert room == 0.25


SERIES = """
rule_files: [rules.yml]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - series: 'dit_row_steps_waiting{namespace="dit",job="dit",instance="a"}'
        values: '1000x20'
      - series: 'dit_row_steps_waiting{namespace="dit",job="dit",instance="b"}'
        values: '3000x20'
      - series: 'dit_row_steps_waiting{namespace="other",job="dit",instance="c"}'
        values: '9000x20'
      - series: 'dit_row_steps_limit{namespace="dit",job="dit",instance="a"}'
        values: '4000x20'
      - series: 'dit_row_steps_limit{namespace="dit",job="dit",instance="b"}'
        values: '4000x20'
      - series: 'dit_denoise_steps_total{namespace="dit",job="dit",instance="a",kind="useful"}'
        values: '0+15000x20'
      - series: 'dit_denoise_steps_total{namespace="dit",job="dit",instance="b",kind="useful"}'
        values: '0+3000x20'
      - series: 'dit_denoise_steps_total{namespace="dit",job="dit",instance="b",kind="padding"}'
        values: '0+9000x20'
    promql_expr_test:
      - {expr: 'of:load', eval_time: 5m, exp_samples: [{labels: 'of:load', value: 1200}]}
      - {expr: 'of:backlog', eval_time: 5m, exp_samples: [{labels: 'of:backlog', value: 4000}]}
      - {expr: 'of:room', eval_time: 5m, exp_samples: [{labels: 'of:room', value: 1}]}
"""


@pytest.mark.skipif(tool("promtool") is None, reason=MISSING)
def test_prometheus_answers_the_triggers_with_a_sum_over_the_pods(tmp_path: Path) -> None:
    rules = [{"record": f"of:{n}", "expr": each.metadata["query"]} for n, each in TRIGGERS.items()]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": rules}]}))
    (tmp_path / "tests.yml").write_text(SERIES)
    done = subprocess.run(
        [str(tool("promtool")), "test", "rules", "tests.yml"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
