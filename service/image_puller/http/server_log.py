"""The log of the web server, as a part of the service's log."""

import logging
from typing import Any

from gunicorn.glogging import Logger


class ServerLog(Logger):  # type: ignore[misc] # gunicorn has no types
    """Passes the lines of gunicorn on to the service's log, with its format.

    Gunicorn has no access log, because paths may have secrets.
    """

    def setup(self, cfg: Any) -> None:
        """Remove gunicorn's own handler."""
        super().setup(cfg)
        self.error_log.setLevel(logging.INFO)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
