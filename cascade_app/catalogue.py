"""Which checkpoints there are, and what is known about one before any weight is read.

A checkpoint is a known name (the bundled one, or a published pair), a folder in diffusers layout, or single safetensors
files; what a local one lacks is taken from the published one. A folder's `model_index.json` may hold a "studio" object
with what the published index has no place for (title, licence, sizes, defaults); without it the published models' values
apply. This module reads JSON, safetensors headers and, for a digest, samples of bytes: it loads no weights and knows nothing
of torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cascade_app import published
from cascade_app.errors import CheckpointDamaged, CheckpointNotFound
from cascade_app.layouts import (
    PARTS,
    PICKLES,
    PartFacts,
    Source,
    brief,
    file_sources,
    folder_sources,
    hub_cache,
    hub_facts,
    hub_source,
    json_object,
    listed,
    local_facts,
    looked_up_again,
    read_json,
    roots_of,
    weight_files,
)
from cascade_app.recognise import published_part
from cascade_app.weights import digest, read_header

__all__ = [
    "KNOWN", "POCKET_DIR", "PUBLISHED_STUDIO", "CheckpointSpec", "PartFacts", "Source", "brief", "called", "find_checkpoint",
    "known_checkpoints", "on_this_machine", "read_json",
]  # fmt: skip

POCKET_DIR = Path(__file__).resolve().parent.parent / "assets" / "pocket"
KNOWN: Mapping[str, Path] = MappingProxyType({"pocket": POCKET_DIR})
_CALLED: dict[str, Path] = {}  # what `called` has named

# What the published checkpoints need and their index does not say: sizes in pixels, settings of their model card.
PUBLISHED_STUDIO: Mapping[str, Any] = MappingProxyType(
    {
        "license": "see the checkpoint's own licence",
        "default_size_px": 1024,
        "min_size_px": 256,
        "max_size_px": 2048,
        "size_step_px": 32,
        "defaults": dict(published.MODEL_CARD),
    }
)


@dataclass(frozen=True)
class CheckpointSpec:
    """A checkpoint's identity and geometry. Sizes are pixels; `folder` is absolute.

    Attributes:
        folder: the folder or file it was found in; for a published name a path of its own in the hub's cache.
        license: what the page names; `license_to_accept` is the name to accept first, "" where there is none.
        defaults: request fields a new form starts with. `presets`: sets of them by name.
        parts: facts of the networks, in the order a run uses them; loading says which one is missing.
        companions: tokenizer, scheduler, previewer.
        draws: all that it can draw, where that is little and nobody needs to check it; "" where it may be anything.
    """

    name: str
    title: str
    folder: Path
    license: str
    default_size_px: int
    min_size_px: int
    max_size_px: int
    size_step_px: int
    prior_factor: float = 42.67  # pixels a Stage C cell (diffusers: resolution_multiple)
    prior_channels: int = 16
    decoder_channels: int = 4
    defaults: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parts: Mapping[str, PartFacts] = field(default_factory=dict)
    companions: Mapping[str, Source] = field(default_factory=dict)
    license_to_accept: str = ""
    draws: str = ""

    @property
    def sources(self) -> Mapping[str, Source]:
        """Where everything lies: the networks and their companions."""
        return {**{name: part.source for name, part in self.parts.items()}, **self.companions}

    @property
    def is_on_disk(self) -> bool:
        """Nothing has to be fetched before it can be loaded (a previewer is welcome, and can be done without)."""
        return all(source.path is not None for name, source in self.sources.items() if name != "previewer")

    @property
    def missing_bytes(self) -> int:
        """About how much has to be fetched."""
        return sum(part.bytes for part in self.parts.values() if part.source.path is None)

    @property
    def digest(self) -> str:
        """Which weights these are, wherever they lie: 32 hexadecimal digits; "" while some of them are still to be fetched.

        Raises:
            CheckpointDamaged: a file cannot be read.
        """
        if not self.parts or self.missing_bytes:
            return ""
        files = [f"{name}{part.source.prefix} {digest(file)}" for name, part in self.parts.items() for file in weight_files(part)]
        return hashlib.sha256("\n".join(files).encode()).hexdigest()[:32]


def find_checkpoint(name: str) -> CheckpointSpec:
    """The checkpoint of that name, in that folder, or in that file.

    Raises:
        CheckpointNotFound: neither a known name nor a folder nor a safetensors file.
        CheckpointDamaged: an index, config or header is missing, unreadable or not what it should be.
    """
    if name in published.CHECKPOINTS and name not in KNOWN:
        return _published_spec(published.CHECKPOINTS[name])
    try:
        path = (KNOWN.get(name) or _CALLED.get(name) or Path(name).expanduser()).absolute()
        is_folder, is_file = path.is_dir(), path.is_file()
    except PermissionError:
        raise CheckpointDamaged(f"{Path(name).name} cannot be read: Permission denied. Check its permissions.") from None
    except (OSError, ValueError, RuntimeError):  # a name no file system takes, or the home of nobody
        is_folder = is_file = False
    if is_folder:
        roots = roots_of(path)
        files = [] if roots else [file for file in listed(path) if file.suffix == ".safetensors"]
        return _files_spec(name, path, files) if files else _folder_spec(name, path, roots)
    if is_file and _is_weights(path):
        beside = [file for file in listed(path.parent) if file.suffix == ".safetensors" and file != path]
        return _files_spec(name, path, [path, *beside])
    raise CheckpointNotFound(_not_found(name))


def called(place: str) -> str:
    """What visitors see in place of the folder or file an operator serves: its last part, since nobody needs its path.

    `find_checkpoint` knows the name from then on. A name stays as it is, and so does what is no path at all.
    """
    try:
        path = Path(place).expanduser().absolute()
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError):
        return place
    name = path.stem if is_file else path.name
    if place in KNOWN or place in published.CHECKPOINTS or not name:
        return place
    while name in KNOWN or name in published.CHECKPOINTS or _CALLED.get(name, path) != path:
        name += "-local"
    _CALLED[name] = path
    return name


def known_checkpoints() -> tuple[CheckpointSpec, ...]:
    """The checkpoints that have a name, the default first; `is_on_disk` tells which can be used at once.

    Reads a few small files. A known one that is damaged is left out: choosing it by name says why.
    """
    specs = []
    for name in (*KNOWN, *published.CHECKPOINTS):
        try:
            specs.append(find_checkpoint(name))
        except (CheckpointDamaged, CheckpointNotFound):
            continue
    return tuple(specs)


def on_this_machine(spec: CheckpointSpec) -> CheckpointSpec:
    """`spec` with what the hub's cache holds looked up again, after a download."""
    return replace(
        spec,
        parts=MappingProxyType({name: looked_up_again(part) for name, part in spec.parts.items()}),
        companions=MappingProxyType(
            {name: hub_source(source.hub) if source.hub else source for name, source in spec.companions.items()}
        ),
    )


