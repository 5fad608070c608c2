"""The bounds of times, sizes and counts, each with its unit."""

BODY_BYTES = 1024 * 1024
"""The size of a request body. The largest known request of a registry is far below."""

EVENTS = 1000
"""Events of one request that are taken. A real one has a few, a batch of a Broker some dozens."""
LINE_SUBJECTS = 10
"""What one line of the log names of the events of one request. It counts the others."""

STATE_BYTES = 192 * 1024
"""The size of the state annotation. All annotations of an object together may have 256 KiB."""

KEEP_TAGS_MOST = 20
"""The highest `KEEP_TAGS`."""
SPARE_TAGS = 4
"""Tracked tags beyond `KEEP_TAGS` in the state, a reserve for when one is deleted or refused."""
REFUSED_TAGS = KEEP_TAGS_MOST + SPARE_TAGS + 1
"""Refused tags in the state, per entry: as many as one check can find."""
REFUSED_CHARACTERS = 300
"""The length of the reason that is kept for each refused tag."""

UNVERIFIED_PUSHES = 8
"""Unverified pushes in the state, per entry. The oldest are dropped."""
UNVERIFIED_SECONDS = 3600.0
"""How long an unverified push or a quarantined tag waits for its registry to have the tag."""
UNVERIFIED_PUSHES_AT_LEAST = 2
"""Unverified pushes that each entry keeps where the state would be too long otherwise."""
UNVERIFIED_CHARACTERS = 200
"""The length of the reason that is kept for each unverified push."""

QUARANTINE_SECONDS = 180.0
"""How long an image fails on a node before that has consequences for the rollout."""

SEEDING_SECONDS = 3600.0
"""How long other nodes wait for the seeds at most."""
JOINING_SECONDS = 30.0
"""How long after a node's creation others that join with it are expected."""
JOINS_SECONDS = 600.0
"""How long pods without images wait at most for nodes that go on joining."""
SEEDING_PENDING_SECONDS = 60.0
"""How long other nodes rather wait for a pending template than follow the seeds."""

REPEATED_SECONDS = 3600.0
"""How long after the template changed a new process repeats what its rollout did."""

HOLD_BY_SECONDS = 900.0
"""How long the other way of holding must be right before `HOLD_BY=auto` chooses it."""

CLOCK_TOLERANCE_SECONDS = 300.0
"""How far a registry's clock may be off. Kerberos has the same bound."""
DELETIONS = 8
"""Recent deletions in the state, per entry. The oldest are dropped."""

SETTLING_SECONDS = 300.0
"""How long after a push its registry may still show the previous content."""

REASON_CHARACTERS = 1000
"""The length of a message from the API server. Pod Security can name every container."""

PROCESSES = 8
"""Processes in the state. More seldom live at once: two replicas, and two during an update."""
DELETION_SECONDS = 60.0
"""How long after its grace period a pod that is being deleted counts as running."""
RETURN_SECONDS = 10.0
"""How often a superseded process asks whether it is in charge again."""

ATTEMPTS = 8
"""Tries of one commit after lost races. Then its senders try again."""

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
"""Timeouts of one request to the API server."""
PAGE_OBJECTS = 100
"""Objects in one page of a list. A pod of many containers, or a node, may have 30 KiB."""

PULL_EVENTS = 1000
"""Events about pulls that are read at once. In a large cluster that is a part of them."""
PULL_EVENT_SECONDS = 7200.0
"""How long an Event is known to be counted. An API server keeps Events for an hour by default."""

QUESTIONS = 64
"""Questions to registries for one request. A real webhook needs a handful."""
ROUNDS = 10
"""Rounds of questions of one check. Each asks about older tags in place of those without images."""
QUESTIONS_AT_ONCE = 4
"""Questions that one registry is asked at once."""
QUESTION_SECONDS = 10.0
"""The time for one question, with all requests that it needs."""
REGISTRY_SHARE_OF_TIMEOUT = 0.5
"""The part of a sender's timeout for its registry. The rest is for the API server."""
FIRST_CHECK_SECONDS = 5.0
"""The time for all questions of the check at start. The DaemonSet's creation waits for it."""
CHECK_SECONDS = 120.0
"""The time for all questions of a later check."""
VERIFICATION_SECONDS = 10.0
"""The time for all questions about unverified pushes."""
FAILURES = 4
"""Failures in a row after which a check asks a registry nothing more."""
CHECK_SPACING_SECONDS = 5.0
"""The least time between checks that senders ask for."""
UNTRUSTED_CHECK_SECONDS = 10.0
"""The least time between two checks that senders without credentials wait for."""
REPOSITORY_CHECK_SECONDS = 2.0
"""The time from a push of a tag that is not tracked to the check of its repository."""
REPOSITORY_CHECK_SPACING_SECONDS = 10.0
"""The least time between two such checks, of however many repositories."""
PULL_SECRETS_SECONDS = 60.0
"""How long pull secrets are kept before they are read again."""

