"""A Kubernetes cluster in memory, for `image-puller demo` and the tests.

The API server speaks real HTTP and answers as a real one does: one contract suite runs against
both.
"""

from image_puller.simulation.clock import Clock
from image_puller.simulation.cluster import SimulatedCluster
from image_puller.simulation.server import Request

__all__ = ["Clock", "Request", "SimulatedCluster"]
