"""Hosts and servers for the tests of faults."""

import pytest

from cluster import network


@pytest.fixture
def site():
    with network.site() as site:
        print(f"on {site.kind}")
        yield site
