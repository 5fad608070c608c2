"""Keeps container images on the nodes of a Kubernetes cluster before a workload asks for them."""

__version__ = "0.1.0"
