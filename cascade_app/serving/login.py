"""Logins as values: the one that is shared, the seal on what a cookie says, and how often one may guess. No HTTP here.

A sealed text is readable and cannot be made or changed without the key; it holds until its time is over, also for a server
that was started again. The key comes from the login itself, so that with a new password all old cookies are worth nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cascade_app.errors import OverLimit
from cascade_app.serving.quotas import duration

GUESSES, GUESSES_WITHIN_S = 30, 600.0
ADDRESSES = 10_000  # whose guesses are remembered


@dataclass(frozen=True)
class SharedLogin:
    """A name and a password that everyone who may come in knows."""

    name: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, text: str) -> SharedLogin:
        """From "name:password"."""
        name, _, password = text.partition(":")
        return cls(name, password)

    def is_it(self, name: str, password: str) -> bool:
        """Takes as long whatever is wrong, and how much of it."""
        right = [_digest(text) for text in (self.name, self.password)]
        given = [_digest(text) for text in (name, password)]
        return hmac.compare_digest(b"".join(right), b"".join(given))

    def in_header(self, authorization: str) -> bool:
        """Whether an Authorization header of the kind "Basic" brings it."""
        kind, _, sent = authorization.partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            name, colon, password = b64decode(sent.strip(), validate=True).decode("utf-8").partition(":")
        except ValueError:
            return False
        return bool(colon) and self.is_it(name, password)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Seal:
    """Seals texts with a key made from `secret`; `what` keeps apart what is sealed for different ends."""

    def __init__(self, secret: str, what: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key = hashlib.scrypt(secret.encode("utf-8", "surrogatepass"), salt=f"cascade {what}".encode(), n=2**14, r=8, p=1)
        self._clock = clock

    def close(self, text: str, *, kept_s: float) -> str:
        """`text` sealed for `kept_s`, in characters that a cookie takes."""
        body = urlsafe_b64encode(f"{int(self._clock() + kept_s)} {text}".encode()).decode().rstrip("=")
        return f"{body}.{self._mark(body)}"

    def open(self, sealed: str) -> str | None:
        """The text, or None where it was not sealed here or its time is over."""
        body, _, mark = sealed.partition(".")
        if not hmac.compare_digest(mark.encode("utf-8", "replace"), self._mark(body).encode()):
            return None
        until, _, text = urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode().partition(" ")
        return text if self._clock() < int(until) else None

    def _mark(self, body: str) -> str:
        return hmac.new(self._key, body.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


class Guesses:
    """How often wrong logins came from an address lately."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raises OverLimit where there were too many, right or wrong the next one."""
        with self._lock:
            wrong = self._wrong.get(address, ())
            recent = [at_s for at_s in wrong if at_s > self._clock() - GUESSES_WITHIN_S]
        if len(recent) >= GUESSES:
            wait_s = recent[-GUESSES] + GUESSES_WITHIN_S - self._clock()
            raise OverLimit(f"Too many wrong logins came from your network address. Try again in {duration(wait_s)}.")

    def wrong(self, address: str) -> None:
        with self._lock:
            self._wrong.setdefault(address, deque(maxlen=GUESSES)).append(self._clock())
            self._wrong.move_to_end(address)
            while len(self._wrong) > ADDRESSES:
                self._wrong.popitem(last=False)
