"""Every bound in one place, each with its unit."""

BODY_BYTES = 1024 * 1024
"""A request body; registries' largest known requests are far below."""

STATE_BYTES = 192 * 1024
"""The state annotation. All annotations of an object together may have 256 KiB."""

KEEP_TAGS_MOST = 20
SPARE_TAGS = 4
"""Followed tags remembered beyond `KEEP_TAGS`, to fall back to when one is deleted or refused."""
REFUSED_TAGS = 4
"""Tags that the cluster refused, remembered per entry."""

REASON_CHARACTERS = 1000
"""Of the API server's words that are kept; Pod Security can name every container."""

ATTEMPTS = 8
"""Lost races after which a commit gives up and its senders try again."""

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
"""Time-outs of one API request."""

WATCH_SECONDS = 240
"""One watch of the nodes; then they are listed again."""

GATHER_SECONDS = 0.02
"""How long a writer under load waits for the senders it has just answered to come back."""

TICK_SECONDS = 600.0
RETRY_SECONDS = 5.0
"""Until a rollout that could not be written is tried again."""
RETRY_AFTER_SECONDS = 5
"""What a sender that is answered 503 is told."""
PUSH_SECONDS = 2.5
"""How long `POST /` and sources without a documented patience are kept waiting."""
WAITING_EVENTS = 10_000
"""Events accepted but not committed yet; more are answered 503."""