NEW_GROUP_SECONDS = 60.0
"""The age up to which a DaemonSet of no group may be that of a newer process, so it stays."""

WATCH_SECONDS = 240
"""The time of one watch of the nodes. Then they are listed again."""
REFUSED_WATCH_SECONDS = 600.0
"""The time until a watch that the service was not allowed is tried again."""

GATHER_SECONDS = 0.02
"""How long a writer under load waits for senders that it has just answered."""

KEYS_ANSWER_SECONDS = 2.0
"""The time to read an issuer's keys. It is below the timeout of every sender of tokens."""
KEYS_LAST_SECONDS = 3600.0
"""How long keys are kept, and so how long a key that its issuer has withdrawn is accepted."""
KEYS_AGAIN_SECONDS = 5.0
"""The least time between two reads of an issuer's keys, whatever key ids senders invent."""
KEYS_BYTES = 256 * 1024
"""The size of an issuer's answer."""
KEYS_MOST = 100
"""Keys of one issuer. Google has two, an API server seldom more than three."""

TOKEN_CHARACTERS = 8192
"""The length of a token. Gunicorn accepts no longer header."""
TOKEN_LEEWAY_SECONDS = 30
"""How far the issuer's clock may be off."""

SINK_EVENTS = 1000
"""Events that wait for the sink. The oldest are dropped."""
SINK_TRIES = 5
"""Tries of one event. With `SINK_SECONDS` for each, they take a minute at most."""
SINK_SECONDS = 9.0
"""The time of one try."""
SINK_RETRY_SECONDS = 1.0
"""The time to the second try. It doubles with each try."""
SINK_FLUSH_SECONDS = 3.0
"""How long a process that ends still sends events. Then the others are dropped."""

PROGRESS_SECONDS = 1.0
"""The least time between two observations that changes of the DaemonSet cause."""
PROGRESS_SHARE = 0.1
"""The part of the time that such observations may take."""

CHECK_INTERVAL_SECONDS = 600.0
"""The time between two regular checks."""
FIRST_RECHECK_SECONDS = 1.0
"""The time until an unverified push or a rollout is checked. It doubles with each check."""
ROLLOUT_RECHECK_SECONDS = 300.0
"""The longest time between two checks of a rollout. It is checked until it is complete."""
SEEDING_RECHECK_SECONDS = 16.0
"""The longest time between two checks of a rollout while other nodes wait for the seeds."""
STARTUP_RECHECK_SECONDS = 16.0
"""The longest time between two checks of a rollout while a node has the startup taint."""
STARTUP_OBSERVATION_SECONDS = 120.0
"""How old the observation of each group may be by which a node loses the startup taint."""
STARTUP_AGAIN_SECONDS = 30.0
"""How long a node that lost the startup taint is left alone: older observations still have it."""
RETRY_SECONDS = 5.0
"""The time until something that failed is tried again."""
RETRY_AFTER_SECONDS = 5
"""The `Retry-After` of a 503."""
PUSH_SECONDS = 2.5
"""The timeout of `POST /` and of sources without a documented one."""
WAITING_REQUESTS = 10_000
"""Requests that wait for their commit. More are answered 503."""
UNTRUSTED_SENDERS = 8
"""Requests of senders without credentials that are answered at once. More are answered 503."""
OBSERVED_SECONDS = 15.0
"""How old the observation may be that a scrape of the metrics shows."""
SCRAPE_SECONDS = 5.0
"""How long a scrape waits for the API server."""
OLD_SCRAPE_SECONDS = 60.0
"""How old the numbers may be that a scrape shows where the API server takes longer."""
SCRAPES = 4
"""Scrapes that are answered at once. More are answered 503."""
READERS = 16
"""Reads of the status that are answered at once. More are answered 503."""
RECENT_SECONDS = 10
"""How long readers get what a long read of the cluster found, at most."""

WAIT_SECONDS = 60
"""The longest time that `GET /status/<image>?wait=` waits."""
WAITS = 16
"""Such requests that wait at once. More are answered 503. On Knative a pod gets 32 requests."""

PAGE_ROWS = 100
"""Rows of a table on one page of the status."""
RECEIVED = 50
"""Pushes that the status page shows. A process keeps no more of them."""
RECEIVED_CHARACTERS = 300
"""The length of each text about a push that is kept for the page."""
