"""Reads the envelope in which Amazon SNS delivers a message, by HTTP or through a queue.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
The sender is authenticated before, so the envelope's signature is not needed. No URL of it is used.
"""

import re
from typing import Any

from image_puller.errors import BadEventError
from image_puller.events.event import Ignored
from image_puller.events.payload import field, load_text, quote
from image_puller.events.sources.reasons import Reason

_TOPIC = re.compile(
    r"arn:aws[a-z-]{0,20}:sns:(?P<region>[a-z0-9-]{1,40}):[0-9]{12}:[\w-]{1,256}(\.fifo)?", re.ASCII
)
_TOKEN = re.compile(r"[0-9A-Za-z]{1,500}", re.ASCII)


def unwrap(payload: dict[str, Any]) -> Any:
    """Return the message in an envelope, as JSON, or the payload itself where it is none.

    A confirmation of SNS is Ignored. Raises BadEventError.
    """
    if "TopicArn" not in payload:
        return payload
    match field(payload, "Type", str):
        case "Notification":
            return _message(field(payload, "Message", str))
        case "SubscriptionConfirmation":
            return Ignored(
                reason=Reason.NOT_CONFIRMED,
                detail=f"the subscription of SNS topic {_topic(payload)[0]} waits for its "
                f"confirmation; if the topic is yours, run: {_command(payload)}",
            )
        case "UnsubscribeConfirmation":
            return Ignored(
                reason=Reason.UNSUBSCRIBED,
                detail=f"the subscription of SNS topic {_topic(payload)[0]} was deleted; "
                f"to restore it, run: {_command(payload)}",
            )
        case other:
            raise BadEventError(f"'Type' is not a type of SNS: {quote(other)}")


def _message(text: str) -> Any:
    try:
        return load_text(text)
    except BadEventError as error:
        raise BadEventError(f"'Message' of SNS: {error}") from error


def _command(payload: dict[str, Any]) -> str:
    """Return the command that confirms a subscription. A person may paste it into a shell."""
    topic, region = _topic(payload)
    token = field(payload, "Token", str)
    if not _TOKEN.fullmatch(token):
        raise BadEventError(f"'Token' is not a token of SNS: {quote(token)}")
    return f"aws sns confirm-subscription --region {region} --topic-arn {topic} --token {token}"


def _topic(payload: dict[str, Any]) -> tuple[str, str]:
    """Return the ARN of the topic, and its region."""
    topic = field(payload, "TopicArn", str)
    found = _TOPIC.fullmatch(topic)
    if not found:
        raise BadEventError(f"'TopicArn' is not the ARN of a topic: {quote(topic)}")
    return topic, found["region"]
