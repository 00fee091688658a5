"""Trains the byte-pair tokenizer on the world's own captions and writes it as a CLIPTokenizer folder.

Every byte is in the vocabulary, so any prompt can be encoded; words the world does not know fall to pieces.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from pathlib import Path

from transformers import CLIPTokenizer

from cascade_app.training.captions import caption
from cascade_app.training.world import describe

VOCABULARY = 1250
MAX_TOKENS = 40
_PIECES = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")
_COMMON_WORDS = (
    "the of and to in is with for on at by from an as it that this near over under behind between around across along into "
    "out up down dark bright light warm cold hot deep high low old new long short wide quiet misty foggy stormy rainy sunny "
    "golden silver magenta violet cyan turquoise navy crimson scarlet beige gold river lake forest tree road path bridge "
    "tower castle village town island beach coast cliff cave field garden flower grass rock stone sand wave storm rain fog "
    "mist wind fire smoke rainbow aurora galaxy planet space cat dog horse bird fish man woman person child people face "
    "portrait car train plane rocket robot dragon red orange yellow "
).split()


def _byte_symbols() -> list[str]:
    """One printable character for each byte, in CLIP's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def _merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    result, i = [], 0
    while i < len(symbols):
        if symbols[i : i + 2] == pair:
            result.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return tuple(result)


def learn(captions: list[str], size: int = VOCABULARY) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair code (Sennrich et al. 2016) over the captions."""
    counts = Counter(piece for text in captions for piece in _PIECES.findall(text.lower()))
    counts.update(_COMMON_WORDS)
    words = {(*word[:-1], word[-1] + "</w>"): n for word, n in counts.items() if word.isascii()}
    base = _byte_symbols()
    tokens = [*base, *(symbol + "</w>" for symbol in base)]
    merges: list[tuple[str, str]] = []
    while len(tokens) < size - 2:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, n in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = {_merge(symbols, best): n for symbols, n in words.items()}
        merges.append(best)
        if best[0] + best[1] not in tokens:
            tokens.append(best[0] + best[1])
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def train(folder: Path) -> CLIPTokenizer:
    """Learn the tokenizer from 12,000 captions and save it, vocab.json and merges.txt included."""
    rng = random.Random("tokenizer")
    vocabulary, merges = learn([caption(describe(seed), rng) for seed in range(12000)])
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return tokenizer


def load(folder: Path) -> CLIPTokenizer:
    """The trained tokenizer, trained now if it is not there yet."""
    if not (folder / "tokenizer_config.json").exists():
        train(folder)
    return CLIPTokenizer.from_pretrained(folder)


if __name__ == "__main__":
    from cascade_app.training.workdir import add_work_dir_argument, work_dir

    parser = argparse.ArgumentParser(description=__doc__)
    add_work_dir_argument(parser)
    load(work_dir(parser.parse_args().work_dir) / "tokenizer")