def _not_found(name: str) -> str:
    if name in KNOWN:
        return f'The folder of checkpoint "{name}", assets/{KNOWN[name].name}, is missing. Copy the repository again.'
    shown = " ".join(name[:100].split()) + ("..." if len(name) > 100 else "")
    return (
        f'Checkpoint "{shown}" is neither a known name ({", ".join((*KNOWN, *published.CHECKPOINTS))}) nor a folder '
        "or safetensors file. Check the spelling, or give the folder that holds prior/, decoder/ and vqgan/."
    )


def _is_weights(path: Path) -> bool:
    """Whether the file is to be read as weights; one that is plainly something else is not a checkpoint at all."""
    if path.suffix in PICKLES:
        raise CheckpointDamaged(
            f"{brief(path)} is a pickle, which can run code, and only safetensors files are read. Get it as safetensors."
        )
    if path.suffix == ".safetensors":
        return True
    try:
        return bool(read_header(path))
    except CheckpointDamaged:
        return False


def _published_spec(checkpoint: published.PublishedCheckpoint) -> CheckpointSpec:
    return CheckpointSpec(
        name=checkpoint.name,
        title=checkpoint.title,
        folder=hub_cache().absolute() / checkpoint.name,
        license=published.LICENSE,
        license_to_accept=published.LICENSE,
        presets=published.PRESETS,
        parts=MappingProxyType({name: hub_facts(part) for name, part in checkpoint.parts.items()}),
        companions=MappingProxyType({name: hub_source(files) for name, files in published.COMPANIONS.items()}),
        **_geometry(PUBLISHED_STUDIO),
    )


