"""The reasons to ignore an event. They are labels of a metric, so there are few."""

from enum import StrEnum


class Reason(StrEnum):
    """A reason to ignore an event. No text of a payload becomes a label."""

    ARTIFACT = "artifact that is no image"
    BLOB = "blob"
    BUILD = "build"
    CHART = "chart"
    EXPIRY = "expiry"
    MIRROR = "mirror status"
    NO_EVENTS = "no events"
    NO_IMAGE = "about no image"
    NO_REFERENCE = "neither tag nor digest"
    NO_REGISTRY = "registry outside the grammar"
    NO_REPOSITORY = "repository outside the grammar"
    NO_TAG = "tag outside the grammar"
    NOT_CONFIRMED = "subscription not confirmed"
    NOT_PUSHED = "not pushed"
    OTHER_CHANGE = "change of another object"
    PROMOTION = "promotion"
    PULL = "pull"
    QUOTA = "quota"
    REPLICATION = "replication status"
    RETENTION = "tag retention"
    SCAN = "scan"
    SIGNATURE = "signature or attestation"
    TEST = "test"
    TOO_MANY = "too many events"
    UNKNOWN_TYPE = "unknown type"
    UNSUBSCRIBED = "subscription deleted"


def of_artifact(kind: str) -> Reason:
    """Return the reason for an artifact that is no image, by its media type."""
    return Reason.CHART if "helm" in kind else Reason.ARTIFACT
