"""Admission control: rules that tests add, which reject or change objects."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from image_puller.simulation import responses
from image_puller.simulation.resources import DAEMON_SETS, PODS, Resource
from image_puller.simulation.responses import ApiError, Json

ErrorFactory = Callable[[Resource, str, str], ApiError]


@dataclass(frozen=True, slots=True)
class _Denial:
    resource: Resource
    applies: Callable[[Json], bool]
    message: str
    error: ErrorFactory


@dataclass(slots=True)
class Admission:
    """The rules, in the order in which they were added."""

    _denials: list[_Denial] = field(default_factory=list)
    _mutations: list[tuple[Resource, Callable[[Json], None]]] = field(default_factory=list)

    def deny(
        self, resource: Resource, applies: Callable[[Json], bool], message: str, status: int
    ) -> None:
        """Reject objects, with the response of the admission plugin that uses this status."""
        self._denials.append(_Denial(resource, applies, message, _error_factory(resource, status)))

    def mutate(self, resource: Resource, change: Callable[[Json], None]) -> None:
        """Add a mutating webhook, which changes objects in place."""
        self._mutations.append((resource, change))

    def clear(self) -> None:
        """Remove all rules."""
        self._denials.clear()
        self._mutations.clear()

    def mutated(self, resource: Resource, manifest: Json) -> Json:
        """Return a copy of an object as the mutating webhooks change it."""
        changed = copy.deepcopy(manifest)
        for kind, change in self._mutations:
            if kind is resource:
                change(changed)
        return changed

    def check(self, resource: Resource, manifest: Json) -> None:
        """Raise ApiError for an object to which a rule of `deny` applies."""
        for denial in self._denials:
            if denial.resource is resource and denial.applies(copy.deepcopy(manifest)):
                name = manifest["metadata"]["name"]
                raise denial.error(resource, name, denial.message)


def _error_factory(resource: Resource, status: int) -> ErrorFactory:
    factories: dict[tuple[Resource, int], ErrorFactory] = {
        (DAEMON_SETS, 422): responses.denied_by_policy,
        (DAEMON_SETS, 403): lambda _resource, _name, message: responses.denied_by_webhook(message),
        (PODS, 422): responses.denied_by_policy,
        # Pod Security, quotas and limit ranges.
        (PODS, 403): responses.forbidden,
    }
    return factories[resource, status]
