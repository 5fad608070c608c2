"""Rights as plain values, to compare those that the service needs with those of Roles."""

from collections.abc import Iterable
from typing import Any

from image_puller.core.rights import Right

Plain = tuple[bool, str, str, str, str]
"""Whether in the whole cluster, then group, resource, name and verb. No name means all objects."""


def wanted(needed: Iterable[Right]) -> set[Plain]:
    """Return the rights that the service needs."""
    return {
        (each.is_cluster_wide, each.group, each.resource, each.name or "", each.verb)
        for each in needed
    }


def given(documents: Iterable[dict[str, Any]]) -> set[Plain]:
    """Return the rights that the Roles and ClusterRoles among these objects give."""
    return {
        (document["kind"] == "ClusterRole", group, resource, name, verb)
        for document in documents
        if document["kind"] in ("Role", "ClusterRole")
        for rule in document["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }
