"""Asks in a few seconds whether a download can work, since TFDS itself retries in silence for minutes."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

TIMEOUT_SECONDS = 6.0  # for everything: looking the name up, connecting, and the first answer


def unreachable(url: str) -> str:
    """Return why the URL's host does not answer, or an empty string when it does."""
    if not url:
        return "its plugin names no download"
    outcome = [f"no answer within {TIMEOUT_SECONDS:.0f} s"]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the URL is a plugin's own
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()  # noqa: S310
        except urllib.error.HTTPError:
            outcome[0] = ""  # it refuses this page, but it is there
        except Exception as error:  # whatever it is, it is the answer
            outcome[0] = str(getattr(error, "reason", error))
        else:
            outcome[0] = ""

    thread = threading.Thread(target=ask, daemon=True)  # a thread, since looking up a name knows no timeout
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    return outcome[0]
