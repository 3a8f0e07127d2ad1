"""Downloads files of bounded size; gives up after seconds if there is no connection."""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
import threading
import urllib.parse
import urllib.request

__all__ = ["fetch"]

CONNECT_SECONDS = 5.0


def fetch(url: str, limit: int) -> bytes:
    """The bytes at ``url``, at most ``limit`` of them.

    Raises:
        OSError: if there is no connection, the server refuses, the connection breaks, or more bytes come.
    """
    if not _is_reachable(urllib.parse.urlsplit(url)):
        raise OSError(errno.ETIMEDOUT, f"no connection to the download within {CONNECT_SECONDS:g} s")
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:  # noqa: S310 (constant https/http urls)
            content: bytes = response.read(limit + 1)
    except http.client.HTTPException as error:  # not an OSError
        raise OSError(errno.EIO, f"connection broken: {error}") from None
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"more than the {limit:,} bytes that the file can have")
    return content


def _is_reachable(url: urllib.parse.SplitResult) -> bool:
    """Whether a connection is made in CONNECT_SECONDS in all; a socket's timeout does not include the DNS lookup."""
    connected = threading.Event()

    def connect() -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((url.hostname, url.port or url.scheme), timeout=CONNECT_SECONDS),
        ):
            connected.set()

    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(CONNECT_SECONDS)
    return connected.is_set()
