"""Rules: the alerts as an object of prometheus-operator, from the file that compose's Prometheus reads."""

from __future__ import annotations

import textwrap

from deploy.manifests.documents import ROOT

ALERTS = ROOT / "deploy" / "alerts.yml"
FILE = ROOT / "deploy" / "kubernetes" / "monitoring" / "prometheus-rule.yaml"
HEAD = """\
# Written by `make manifests` from deploy/alerts.yml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dit
  labels:
    app.kubernetes.io/name: dit
spec:
"""


def text() -> str:
    """The file's text."""
    return HEAD + textwrap.indent(ALERTS.read_text(encoding="utf-8"), "  ")
