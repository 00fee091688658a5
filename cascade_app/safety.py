"""The blocklist: what a prompt may not ask for, as rules of words, and whether a text does. Pure but for `read_blocklist`.

A file has one rule a line (`#` begins a comment):

    word                 a word or a phrase
    one | other          either of them
    these + those        something of both, anywhere in the text
    word*                with any ending

Words are whole words: a rule for "cat" passes "catalogue". They are found in capitals and with accents, in full-width and
other letters that look alike (Greek, Cyrillic, digits and signs for letters), with signs between their letters, spelled out
with spaces, and with letters drawn out. Negative prompts are not held against it: they say what a picture is not to show.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from cascade_app.errors import InvalidRequest, SettingsError

BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "blocklist.txt"
SIZE_LIMIT_BYTES = 2**20
REFUSED = "The words {} are not used here: see what is acceptable, at the foot of the page. Leave them out or choose others."

# Letters of other alphabets that look like these; accents and full-width forms are undone by Unicode's own tables.
_ALIKE = str.maketrans(
    "абвгԁеёзіїјкӏмнорԛсѕтуԝхүɑαβεικνορτυχωıłøđħŧɡɩʀʏ",
    "abbgdeeziijklmhopqcstywxyaabeiknoptuxwilodhtgiry",
)
# What is written for a letter, beside the letter itself. No sign stands for two letters and none of these is taken for one
# between letters, so that nothing can be read in many ways and every search is quick, whatever the text.
_SIGNS = {"a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!", "l": "1|", "o": "0", "s": "5$", "t": "7", "z": "2"}
_BETWEEN = r"(?:[^\w\s@!|$]|_)"
_APART = r"(?:[^\w@!|$]|_)"
_DRAWN_OUT = 3  # as many of one letter in a row are no spelling; more are read as that many


@dataclass(frozen=True)
class Rule:
    """All of `groups` have to be found, of each any one expression."""

    groups: tuple[re.Pattern[str], ...]


@dataclass(frozen=True)
class Blocklist:
    """Rules that a text is held against; none of them lets everything pass."""

    rules: tuple[Rule, ...] = ()

    def found(self, text: str) -> tuple[str, ...]:
        """The words of the first rule that `text` falls under, as they are written there; nothing where it falls under none."""
        plain, origins = _plain(text)
        for rule in self.rules:
            matches = [group.search(plain) for group in rule.groups]
            if all(matches):
                spans = [(origins[one.start()], origins[one.end() - 1] + 1) for one in matches]
                return tuple(" ".join(text[start:end].split())[:40] for start, end in spans)
        return ()

    def check(self, *texts: str) -> None:
        """Raises InvalidRequest where one of `texts` asks for what it must not."""
        for text in texts:
            if found := self.found(text):
                raise InvalidRequest(REFUSED.format(" and ".join(f'"{one}"' for one in found)), field="prompt")


def read_blocklist(path: Path) -> Blocklist:
    """The rules of a file.

    Raises:
        SettingsError: it cannot be read, is too large, or holds no rule; nothing may be served then.
    """
    try:
        data = path.read_bytes()
        if len(data) > SIZE_LIMIT_BYTES:
            raise SettingsError(f"The blocklist has {len(data):,} bytes; the limit is {SIZE_LIMIT_BYTES:,}.")
        text = data.decode("utf-8-sig")
    except OSError as error:
        sentence = f"The blocklist cannot be read: {error.strerror}. Set CASCADE_BLOCKLIST to a file that can."
        raise SettingsError(sentence) from error
    except UnicodeDecodeError as error:
        raise SettingsError("The blocklist is no text in UTF-8. Save it as that.") from error
    return parse_blocklist(text)


def parse_blocklist(text: str) -> Blocklist:
    """As `read_blocklist`, from the text itself."""
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line:
            groups = [[one.strip() for one in group.split("|")] for group in line.split("+")]
            if not all(re.search(r"[^\W_]", _plain(one)[0]) for group in groups for one in group):
                raise SettingsError(f"Line {number} of the blocklist lacks a word beside its | or +; write one there.")
            rules.append(Rule(tuple(re.compile("|".join(map(_pattern, group))) for group in groups)))
    if not rules:
        raise SettingsError("The blocklist holds no rule. Write one, or set CASCADE_BLOCKLIST to off.")
    return Blocklist(tuple(rules))


def _plain(text: str) -> tuple[str, list[int]]:
    """`text` in small plain letters, and for each of them where it came from."""
    letters: list[str] = []
    origins: list[int] = []
    for position, one in enumerate(text):
        for letter in unicodedata.normalize("NFKD", one).casefold().translate(_ALIKE):
            if unicodedata.category(letter) in ("Mn", "Me", "Cf"):  # accents, and what nobody sees
                continue
            if letters[-_DRAWN_OUT:] != [letter] * _DRAWN_OUT:
                letters.append(letter)
                origins.append(position)
    return "".join(letters), origins


def _pattern(entry: str) -> str:
    """What finds a word or phrase: written together, with signs in it, or each letter by itself."""
    ending = r"\w*" if entry.endswith("*") else ""
    words = [_runs(word) for word in re.findall(r"\w+", _plain(entry)[0])]
    signs, gaps = f"{_BETWEEN}*", f"{_APART}+"
    written = gaps.join(signs.join(word) for word in words)
    together = signs.join(run for word in words for run in word)
    spelled = gaps.join(gaps.join(word) for word in words)
    return rf"(?<![^\W_])(?:(?:{written}|{together}){ending}|{spelled})(?![^\W_])"


def _runs(word: str) -> list[str]:
    """Each letter of a word, or row of the same one, as it may be written."""
    runs = []
    for match in re.finditer(r"(.)\1*", word):
        written = f"[{re.escape(match[1] + _SIGNS.get(match[1], ''))}]"
        counts = sorted({len(match[0]), _DRAWN_OUT})
        runs.append(f"(?:{'|'.join(f'{written}{{{count}}}' for count in counts)})")
    return runs
