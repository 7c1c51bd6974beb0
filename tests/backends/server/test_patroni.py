"""Bots go on while Patroni lets the standby take over."""

from __future__ import annotations

import pytest
from fleet import bots, wait_for_more
from patroni_cluster import STARTING, Cluster, cluster
from programs import stored
from replication import wait_until

__all__ = ["cluster"]

pytestmark = pytest.mark.long

WAYS = ("create", "create", "get_or_create")


def test_a_machine_that_fails_loses_no_acknowledged_trade(cluster: Cluster) -> None:
    one, two = cluster.nodes
    with bots(cluster.url(), *WAYS, call_timeout=STARTING) as end:
        wait_for_more(one.url, 100)
        one.kill()
        wait_until(lambda: two.has_role("primary"), STARTING)
        wait_for_more(two.url, 100)
        acknowledged = end()
    assert len(acknowledged) > 200
    assert stored(two.url, "id::text") == sorted(acknowledged)


def test_a_switchover_is_bridged(cluster: Cluster) -> None:
    one, two = cluster.nodes
    with bots(cluster.url(), *WAYS) as end:
        wait_for_more(one.url, 100)
        cluster.switch_over()
        wait_for_more(two.url, 100)
        acknowledged = end()
    assert stored(two.url, "id::text") == sorted(acknowledged)
