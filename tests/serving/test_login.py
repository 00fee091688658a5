"""Logins, seals and guesses as values."""

from __future__ import annotations

from base64 import b64encode

import pytest

from cascade_app.errors import OverLimit
from cascade_app.serving.login import GUESSES, GUESSES_WITHIN_S, Guesses, Seal, SharedLogin

LOGIN = SharedLogin.of("ann:pass:wörd")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def basic(text: str, kind: str = "Basic") -> str:
    return f"{kind} {b64encode(text.encode()).decode()}"


def test_the_password_may_hold_colons():
    assert LOGIN.is_it("ann", "pass:wörd")
    assert "wörd" not in repr(LOGIN)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "pass"), ("ann", ""), ("", "pass:wörd"), ("Ann", "pass:wörd"), ("ann:pass", "wörd"), ("ann", "pass:wörd "),
        ("\ud800", "\ud800"),
    ],
)  # fmt: skip
def test_nothing_else_is_it(name: str, password: str):
    assert not LOGIN.is_it(name, password)


def test_in_a_header():
    assert LOGIN.in_header(basic("ann:pass:wörd")) and LOGIN.in_header(basic("ann:pass:wörd", "basic"))
    wrong = (basic("ann"), basic("ann:pass"), basic("ann:pass:wörd", "Bearer"))
    for sent in ("", "Basic", "Basic !", "Basic /w==", "Basic é", *wrong):
        assert not LOGIN.in_header(sent), sent


def test_what_is_sealed_comes_back_until_its_time_is_over():
    clock = Clock()
    seal = Seal("secret", "test", clock=clock)
    sealed = seal.close("ann é", kept_s=60)
    assert sealed.isascii() and not set(sealed) & set(' ;,="\\')
    assert seal.open(sealed) == "ann é"
    assert Seal("secret", "test", clock=clock).open(sealed) == "ann é", "also after the server was started again"
    clock.now += 60
    assert seal.open(sealed) is None


def test_nobody_else_can_seal_or_change_it():
    clock = Clock()
    seal = Seal("secret", "test", clock=clock)
    sealed = seal.close("ann", kept_s=60)
    body, mark = sealed.split(".")
    forged = Seal("another", "test", clock=clock).close("ann", kept_s=60)
    longer = seal.close("ann", kept_s=6000).split(".")[0]
    for wrong in ("", ".", body, f"{body}.", f".{mark}", f"{body}x.{mark}", f"{longer}.{mark}", forged, sealed + "0", "\ud800.é"):
        assert seal.open(wrong) is None, wrong
    assert Seal("secret", "something else", clock=clock).open(sealed) is None


def test_so_many_guesses_from_an_address():
    clock = Clock()
    guesses = Guesses(clock=clock)
    for _ in range(GUESSES):
        guesses.check("192.0.2.1")
        guesses.wrong("192.0.2.1")
    guesses.check("192.0.2.2")
    with pytest.raises(OverLimit, match="Try again in about 10 min"):
        guesses.check("192.0.2.1")
    clock.now += GUESSES_WITHIN_S
    guesses.check("192.0.2.1")
