"""CLIP's tokenizer, read from a checkpoint's tokenizer/ folder: text to the ids, and the characters each stands for.

Byte pairs come from tokenizer.json, or from vocab.json and merges.txt as published; the rest of the pipeline is CLIP's own and
the same for every vocabulary (Radford et al. 2021, section 2.4; OpenAI's simple_tokenizer.py). For any text the ids are those of
transformers' CLIPTokenizer (tests/runtime/test_tokenizer.py), whose library costs a process seconds and a hundred megabytes.
Cuts and pads nothing: `diffusion/conditioning.py` does. Safe to use from several threads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from cascade_app.errors import CheckpointDamaged

# Contractions, words, single digits, and whatever else is written without spaces; the special tokens stay whole.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_ROLES = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
_OTHER_ROLES = ("sep_token", "cls_token", "mask_token")
_LARGEST_LENGTH = 1_000_000  # a tokenizer that was given no length says some power of ten
_LARGEST_FILE_BYTES = 64_000_000


@dataclass(frozen=True)
class Tokens:
    """What became of a text, or a list of these for several: its ids, start and end included, and the characters of each."""

    input_ids: list[Any]
    offset_mapping: list[Any]


class ClipTokenizer:
    """Called as transformers' CLIPTokenizer is.

    Attributes:
        model_max_length: how many tokens the text encoder takes, start and end included.
        pad_token_id: what follows the end.
    """

    def __init__(self, backend: Tokenizer, *, pad_token_id: int, model_max_length: int) -> None:
        self._backend = backend
        self.pad_token_id = pad_token_id
        self.model_max_length = model_max_length

    def __len__(self) -> int:
        """Words in the vocabulary, special ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def __call__(self, text: str | list[str], *, return_offsets_mapping: bool = True, verbose: bool = False) -> Tokens:
        """Nothing is cut or padded. The two options are those of transformers' class: offsets always come, warnings never."""
        if isinstance(text, str):
            encoding = self._backend.encode(text)
            return Tokens(encoding.ids, encoding.offsets)
        encodings = [self._backend.encode(one) for one in text]  # one by one: encode_batch starts threads, and ZeroGPU forks
        return Tokens([encoding.ids for encoding in encodings], [encoding.offsets for encoding in encodings])


def load_tokenizer(folder: Path, text_encoder: Mapping[str, Any]) -> ClipTokenizer:
    """The tokenizer in `folder`, which belongs to a text encoder of that config.

    Raises:
        CheckpointDamaged: it cannot be read, or does not fit the text encoder.
    """
    try:
        settings = _settings(folder)
        backend, pad_token_id = _backend(folder, settings)
    except Exception as error:  # the tokenizers library raises plain Exception for a bad file
        raise CheckpointDamaged(f"{folder.name}/ holds no readable CLIP tokenizer. Copy the checkpoint again.") from error
    length = _length(folder, settings, text_encoder.get("max_position_embeddings"))
    tokenizer = ClipTokenizer(backend, pad_token_id=pad_token_id, model_max_length=length)
    words = text_encoder.get("vocab_size")
    if isinstance(words, int) and len(tokenizer) > words:
        raise CheckpointDamaged(
            f"{folder.name}/ knows {len(tokenizer):,} words and the text encoder {words:,}: they do not belong together."
        )
    return tokenizer


def _length(folder: Path, settings: Mapping[str, Any], places: Any) -> int:
    """How many tokens a prompt has at most; where the files do not say, as many as the text encoder has places for."""
    length = settings.get("model_max_length", settings.get("max_len"))
    length = math.inf if length is None else length
    if isinstance(length, bool) or not isinstance(length, (int, float)) or not length >= 3:
        raise CheckpointDamaged(f"{folder.name}/ leaves no room for a prompt (model_max_length). Copy the checkpoint again.")
    if not isinstance(places, int):
        return int(min(length, _LARGEST_LENGTH))
    length = places if length > _LARGEST_LENGTH else int(length)
    if length > places:
        raise CheckpointDamaged(
            f"{folder.name}/ makes {length:,} tokens of a prompt and the text encoder takes {places:,}: "
            "they do not belong together."
        )
    return length


def _settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json; the special tokens of an older folder, which has them in a file of their own, included."""
    settings = _read(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    if "added_tokens_decoder" not in settings and (folder / "special_tokens_map.json").is_file():
        settings |= _read(folder / "special_tokens_map.json")
    return settings


def _backend(folder: Path, settings: Mapping[str, Any]) -> tuple[Tokenizer, int]:
    """The tokenizer, and the id of its padding."""
    whole = _read(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else None
    if whole is None:
        vocabulary, merges = BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    else:
        vocabulary, merges = whole["model"]["vocab"], whole["model"]["merges"]
        merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in merges]
    roles = {role: _token(settings.get(role) or usual) for role, usual in _ROLES.items()}
    backend = Tokenizer(
        BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=roles["unk_token"].content)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.add_tokens(_special_and_added(folder, settings, [*roles.values()], whole))
    ids = {role: backend.token_to_id(token.content) for role, token in roles.items()}
    backend.post_processor = processors.RobertaProcessing(
        (roles["eos_token"].content, ids["eos_token"]), (roles["bos_token"].content, ids["bos_token"]),
        trim_offsets=False, add_prefix_space=False,
    )  # fmt: skip
    return backend, ids["pad_token"]


def _special_and_added(
    folder: Path, settings: Mapping[str, Any], roles: list[AddedToken], whole: Mapping[str, Any] | None
) -> list[AddedToken]:
    """Tokens that are matched before any byte pair: first those with an id of their own, by it, then those with a role.

    How a token is matched is told by where it has an id, else by the last of its roles.
    """
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    others = [settings[role] for role in _OTHER_ROLES if settings.get(role)]
    named = {token.content: token for token in [*roles, *map(_token, others)]}
    named |= {token.content: token for token in map(_token, extra.values() if isinstance(extra, dict) else extra)}
    numbered = settings.get("added_tokens_decoder")
    if numbered is None:
        numbered = {}
        if (folder / "added_tokens.json").is_file():
            for content, number in _read(folder / "added_tokens.json").items():
                numbered[number] = {"content": content, "normalized": content not in named, "special": content in named}
        numbered |= {token["id"]: token for token in (whole or {}).get("added_tokens", [])}
    added = [_token(token) for _id, token in sorted(numbered.items(), key=lambda pair: int(pair[0]))]
    for token in added:
        token.special = token.special or token.content in named
    known = {token.content for token in added}
    return [*added, *(token for content, token in named.items() if content not in known)]


def _token(described: str | Mapping[str, Any]) -> AddedToken:
    """A token as the files describe it: by its content alone, or with how it is matched."""
    if isinstance(described, str):
        return AddedToken(described, special=True, normalized=False)
    known = {key: described[key] for key in ("single_word", "lstrip", "rstrip", "normalized", "special") if key in described}
    return AddedToken(described["content"], **known)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        ValueError: it is none, or too large to be one that is meant.
    """
    if path.stat().st_size > _LARGEST_FILE_BYTES:
        raise ValueError(f"{path.name} is too large")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return found
