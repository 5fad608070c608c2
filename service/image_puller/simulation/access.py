"""The rights of clients, which tests take away: reviews of them, and requests without them."""

import json
from dataclasses import dataclass, field

from image_puller.simulation import responses
from image_puller.simulation.resources import Target
from image_puller.simulation.responses import ApiError, Json

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
"""The path at which a client asks whether it has a right."""


@dataclass(slots=True)
class Access:
    """The rights that no client has, as verbs and plurals: `("create", "pods")`."""

    forbidden: set[tuple[str, str]] = field(default_factory=set)

    def reviewed(self, body: bytes) -> Json:
        """Return the review in the body of a request, with its answer."""
        review: Json = json.loads(body)
        asked = review["spec"]["resourceAttributes"]
        is_allowed = (asked["verb"], asked["resource"]) not in self.forbidden
        return {**review, "metadata": {}, "status": {"allowed": is_allowed}}

    def check(self, verb: str, target: Target) -> None:
        """Raise ApiError for a request whose right was taken away."""
        if (verb, target.resource.plural) in self.forbidden:
            raise _forbidden(verb, target)


def _forbidden(verb: str, target: Target) -> ApiError:
    """Return the error of RBAC, in the real server's words."""
    group, plural = target.resource.group, target.resource.plural
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    problem = f'User "simulated" cannot {verb} resource "{plural}" in API group "{group}" {where}'
    return responses.forbidden(target.resource, target.name or "", problem)