def _files_spec(name: str, path: Path, files: list[Path]) -> CheckpointSpec:
    """Single files; what they lack comes from folders beside them, else from the published checkpoint."""
    folder = path if path.is_dir() else path.parent
    sources = {**folder_sources([folder]), **file_sources(files, first=None if path.is_dir() else path)}
    parts = {}
    for part in PARTS:
        parts[part] = local_facts(part, sources[part]) if part in sources else hub_facts(_companion(part, parts))
    companions = {
        companion: sources.get(companion) or hub_source(hub) for companion, hub in published.COMPANIONS.items()
    }  # fmt: skip
    if not companions["scheduler"].path:
        del companions["scheduler"]  # the published one, which the tables know
    if not companions["previewer"].path and not _is_published(parts):
        del companions["previewer"]
    _check_together(parts)
    ours = _is_published(parts)
    return CheckpointSpec(
        name=name,
        title=path.stem if path.is_file() else path.resolve().name,
        folder=path.resolve(),
        license=published.LICENSE if ours else PUBLISHED_STUDIO["license"],
        license_to_accept=published.LICENSE if ours else "",
        presets=published.PRESETS,
        parts=MappingProxyType(parts),
        companions=MappingProxyType(companions),
        **_geometry(PUBLISHED_STUDIO),
    )


def _companion(part: str, parts: Mapping[str, PartFacts]) -> published.PublishedPart:
    """The published part to go with single files that lack it; a lite Stage C goes with a lite Stage B."""
    lite = published_part("prior", parts["prior"].config) is published.PRIOR_LITE if "prior" in parts else False
    return published.CHECKPOINTS["stable-cascade-lite" if lite else "stable-cascade"].parts[part]


def _is_published(parts: Mapping[str, PartFacts]) -> bool:
    """Whether any network has a published shape, and so comes from the published weights."""
    return any(published_part(name, part.config) for name, part in parts.items() if name in ("prior", "decoder"))


# Pipelines that are half a cascade, as fine-tuned ones are shared; their other half is the published one.
_HALVES = ("StableCascadePriorPipeline", "StableCascadeDecoderPipeline")


