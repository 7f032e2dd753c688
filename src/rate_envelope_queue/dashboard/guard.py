"""Who may come in: hosts, origins, tokens. Plain functions of what a request says, before anything else looks at it.

* The Host header must be one of those allowed: a name that an attacker points at 127.0.0.1 is not (DNS rebinding).
* Another site's page may not ask: Origin must be the host itself, Sec-Fetch-Site "same-origin" or "none". Only the page
  itself may be opened by a link from elsewhere; without the cookie, which is SameSite=Strict, it shows nothing.
* The API needs the token, as `Authorization: Bearer` or exchanged for a cookie; and what changes something needs, with
  the cookie, a second secret in a header, which another site's page can neither read nor send.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from ipaddress import ip_address
from typing import Literal

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
SHORTEST_TOKEN = 16
CSRF_HEADER = "X-CSRF-Token"
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
        b"require-trusted-types-for 'script'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:/@\[\]?#]+))(?::\d{1,5})?")


class Guard:
    """The secrets of one dashboard, and whom they let in. *token* False: somebody in front of it asks who comes."""

    def __init__(self, token: str | Literal[False] | None, hosts: Iterable[str], *, allows_addresses: bool) -> None:
        self.token = checked_token(token)
        self._hosts = checked_hosts(hosts)
        self._allows_addresses = allows_addresses
        key = secrets.token_bytes(32) if self.token is None else self.token.encode()
        self._token = key
        self._cookie = hmac.new(key, b"rate-envelope-queue dashboard cookie", sha256).hexdigest()
        self._csrf = hmac.new(key, b"rate-envelope-queue dashboard csrf", sha256).hexdigest()
        # Cookies know no ports: two dashboards of one machine must not overwrite each other's.
        self.cookie_name = f"queue_dashboard_{sha256(key).hexdigest()[:8]}"

    def stranger(self, scope: Scope) -> str | None:
        """What is wrong with where a request comes from, if anything."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_host(hosts[0]):
            return f"this host is not allowed: name it in allowed_hosts={sorted(self._hosts)}"
        origins = headers.getlist("origin")
        if origins and (len(origins) > 1 or not _is_same(origins[0], hosts[0])):
            return "pages of another origin may not ask"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and not _is_navigation(scope, headers):
            return "pages of another site may not ask"
        return None

    def _is_host(self, value: str) -> bool:
        found = _HOST.fullmatch(value)
        if found is None:
            return False
        name = (found[1] or found[2]).lower()
        return name in self._hosts or (self._allows_addresses and is_address(name))

    def is_token(self, token: object) -> bool:
        """Whether *token* is the token."""
        return isinstance(token, str) and hmac.compare_digest(_bytes(token), self._token)

    def knows(self, request: Request) -> bool:
        """Whether a request brings the token, or the cookie that it was exchanged for."""
        if self.token is None:
            return True
        return self._has_bearer(request) or hmac.compare_digest(
            _bytes(request.cookies.get(self.cookie_name, "")), self._cookie.encode()
        )

    def means_it(self, request: Request) -> bool:
        """Whether a request that changes something was made on purpose, not by the page of another site."""
        return self._has_bearer(request) or hmac.compare_digest(
            _bytes(request.headers.get(CSRF_HEADER, "")), self._csrf.encode()
        )

    def _has_bearer(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self.token is not None and scheme.lower() == "bearer" and self.is_token(token.strip())

    def session(self) -> dict[str, object]:
        """What the page needs to be allowed to change something."""
        return {"csrf": self._csrf}

    def cookie(self, request: Request) -> dict[str, object]:
        """The cookie that stands for the token, for the pages of this dashboard alone."""
        return {
            "key": self.cookie_name,
            "value": self._cookie,
            "path": request.scope.get("root_path", "") + "/",
            "httponly": True,
            "samesite": "strict",
            "secure": request.url.scheme == "https",
        }


def checked_token(token: str | Literal[False] | None) -> str | None:
    """*token* as it is to be used: None for none at all; a new one when none is given."""
    if token is False:
        return None
    if token is None:
        return secrets.token_urlsafe(32)
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError("token must be text of visible ASCII characters, None for a new one, or False for none")
    if len(token) < SHORTEST_TOKEN:
        raise ValueError(f"token must have at least {SHORTEST_TOKEN} characters: it is all that keeps strangers out")
    return token


def checked_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """Names of hosts without ports, in lower case, IPv6 addresses without brackets."""
    if isinstance(hosts, str):
        raise TypeError("allowed_hosts must be several names, not one text: use a tuple")
    names = frozenset(host.lower().strip("[]") for host in hosts)
    for name in names:
        if not is_address(name) and not re.fullmatch(r"[a-z0-9_.-]+", name):
            raise ValueError(f"allowed_hosts: {name!r} is no name of a host: give it without scheme and port")
    return names


def is_address(name: str) -> bool:
    """Whether *name* is an IP address: it cannot be made to mean another one."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_same(origin: str, host: str) -> bool:
    scheme, separator, rest = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and rest.lower() == host.lower()


def _is_navigation(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows a link to the page, in a window of its own."""
    return (
        scope["method"] in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
