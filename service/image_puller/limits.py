"""Every bound in one place, each with its unit."""

BODY_BYTES = 1024 * 1024
"""A request body; registries' largest known requests are far below."""

STATE_BYTES = 192 * 1024
"""The state annotation. All annotations of an object together may have 256 KiB."""

KEEP_TAGS_MOST = 20
SPARE_TAGS = 4
"""Followed tags remembered beyond `KEEP_TAGS`, to fall back to when one is deleted or refused."""
REFUSED_TAGS = KEEP_TAGS_MOST + SPARE_TAGS + 1
"""Tags that the cluster refused, remembered per entry: all that a look at a registry can bring."""
REFUSED_CHARACTERS = 300
"""Of the cluster's words about each of them that are kept."""

UNVERIFIED_PUSHES = 8
"""Pushes that wait for their registry's word, remembered per entry; the oldest go."""
UNVERIFIED_SECONDS = 3600.0
"""After which a push of a tag that its registry does not have is given up."""
UNVERIFIED_PUSHES_AT_LEAST = 2
"""The same where space is short."""
UNVERIFIED_CHARACTERS = 200
"""Of the reason why a push could not be verified that are kept."""

SETTLING_SECONDS = 300.0
"""After a push, in which its registry may still show what was there before."""

REASON_CHARACTERS = 1000
"""Of the API server's words that are kept; Pod Security can name every container."""

ATTEMPTS = 8
"""Lost races after which a commit gives up and its senders try again."""

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
"""Time-outs of one API request."""

QUESTIONS = 64
"""What one request may have registries asked; a registry's real ones need a handful."""
QUESTIONS_AT_ONCE = 4
"""Of one registry."""
QUESTION_SECONDS = 10.0
"""One question, with all requests that it takes."""
PATIENCE_FOR_REGISTRY = 0.5
"""The part of a sender's patience that its registry may take; the rest is the API server's."""
FIRST_LOOK_SECONDS = 5.0
"""For all questions of the look at start, which the DaemonSet's creation waits for."""
LOOK_SECONDS = 120.0
"""For all questions of any later one."""
VERIFICATION_SECONDS = 10.0
"""For all questions about pushes that are not verified."""
FAILURES = 4
"""In a row, after which a registry is asked nothing more at that time."""
LOOKS_APART_SECONDS = 5.0
"""Between looks that others ask for."""
PULL_SECRETS_SECONDS = 60.0
"""Until pull secrets are read again."""

WATCH_SECONDS = 240
"""One watch of the nodes; then they are listed again."""

GATHER_SECONDS = 0.02
"""How long a writer under load waits for the senders it has just answered to come back."""

KEYS_ANSWER_SECONDS = 2.0
"""Reading an issuer's keys: less than any sender of tokens waits."""
KEYS_LAST_SECONDS = 3600.0
"""Keys that were fetched; what an issuer has withdrawn is believed no longer."""
KEYS_AGAIN_SECONDS = 5.0
"""Least time between two looks at an issuer's keys, whatever strangers make up."""
KEYS_BYTES = 256 * 1024
KEYS_MOST = 100
"""Of one issuer; Google has two, an API server seldom more than three."""

TOKEN_CHARACTERS = 8192
"""Gunicorn takes no longer header."""
TOKEN_LEEWAY_SECONDS = 30
"""How far clocks may be apart."""

TICK_SECONDS = 600.0
FIRST_FOLLOW_UP_SECONDS = 1.0
"""Until an unverified push is asked about again, or a rollout is looked at; doubled each time."""
FOLLOW_UP_SECONDS = 1800.0
"""Until a rollout that does not end is left to the ticks."""
RETRY_SECONDS = 5.0
"""Until a rollout that could not be written is tried again."""
RETRY_AFTER_SECONDS = 5
"""What a sender that is answered 503 is told."""
PUSH_SECONDS = 2.5
"""How long `POST /` and sources without a documented patience are kept waiting."""
WAITING_EVENTS = 10_000
"""Requests whose events are not committed yet; more are answered 503."""
