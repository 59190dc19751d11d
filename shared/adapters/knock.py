"""The knock on the embedding job's door. It only wakes; what there is to do lies in the database."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request

from shared.core.backlog import Pace, containers
from shared.core.errors import BadUpstream, Unavailable

_DEPENDENCY = "embedding job"


class Knock:
    """proxy_token is (key, secret), empty where the address is not behind Modal's proxy."""

    def __init__(
        self, url: str, key: str, pace: Pace, *, proxy_token: tuple[str, ...] = (), timeout: float = 5.0
    ) -> None:
        self._url = url
        self._pace = pace
        self._timeout = timeout
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if all(proxy_token) and len(proxy_token) == 2:
            self._headers |= {"Modal-Key": proxy_token[0], "Modal-Secret": proxy_token[1]}

    def wake(self, backlog: int) -> None:
        """Raises Unavailable, BadUpstream when the door is not ours or takes no such key."""
        wanted = containers(backlog, self._pace)
        request = urllib.request.Request(  # noqa: S310 - the settings accept http and https only
            self._url, json.dumps({"containers": wanted}).encode(), self._headers, method="POST"
        )
        try:
            urllib.request.urlopen(request, timeout=self._timeout).close()  # noqa: S310 - as above
        except urllib.error.HTTPError as error:
            error.close()
            raise BadUpstream(_DEPENDENCY, f"the knock was answered with status {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(_DEPENDENCY, f"the knock was not answered: {error}") from error
