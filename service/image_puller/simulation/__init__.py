"""A Kubernetes cluster and registries in memory, for `image-puller demo` and the tests.

The API server and the registries speak real HTTP. One contract suite tests the API server and a
real one.
"""

from image_puller.simulation.clock import SimulatedClock
from image_puller.simulation.cluster import SimulatedCluster
from image_puller.simulation.registries import RegistryServer
from image_puller.simulation.server import Request

__all__ = ["RegistryServer", "Request", "SimulatedClock", "SimulatedCluster"]
