"""One cluster for all clients, as `dynoctl up` makes it: four models, two of them disaggregated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dynoctl.cli.cluster import Cluster, brought_up

TEXT = """\
name: NAME
model: {{id: mock}}
engine: {{kind: mock, block_size: 16, max_model_len: 4096, args: {{speedup: inf}}}}
nodes: {{local: {{state_dir: {root}}}}}
services: {{etcd: {{port: {etcd}}}, nats: {{port: {nats}}}}}
roles:
  frontend: {{port: {http}}}
  processor: {{}}
  router: {{policy: kv}}
  decode:
    - {{replicas: 2}}
    - {{model: {{id: twofold}}, role: both}}
    - {{model: {{id: busy}}, engine: {{args: {{faults: {{reject_every: 2}}}}}}}}
    - {{model: {{id: org/frail}}, engine: {{args: {{faults: {{die_after_tokens: 200}}, longest_answer: 400}}}}}}
  prefill: {{}}
disagg: {{mode: conditional, max_local_prefill_length: 64}}
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """It is up; `url` is where clients find it."""
    with brought_up("clients", TEXT) as made:
        yield made


@pytest.fixture(scope="session")
def base_url(cluster: Cluster) -> str:
    """What clients are given."""
    return f"http://127.0.0.1:{cluster.ports['http']}/v1"
