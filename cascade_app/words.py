r"""The words of a prompt: what is drawn before a run, and the weights that the encoder is then told. Pure.

    {red|blue}   one of them, drawn from the seed; {2::red|blue} is red twice as often; they nest, and one may be empty
    __colour__   a line of that wildcard, see `wordbook.py`
    (red:1.3)    heard 1.3 times as much, 0 to 3; (red) is 1.1 times, [red] is 1/1.1; nested ones multiply
    \( \{ \_     the character itself, for each of ( ) [ ] { } | _ : and the backslash

`expand` draws and leaves no { } and no wildcard behind, so expanding its result changes nothing: the record holds what was
sent, weights and all. `weigh` reads the weights. A bracket that is never closed is refused; a closing one or a | that
stands alone is itself.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cascade_app.errors import InvalidRequest
from cascade_app.request import FIELD, GenerationRequest, shown
from cascade_app.wordbook import Wordbook

STRONGER = 1.1  # what a bracket without a number means, as in other tools
WEIGHT_LIMIT = 3.0
DEPTH_LIMIT = 16  # brackets in brackets, wildcards in wildcards
DRAWS_LIMIT = 200
UNREAD_LISTED = 2
SHOWN_LEFT = 300  # characters of what was left out
_LENGTH_LIMIT = int(FIELD["prompt"].maximum)

_ESCAPED = re.compile(r"\\([()\[\]{}|_:\\])")
_WILDCARD = re.compile(r"__(?!_)([\w./-]{1,60}?)__")
_MET = re.compile(rf"\\.|\{{|{_WILDCARD.pattern}", re.DOTALL)  # what is drawn, or stands behind a backslash
_CHANCE = re.compile(r"\s*(\d{1,4}(?:\.\d{1,4})?)::")
_NUMBER = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$")


@dataclass(frozen=True)
class Words:
    """What one image is told, drawn out."""

    prompt: str
    negative_prompt: str = ""


@dataclass(frozen=True)
class Span:
    """Words heard `weight` times as much as plain ones."""

    text: str
    weight: float = 1.0


# --- before the run ---


def styled(request: GenerationRequest, book: Wordbook, *, style: str) -> GenerationRequest:
    """`request` with the words of the style around its own, nothing drawn yet; "" is no style. Raises InvalidRequest."""
    if not style:
        return request
    chosen = book.style(style)
    negative = ", ".join(part for part in (request.negative_prompt, chosen.negative) if part)
    return replace(request, prompt=chosen.prompt.replace("{prompt}", request.prompt, 1), negative_prompt=negative)


def expand(request: GenerationRequest, book: Wordbook, *, seed: int) -> Words:
    """The words of the image of `seed`: alternatives and wildcards of both prompts drawn, weights checked and kept.

    The same seed, text and files give the same words, alone or among other images. The two prompts are drawn apart.

    Raises:
        InvalidRequest: there is no such wildcard, a bracket or weight is wrong, or a text gets too long.
    """
    return Words(*(draw(getattr(request, name), book, seed=seed, name=name) for name in ("prompt", "negative_prompt")))


def draw(text: str, book: Wordbook, *, seed: int, name: str = "prompt") -> str:
    """One text drawn out, as `expand` does it; `name` is the field it belongs to."""
    try:
        drawn = FIELD[name].parse(_Draw(f"{seed}/{name}", book).whole(text))
        weigh(drawn)
    except InvalidRequest as error:
        raise FIELD[name].error(error.message) from None
    return drawn


def draws(text: str) -> bool:
    """Whether the seed has a say in what `text` becomes."""
    return any(piece[0][0] != "\\" for piece in _MET.finditer(text))


class _Draw:
    """One text being drawn: the dice, and how much it has cost so far."""

    def __init__(self, key: str, book: Wordbook) -> None:
        self._dice = random.Random(key)
        self._book = book
        self._draws = 0
        self._length = 0

    def whole(self, text: str) -> str:
        result = self._expand(text, 0)
        if not self._draws:
            return result
        result = re.sub(r" {2,}", " ", result).replace(" ,", ",").strip()  # what an empty choice leaves behind
        # Pieces may have met to spell a wildcard.
        return _MET.sub(lambda one: one[0] if one[0][0] == "\\" else one[0].replace("__", r"\_\_"), result)

    def _expand(self, text: str, depth: int) -> str:
        if depth > DEPTH_LIMIT:
            raise InvalidRequest(f"Alternatives or wildcards lie more than {DEPTH_LIMIT} deep in each other; use fewer.")
        pieces, at = [], 0
        while at < len(text):
            if text[at] == "{":
                options, end = _options(text, at)
                piece = self._expand(self._pick(options), depth + 1)
            elif wildcard := _WILDCARD.match(text, at):
                piece, end = self._expand(self._pick(self._book.lines(wildcard[1])), depth + 1), wildcard.end()
            else:
                end = at + 2 if text[at] == "\\" else at + 1
                piece = text[at:end]
                self._length += len(piece)
            if self._length > _LENGTH_LIMIT:
                raise InvalidRequest(f"Drawn out, this grows beyond {_LENGTH_LIMIT:,} characters; shorten its parts.")
            pieces.append(piece)
            at = end
        return "".join(pieces)

    def _pick(self, options: Sequence[str]) -> str:
        self._draws += 1
        if self._draws > DRAWS_LIMIT:
            raise InvalidRequest(f"More than {DRAWS_LIMIT} alternatives and wildcards would be drawn; use fewer.")
        marks = [_CHANCE.match(option) for option in options]
        chances = [float(mark[1]) if mark else 1.0 for mark in marks]
        if not sum(chances):
            raise InvalidRequest("All of these alternatives have the chance 0; give one of them more.")
        left = self._dice.random() * sum(chances)
        chosen = max(n for n, chance in enumerate(chances) if chance)  # where rounding leaves a crumb
        for n, chance in enumerate(chances):
            left -= chance
            if left < 0:
                chosen = n
                break
        mark = marks[chosen]
        picked = options[chosen][mark.end() if mark else 0 :]
        # A backslash at its end must not take hold of what follows.
        return picked + "\\" if (len(picked) - len(picked.rstrip("\\"))) % 2 else picked


def _options(text: str, start: int) -> tuple[list[str], int]:
    """The alternatives in the braces that open at `start`, and where the text goes on."""
    options, depth, begin, at = [], 0, start + 1, start
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if not depth:
                return [*options, text[begin:at]], at + 1
        elif char == "|" and depth == 1:
            options.append(text[begin:at])
            begin = at + 1
        at += 1
    raise InvalidRequest(rf"The {{ before {shown(text[start + 1 : start + 60])} is never closed; add }} or write \{{ for it.")


# --- for the encoder ---


def weigh(text: str) -> tuple[Span, ...]:
    """The words of an expanded prompt with their weights, brackets and backslashes gone; neighbours have different weights.

    Raises:
        InvalidRequest: a bracket is never closed, a weight is out of 0 to 3, or they lie too deep in each other.
    """
    frames: list[_Frame] = [_Frame("", 0)]
    at = 0
    while at < len(text):
        char, frame = text[at], frames[-1]
        if char in "([":
            frame.rest()
            if len(frames) > DEPTH_LIMIT:
                raise InvalidRequest(f"Brackets lie more than {DEPTH_LIMIT} deep in each other; use fewer.", field="prompt")
            frames.append(_Frame(char, at))
        elif char in ")]" and frame.opener == {")": "(", "]": "["}[char]:
            frames.pop()
            frames[-1].spans += frame.close(text[frame.start : at + 1])
        else:
            step = 2 if char == "\\" else 1
            frame.tail += text[at : at + step]
            at += step - 1
        at += 1
    frames[-1].rest()
    if len(frames) > 1:
        last = frames[-1]
        raise InvalidRequest(
            f"The {last.opener} before {shown(text[last.start + 1 : last.start + 60])} is never closed; "
            rf"add {')' if last.opener == '(' else ']'} or write \{last.opener} for a plain one.",
            field="prompt",
        )
    return _joined(frames[0].spans)


def heard(text: str) -> str:
    """The words the encoder reads: `text` without brackets and weights."""
    return "".join(span.text for span in weigh(text))


def unread(words: Sequence[Words], cut_at: Callable[[str], int | None]) -> str:
    """What the encoder will not read of a run's words, a sentence for each text; "" if nothing.

    `cut_at` says where in the words of a text (brackets gone) it stops reading, None for nowhere.
    """
    texts = {one.prompt: "prompt" for one in words} | {one.negative_prompt: "negative prompt" for one in words}
    several = len({one.prompt for one in words}) > 1
    found = [(text, cut_at(text), f"{what} {shown(text)}" if several else what) for text, what in texts.items()]
    cuts = [(text, at, what) for text, at, what in found if at is not None]
    sentences = [_cut_sentence(text, at, what) for text, at, what in cuts[:UNREAD_LISTED]]
    if len(cuts) > UNREAD_LISTED:
        sentences.append(f"The same goes for {len(cuts) - UNREAD_LISTED} more.")
    return " ".join(sentences)


def _cut_sentence(prompt: str, at: int, what: str) -> str:
    words = heard(prompt)
    while at and words[at - 1].isalnum() and words[at].isalnum():
        at -= 1  # a word that is half read is not read
    count, left = len(words[:at].split()), " ".join(words[at:].split())
    left = f"{left}." if len(left) <= SHOWN_LEFT else left[:SHOWN_LEFT].rsplit(" ", 1)[0] + " ..."
    first = "word" if count == 1 else f"{count} words"
    return f"The encoder reads the first {first} of the {what}; left out: {left}"


class _Frame:
    """A bracket being read: the spans in it, and the plain text after the last of them."""

    def __init__(self, opener: str, start: int) -> None:
        self.opener, self.start = opener, start
        self.spans: list[Span] = []
        self.tail = ""

    def rest(self) -> None:
        """What was read since the last bracket becomes a span."""
        if self.tail:
            self.spans.append(Span(_ESCAPED.sub(r"\1", self.tail)))
            self.tail = ""

    def close(self, shown_text: str) -> list[Span]:
        """The spans, each with this bracket's factor."""
        number = _NUMBER.search(self.tail)
        if number and self.tail[: number.start()].endswith("\\"):
            number = None
        factor = STRONGER if self.opener == "(" else 1 / STRONGER
        if number and self.opener == "[":
            raise InvalidRequest(f"{shown(shown_text)} has a number in square brackets; write it in round ones.", field="prompt")
        if number:
            factor, self.tail = float(number[1]), self.tail[: number.start()]
        self.rest()
        weights = [factor, *(round(span.weight * factor, 6) for span in self.spans)]
        wrong = [weight for weight in weights if not 0 <= weight <= WEIGHT_LIMIT]
        if wrong:
            raise InvalidRequest(
                f"The weight {wrong[0]:.4g} in {shown(shown_text)} is out of range; "
                rf"weights go from 0 to {WEIGHT_LIMIT:g}. Choose one between, or write \( for a plain bracket.",
                field="prompt",
            )
        return [replace(span, weight=weight) for span, weight in zip(self.spans, weights[1:], strict=True)]


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].weight == span.weight:
            joined[-1] = Span(joined[-1].text + span.text, span.weight)
        else:
            joined.append(span)
    return tuple(joined)
