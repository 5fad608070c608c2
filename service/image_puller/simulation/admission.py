"""What a cluster's own policies do to objects on their way in, on demand."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from image_puller.simulation import answers
from image_puller.simulation.answers import Json, RefusedError
from image_puller.simulation.resources import DAEMON_SETS, PODS, Resource

Refusal = Callable[[Resource, str, str], RefusedError]


@dataclass(frozen=True, slots=True)
class _Denial:
    resource: Resource
    applies: Callable[[Json], bool]
    message: str
    refusal: Refusal


@dataclass(slots=True)
class Admission:
    """Rules in the order in which they were made."""

    _denials: list[_Denial] = field(default_factory=list)
    _mutations: list[tuple[Resource, Callable[[Json], None]]] = field(default_factory=list)

    def deny(
        self, resource: Resource, applies: Callable[[Json], bool], message: str, status: int
    ) -> None:
        """Refuse the objects to which a rule applies, in the words of the plugin that does so."""
        self._denials.append(_Denial(resource, applies, message, _refusal(resource, status)))

    def mutate(self, resource: Resource, change: Callable[[Json], None]) -> None:
        """Let a webhook change objects in place."""
        self._mutations.append((resource, change))

    def clear(self) -> None:
        """Forget all rules."""
        self._denials.clear()
        self._mutations.clear()

    def mutated(self, resource: Resource, manifest: Json) -> Json:
        """Give an object as the mutating webhooks leave it."""
        changed = copy.deepcopy(manifest)
        for kind, change in self._mutations:
            if kind is resource:
                change(changed)
        return changed

    def check(self, resource: Resource, manifest: Json) -> None:
        """Refuse an object to which a rule applies."""
        for denial in self._denials:
            if denial.resource is resource and denial.applies(copy.deepcopy(manifest)):
                name = manifest["metadata"]["name"]
                raise denial.refusal(resource, name, denial.message)


def _refusal(resource: Resource, status: int) -> Refusal:
    refusals: dict[tuple[Resource, int], Refusal] = {
        (DAEMON_SETS, 422): answers.denied_by_policy,
        (DAEMON_SETS, 403): lambda _resource, _name, message: answers.denied_by_webhook(message),
        (PODS, 422): answers.denied_by_policy,
        # Pod Security, quotas and limit ranges.
        (PODS, 403): answers.forbidden,
    }
    return refusals[resource, status]
