"""The metrics of several replicas in one text."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.fleet.exposition import merge

OPENMETRICS = "application/openmetrics-text"


def text_of(value: float, accept: str) -> str:
    registry = CollectorRegistry()
    Gauge("plain", "No labels.", registry=registry).set(value)
    counter = Counter("labelled", "A } and a { in it.", ["path"], registry=registry)
    counter.labels('a"b{c} d').inc(value, {"request_id": "x"} if "open" in accept else None)
    Histogram("spread", "Seconds.", registry=registry).observe(value)
    encode, _ = choose_encoder(accept)
    return str(encode(registry).decode())


@pytest.mark.parametrize(
    ("accept", "parse"), [("text/plain", parse_text), (OPENMETRICS, parse_openmetrics)]
)
def test_every_sample_gets_the_labels_and_families_stay_together(
    accept: str, parse: object
) -> None:
    texts = [
        ({"replica": name}, text_of(value, accept)) for name, value in (("a", 1.0), ("b", 2.0))
    ]
    merged = merge([({}, "# HELP own Ours.\n# TYPE own gauge\nown 1.0\n"), *texts])
    families = list(parse(merged))  # type: ignore[operator]
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    samples = {
        (sample.name, sample.labels.get("replica"), sample.labels.get("path")): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["own", None, None] == 1.0
    assert samples["plain", "a", None] == 1.0
    assert samples["plain", "b", None] == 2.0
    assert samples["labelled_total", "b", 'a"b{c} d'] == 2.0
    assert samples["spread_sum", "b", None] == 2.0


def test_exemplars_keep_their_own_labels() -> None:
    merged = merge([({"replica": "a"}, text_of(1.0, OPENMETRICS))])
    (line,) = [each for each in merged.splitlines() if each.startswith("labelled_total")]
    assert line.startswith('labelled_total{replica="a",path=')
    assert '# {request_id="x"}' in line
    assert merged.endswith("# EOF\n")


def test_label_values_are_escaped() -> None:

    text = merge([({"model": 'a"\\'}, "# TYPE up gauge\nup 1\n")])
    assert text.splitlines()[1] == r'up{model="a\"\\"} 1'