def _folder_spec(name: str, path: Path, roots: list[Path]) -> CheckpointSpec:
    root = roots[0] if roots else path
    index_path = root / "model_index.json"
    index = read_json(index_path)
    own = json_object(index.get("studio", {}), "studio part", index_path)
    studio = {**PUBLISHED_STUDIO, **own}
    sources = folder_sources(roots)
    parts = {part: local_facts(part, sources[part]) for part in PARTS if part in sources}
    companions = {key: source for key, source in sources.items() if key not in PARTS}
    if index.get("_class_name") in _HALVES:
        parts = {part: parts.get(part) or hub_facts(_companion(part, parts)) for part in PARTS}
        companions = {**{key: hub_source(hub) for key, hub in published.COMPANIONS.items()}, **companions}
    _check_together(parts)
    companions.setdefault("scheduler", Source(root / "scheduler"))  # loading says that it is missing
    ours = not own and _is_published(parts)
    try:
        spec = CheckpointSpec(
            name=name,
            title=str(studio.get("name", path.resolve().name)),
            folder=path.resolve(),
            license=published.LICENSE if ours else str(studio["license"]),
            license_to_accept=published.LICENSE if ours else "",
            prior_factor=float(index.get("resolution_multiple", 42.67)),
            presets=_presets(own, index_path),
            draws=str(own.get("draws", "")),
            parts=MappingProxyType(parts),
            companions=MappingProxyType(companions),
            **_geometry(studio, index_path),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointDamaged(
            f"{brief(index_path)} holds a size or factor that is not a number ({error}). Restore the file."
        ) from error
    _check_sizes(spec, index_path)
    return spec


def _geometry(studio: Mapping[str, Any], index_path: Path = Path("model_index.json")) -> dict[str, Any]:
    return {
        "defaults": MappingProxyType(dict(json_object(studio["defaults"], "defaults part", index_path))),
        **{key: int(studio[key]) for key in ("default_size_px", "min_size_px", "max_size_px", "size_step_px")},
    }


def _presets(own: Mapping[str, Any], index_path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Sets of settings by name; a checkpoint with a studio part of its own has only those it names."""
    if not own:
        return published.PRESETS
    presets = json_object(own.get("presets", {}), "presets part", index_path)
    return MappingProxyType(
        {name: MappingProxyType(json_object(preset, "presets part", index_path)) for name, preset in presets.items()}
    )


def _check_sizes(spec: CheckpointSpec, index_path: Path) -> None:
    sizes_fit = (
        0 < spec.min_size_px <= spec.default_size_px <= spec.max_size_px
        and spec.size_step_px > 0
        and spec.size_step_px % 8 == 0  # Stage B's latent is px / 4 and its sides must be even
        and spec.default_size_px % spec.size_step_px == 0
    )
    if not (sizes_fit and 8 <= spec.prior_factor <= 1024):
        raise CheckpointDamaged(
            f"{brief(index_path)} holds sizes that do not go together: the step must be a multiple of 8, and the "
            "default a multiple of the step between the minimum and the maximum. Restore the file."
        )


# What one part gives must be as wide as what the next one takes.
_JOINTS = (
    ("text_encoder", "hidden_size", "prior", "clip_text_in_channels", "text"),
    ("text_encoder", "projection_dim", "prior", "clip_text_pooled_in_channels", "pooled text"),
    ("text_encoder", "projection_dim", "decoder", "clip_text_pooled_in_channels", "pooled text"),
    ("prior", "out_channels", "decoder", "effnet_in_channels", "Stage C latents"),
    ("decoder", "out_channels", "vqgan", "latent_channels", "Stage B latents"),
)


def _check_together(parts: Mapping[str, PartFacts]) -> None:
    for giver, gives, taker, takes, what in _JOINTS:
        if giver in parts and taker in parts:
            given, taken = parts[giver].config.get(gives), parts[taker].config.get(takes)
            if given is not None and taken is not None and given != taken:
                raise CheckpointDamaged(
                    f"The parts do not belong together: {taker} takes {what} {taken} wide, and {giver} gives {given}. "
                    "Take all parts from one checkpoint."
                )
    for name, needed in (("prior", "clip_text_in_channels"), ("decoder", "effnet_in_channels")):
        if name in parts and parts[name].config.get(needed) is None:
            raise CheckpointDamaged(f"The config of {name} has no {needed}, which every cascade has. Restore the file.")
    if "vqgan" in parts:
        config = parts["vqgan"].config
        levels, factor = config.get("levels", 2), config.get("up_down_scale_factor", 2)
        if (levels, factor) != (2, 2):
            raise CheckpointDamaged(
                f"Stage A has {str(levels)[:20]} levels and factor {str(factor)[:20]}, and only 2 and 2 are known. "
                "Take it from the published checkpoint."
            )
