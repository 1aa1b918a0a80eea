"""A WSGI application that says which process responds, and `/slow`, which takes a second."""

import os
import time
from collections.abc import Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Respond with the id of the process."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1.0)
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
