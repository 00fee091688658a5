"""Where a checkpoint's parts lie: in folders of the diffusers layout, in single files, in the hub's cache.

Finds and describes; reads JSON and safetensors headers only. What it all means together is `catalogue.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cascade_app import published
from cascade_app.errors import CheckpointDamaged
from cascade_app.published import HubFiles
from cascade_app.recognise import NotRecognised, find_parts, infer_config, part_tensors, published_part
from cascade_app.weights import Header, count_parameters, read_header

PARTS = ("text_encoder", "prior", "decoder", "vqgan")  # in the order a run uses them
WEIGHTS: Mapping[str, str] = {  # stem of a part's weights in its folder
    "text_encoder": "model", **dict.fromkeys(("prior", "decoder", "vqgan"), "diffusion_pytorch_model"),
}  # fmt: skip
CLASSES: Mapping[str, str] = {  # the class a part's config names, where it names one
    "text_encoder": "CLIPTextModelWithProjection", "prior": "StableCascadeUNet", "decoder": "StableCascadeUNet",
    "vqgan": "PaellaVQModel",
}  # fmt: skip
_MAX_JSON_BYTES = 16_000_000
VARIANTS = ("", "bf16", "fp16")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_FOLDERS: Mapping[str, tuple[str, ...]] = {  # the full network is preferred to the lite one
    "prior": ("prior", "prior_lite"),
    "decoder": ("decoder", "decoder_lite"),
    **{name: (name,) for name in ("text_encoder", "vqgan", "tokenizer", "scheduler")},
}


@dataclass(frozen=True)
class Source:
    """Where one thing of a checkpoint lies.

    Attributes:
        path: a folder of the diffusers layout, or a safetensors file; None while it is only on the hub.
        prefix: what its keys start with, in a file.
        hub: where it can be fetched from, or was.
    """

    path: Path | None = None
    prefix: str = ""
    hub: HubFiles | None = None

    @property
    def key(self) -> str:
        """The same for the same weights, whichever checkpoint they are part of."""
        if self.hub is not None:
            return f"{self.hub.repository}@{self.hub.revision}:{self.hub.subfolder}/{self.hub.weights}"
        return f"{self.path and self.path.resolve()}:{self.prefix}"


@dataclass(frozen=True)
class PartFacts:
    """What is known of a network before its weights are read. `bytes` are those it takes in 16 bit; `config` is plain JSON."""

    name: str
    title: str
    bytes: int
    parameters: int
    config: Mapping[str, Any]
    source: Source
    license: str = ""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        CheckpointDamaged: missing, unreadable, or not a JSON object.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointDamaged(f"{brief(path)} is larger than {_MAX_JSON_BYTES:,} bytes. Copy the checkpoint again.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointDamaged(f"{brief(path)} is missing. Restore it, or copy the checkpoint again.") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not valid JSON"
        raise CheckpointDamaged(f"{brief(path)} cannot be read: {reason}. Copy the checkpoint again.") from error
    return json_object(value, "content", path)


def json_object(value: Any, what: str, path: Path) -> dict[str, Any]:
    """`value` if it is a JSON object, else CheckpointDamaged."""
    if not isinstance(value, dict):
        raise CheckpointDamaged(f"The {what} of {brief(path)} is not a JSON object. Restore the file.")
    return value


def brief(path: Path) -> str:
    """A checkpoint's file as a message may name it: without the folders above the checkpoint's own."""
    return f"{path.parent.name}/{path.name}"


# --- folders in diffusers layout ---


def roots_of(folder: Path) -> list[Path]:
    """The folders that together hold a checkpoint given as `folder`: itself, those in it, or its other half beside it."""
    if os.path.lexists(folder / "model_index.json"):
        roots = [folder]
        if not (_first(roots, "prior") and _first(roots, "decoder")):
            halves = (f"{folder.name}-prior", folder.name.removesuffix("-prior"))
            roots += [half for name in halves if (half := folder.with_name(name)) != folder and _is_root(half)]
        return roots
    inside = [child for child in listed(folder) if _is_root(child)]
    inside.sort(key=lambda child: _first([child], "decoder") is None)  # the decoder's index speaks for the whole
    return inside


def folder_sources(roots: Iterable[Path]) -> dict[str, Source]:
    """What lies in `roots`, the first of them first."""
    roots = list(roots)
    sources = {name: Source(path) for name in _FOLDERS if (path := _first(roots, name))}
    previewer = next((root / "previewer.safetensors" for root in roots if (root / "previewer.safetensors").is_file()), None)
    return {**sources, "previewer": Source(previewer)} if previewer else sources


def _first(roots: Iterable[Path], name: str) -> Path | None:
    return next((root / folder for root in roots for folder in _FOLDERS[name] if (root / folder).is_dir()), None)


def _is_root(folder: Path) -> bool:
    return (folder / "model_index.json").is_file()


def listed(folder: Path) -> list[Path]:
    """What is in `folder`, by name.

    Raises:
        CheckpointDamaged: it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointDamaged(f"The folder {folder.name}/ cannot be read: {error.strerror}. Check its permissions.") from error


