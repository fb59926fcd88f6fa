"""Reads a page from standard input with the strict parser of Prometheus' Python
client and prints its samples as JSON, ordered.

Usage: parse.py text|openmetrics [gzip]
"""

import json
import sys
import zlib

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

page = sys.stdin.buffer.read()
if sys.argv[2:] == ["gzip"]:
    member = zlib.decompressobj(wbits=31)
    page = member.decompress(page)
    assert member.eof and not member.unused_data, "one member and nothing behind it"
parse = {"text": text, "openmetrics": openmetrics}[sys.argv[1]]

samples = []
for family in parse(page.decode()):
    assert family.documentation, family.name
    assert family.type != "unknown", family.name
    for sample in family.samples:
        assert sample.timestamp is None and sample.exemplar is None, sample
        labels = dict(sample.labels)
        if "le" in labels:
            # "1" in one format and "1.0" in the other.
            labels["le"] = str(float(labels["le"]))
        unit = family.unit if sys.argv[1] == "openmetrics" else None
        samples.append([sample.name, sorted(labels.items()), sample.value, family.type, unit])
samples.sort(key=lambda sample: sample[:2])
json.dump(samples, sys.stdout)
