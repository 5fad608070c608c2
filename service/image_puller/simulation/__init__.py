"""A Kubernetes cluster in memory, for `image-puller demo` and the tests.

The API server speaks real HTTP. One contract suite tests it and a real API server.
"""

from image_puller.simulation.clock import SimulatedClock
from image_puller.simulation.cluster import SimulatedCluster
from image_puller.simulation.server import Request

__all__ = ["Request", "SimulatedClock", "SimulatedCluster"]