def stored_weights(folder: Path, stem: str) -> dict[str, tuple[Path, ...]]:
    """Variant ("" for the plain one) to the files of a part's weights, several where they are sharded.

    Raises:
        CheckpointDamaged: there are none, or a shard is missing.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for variant in VARIANTS:
        name = f"{stem}.{variant}" if variant else stem
        whole = folder / f"{name}.safetensors"
        indices = [f"{name}.safetensors.index.json", f"{stem}.safetensors.index.{variant}.json"]
        index = next((folder / index for index in indices if (folder / index).is_file()), None)
        if os.path.lexists(whole):
            found[variant] = (whole,)
        elif index is not None:
            found[variant] = _shards(index)
    if not found:
        only = next((path.name for path in listed(folder) if path.suffix in PICKLES), None)
        note = f"{only} is a pickle, which can run code" if only else "files that are not safetensors are not read"
        raise CheckpointDamaged(f"{folder.name}/{stem}.safetensors is missing. Copy the checkpoint again; {note}.")
    return found


def weight_files(part: PartFacts) -> tuple[Path, ...]:
    """The files of a part on this machine, the widest where there are several variants. Raises as `stored_weights`."""
    path = part.source.path
    return (path,) if path.is_file() else next(iter(stored_weights(path, WEIGHTS[part.name]).values()))


def _shards(index: Path) -> tuple[Path, ...]:
    names = json_object(read_json(index).get("weight_map"), "weight_map", index).values()
    shards = sorted({name if isinstance(name, str) else "" for name in names}) or [""]
    for name in shards:
        if not name.endswith(".safetensors") or Path(name).name != name:
            raise CheckpointDamaged(f"{brief(index)} names a shard that is no safetensors file beside it. Restore the file.")
        if not (index.parent / name).is_file():
            raise CheckpointDamaged(f"{index.parent.name}/{name}, one of {len(shards)} shards, is missing. Copy it again.")
    return tuple(index.parent / name for name in shards)


def folder_facts(name: str, source: Source) -> PartFacts:
    """The facts of the part in a folder of the diffusers layout, checked against its weights' headers."""
    folder = source.path
    config = read_json(folder / "config.json")
    architectures = config.get("architectures") or [CLASSES[name]]
    described = config.get("_class_name") or (architectures[0] if isinstance(architectures, list) else architectures)
    if described != CLASSES[name]:
        raise CheckpointDamaged(
            f"{brief(folder / 'config.json')} describes a {str(described)[:60]}, not a {CLASSES[name]}. Copy it again."
        )
    counts = {}
    for variant, files in stored_weights(folder, WEIGHTS[name]).items():
        counts[variant] = sum(count_parameters(read_header(file)) for file in files)
    parameters = max(counts.values())
    known = published_part(name, config)
    title = known.title if known else name
    return PartFacts(name, title, parameters * 2, parameters, config, source)


# --- single files ---


def file_sources(files: Iterable[Path], *, first: Path | None = None) -> dict[str, Source]:
    """The parts in single files. Where several hold the same part: `first` wins, then the larger, then the one in 16 bit.

    Raises:
        CheckpointDamaged: none holds a part; or one cannot be read and a network of its may be what is missing.
    """
    ranked: dict[str, list[tuple[Any, Source]]] = {}
    objections: list[CheckpointDamaged] = []
    for file in files:
        try:
            header = read_header(file)
            for name, prefix in find_parts(header).items():
                tensors = part_tensors(name, header, prefix)
                wide = any(info.dtype in ("F32", "F64") for info in tensors.values())
                rank = (file != first, -count_parameters(tensors), wide, file.name)
                ranked.setdefault(name, []).append((rank, Source(file, prefix)))
        except NotRecognised as error:
            objections.append(CheckpointDamaged(f"{brief(file)} {error}. Choose a checkpoint, or its Stage C and Stage B files."))
            if file == first:
                raise objections[-1] from error
        except CheckpointDamaged as error:
            objections.insert(0, error)
            if file == first:
                raise
    if objections and not (ranked.keys() >= {"prior", "decoder"}) and ("cannot be read" in objections[0].message or not ranked):
        raise objections[0]
    return {name: min(rows, key=lambda row: row[0])[1] for name, rows in ranked.items()}


def file_facts(name: str, source: Source) -> PartFacts:
    """The facts of the part in a single file.

    Raises:
        CheckpointDamaged: its tensors do not fit together.
    """
    header: Header = read_header(source.path)
    try:
        config = infer_config(name, header, source.prefix)
    except NotRecognised as error:
        raise CheckpointDamaged(f"{brief(source.path)} {error}. Copy it again.") from error
    parameters = count_parameters(part_tensors(name, header, source.prefix))
    known = published_part(name, config)
    return PartFacts(name, known.title if known else name, parameters * 2, parameters, config, source)


# --- the hub's cache ---


def hub_cache(environ: Mapping[str, str] | None = None) -> Path:
    """The folder huggingface_hub keeps repositories in: HF_HUB_CACHE, else under HF_HOME, else under ~/.cache."""
    environ = os.environ if environ is None else environ
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"]).expanduser()
    home = environ.get("HF_HOME") or os.path.join(environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


def hub_source(hub: HubFiles) -> Source:
    """The files on this machine if the cache has all of them, else where to fetch them."""
    repository = hub_cache() / f"models--{hub.repository.replace('/', '--')}"
    for snapshot in _snapshots(repository, hub.revision):
        weights = next((snapshot / name for name in hub.weight_files() if (snapshot / name).is_file()), None)
        if (weights or not hub.weights) and all((snapshot / name).is_file() for name in hub.other_files()):
            return Source(path=snapshot / hub.subfolder if hub.subfolder else weights, hub=hub)
    return Source(hub=hub)


def _snapshots(repository: Path, revision: str) -> Iterator[Path]:
    """The snapshot that `revision` names, then older ones: another tool may have moved the name without fetching all of it."""
    try:
        present = repository / "snapshots" / (repository / "refs" / revision).read_text(encoding="utf-8").strip()
        others = sorted((repository / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except (OSError, ValueError):
        present, others = repository / "snapshots" / revision, []
    yield present
    yield from (path for path in others if path != present)


def hub_facts(part: published.PublishedPart) -> PartFacts:
    """The facts of a published part: from the table, and from its files once they are here."""
    source = hub_source(part.hub)
    if source.path is None:
        return PartFacts(part.name, part.title, part.bytes, part.parameters, part.config, source, part.license)
    return replace(folder_facts(part.name, source), title=part.title, license=part.license)


def local_facts(name: str, source: Source) -> PartFacts:
    """The facts of a part on this machine, in a folder or a file."""
    return file_facts(name, source) if source.path.is_file() else folder_facts(name, source)


def looked_up_again(facts: PartFacts) -> PartFacts:
    """`facts` with its source as it is now, after a download."""
    if facts.source.hub is None or (source := hub_source(facts.source.hub)).path is None:
        return facts
    return replace(folder_facts(facts.name, source), title=facts.title, license=facts.license)
