"""From a checkpoint's facts to its networks, whatever the files they lie in.

A network is built without memory, every tensor it asks for is looked up in the files' headers, and only when all of them
are there in the right shape is it filled with them, in the dtype it runs in. Reads safetensors only, from this machine only,
and gives whole checkpoints or an error that names the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from cascade_app.catalogue import CheckpointSpec, PartFacts, Source, brief, read_json
from cascade_app.diffusion.configs import TextConfig, UNetConfig, VQGANConfig, config_from
from cascade_app.diffusion.networks import VQGAN, CascadeUNet
from cascade_app.diffusion.packed import can_pack, pack
from cascade_app.diffusion.preview import Previewer, fit_to_vqgan, most_visible_directions
from cascade_app.diffusion.schedule import CosineSchedule
from cascade_app.diffusion.text_encoder import TextEncoder
from cascade_app.errors import CheckpointDamaged, CheckpointNotFound
from cascade_app.layouts import PARTS, WEIGHTS, stored_weights
from cascade_app.published import SCHEDULER_CONFIG
from cascade_app.recognise import what_it_is
from cascade_app.runtime.reading import DTYPES, read_tensors
from cascade_app.runtime.single_file import TensorRef, refs_in_file, refs_in_folder
from cascade_app.runtime.tokenizer import load_tokenizer
from cascade_app.weights import WEIGHT_DTYPES

Preview = Callable[[Tensor], Tensor]  # (B, C, H, W) latents -> (B, 3, h, w), about [0, 1]

_NETWORKS: Mapping[str, tuple[Any, Any]] = {
    "text_encoder": (TextEncoder, TextConfig),
    "prior": (CascadeUNet, UNetConfig),
    "decoder": (CascadeUNet, UNetConfig),
    "vqgan": (VQGAN, VQGANConfig),
}
_LARGEST_NUMBER = 1_000_000  # in a config; a hostile one could ask for more blocks than fit anywhere
_MOST_LAYERS = 256
# Larger networks may be mapped from their files, where packed weights take memory; and packing is little of their products.
_PACKED_BYTES = 500_000_000
_COUNTED = ("layers", "levels", "blocks", "mappers", "patch_size", "scale_factor")  # what there is that many of, or its square


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: every part in eval mode, on `device`, in `dtype`."""

    spec: CheckpointSpec
    device: torch.device
    dtype: torch.dtype
    tokenizer: Any
    text_encoder: Any
    prior: Any
    decoder: Any
    vqgan: Any
    scheduler_config: Mapping[str, Any]
    preview_prior: Preview
    preview_decoder: Preview
    digest: str = ""  # which weights were read

    def schedule(self, shift: float = 1.0) -> CosineSchedule:
        """The noise schedule the networks were trained on, shifted."""
        return CosineSchedule.from_config(self.scheduler_config, shift)


def load_checkpoint(
    spec: CheckpointSpec, *, device: torch.device, dtype: torch.dtype, shared: Mapping[str, Any] | None = None,
    packed: bool = False,
) -> Checkpoint:  # fmt: skip
    """Load every part.

    Args:
        shared: networks that are loaded already, in `dtype`, by the key of their source; they are used as they are.
        packed: they stay on the CPU for good, and may be laid out for it (`diffusion/packed.py`).

    Raises:
        CheckpointNotFound: a part is missing, or still to be fetched.
        CheckpointDamaged: a file is missing, truncated, or does not hold what its config says.
    """
    _check_all_there(spec)
    scheduler_config = _scheduler_config(spec.companions.get("scheduler"))
    _check_schedule(scheduler_config)
    tokenizer = load_tokenizer(spec.companions["tokenizer"].path, spec.parts["text_encoder"].config)
    parts, shared = {name: spec.parts[name] for name in PARTS}, shared or {}
    # One after another: each part is read by all of torch's threads when its numbers are checked, and two at once were slower.
    loaded = {name: shared.get(part.source.key) or load_part(part, dtype=dtype, packed=packed) for name, part in parts.items()}
    networks = {name: network.to(device) for name, network in loaded.items()}
    preview_prior = _load_previewer(spec.companions.get("previewer"), device, dtype)
    return Checkpoint(
        spec=spec,
        device=device,
        dtype=dtype,
        tokenizer=tokenizer,
        scheduler_config=scheduler_config,
        preview_prior=preview_prior or most_visible_directions(networks["decoder"]),
        preview_decoder=fit_to_vqgan(networks["vqgan"]),
        digest=spec.digest,
        **networks,
    )


def load_part(part: PartFacts, *, dtype: torch.dtype, packed: bool = False) -> Any:
    """One network in eval mode, on the CPU, in `dtype`: mapped from its file where that holds the same dtype.

    Args:
        packed: as `load_checkpoint`.

    Raises:
        CheckpointDamaged: as `load_checkpoint`.
    """
    path = part.source.path
    if path.is_file():
        refs, label = refs_in_file(part.name, path, part.source.prefix), brief(path)
    else:
        refs, label = refs_in_folder(_files_for(path, WEIGHTS[part.name], dtype)), f"{path.name}/"
    network = build_empty(part.name, part.config, label)
    expected = network.state_dict()
    _check_tensors(expected, refs, label)
    unasked = [key for key in refs if key not in expected and not key.endswith("position_ids")]  # older files hold those
    if unasked and not path.is_file():  # a single file may hold anything beside
        raise CheckpointDamaged(
            f"{label} holds {len(unasked)} tensors that its config does not ask for, {unasked[0]} the first. "
            "Copy the checkpoint again."
        )
    _fill(network, refs, dtype, label)
    network.eval().requires_grad_(False)
    if packed and part.name != "text_encoder" and part.bytes <= _PACKED_BYTES and can_pack(dtype):
        pack(network)
    return network


def build_empty(name: str, config: Mapping[str, Any], label: str = "") -> Any:
    """The network of a part as its config says, on the meta device: shapes without memory.

    Raises:
        CheckpointDamaged: the config describes nothing that can be built.
    """
    (network, kind), label = _NETWORKS[name], label or f"{name}/"
    try:
        _check_plausible(config)
        with torch.device("meta"):
            return network(config_from(kind, config))
    except Exception as error:  # torch has many ways to say that numbers do not go together
        lines = str(error).strip().splitlines()
        reason = lines[0][:160] if lines else type(error).__name__
        raise CheckpointDamaged(f"The config of {label} describes no network ({reason}). Copy the checkpoint again.") from error


def _check_plausible(config: Mapping[str, Any]) -> None:
    """Raise ValueError for numbers that no network has and that would take forever, or fail only when it computes."""
    for key in ("scale_factor", "layer_norm_eps"):
        number = config.get(key, 1.0)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not number > 0:
            raise ValueError(f"{key} is {number}")
    if not isinstance(config.get("eos_token_id", 0), int):  # where the pooled embedding is read
        raise ValueError(f"eos_token_id is {config['eos_token_id']}")
    for key, value in config.items():
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > _MOST_LAYERS:
            raise ValueError(f"{key} has {len(numbers)} entries")
        most = _MOST_LAYERS if any(word in key for word in _COUNTED) else _LARGEST_NUMBER
        least = -1 if key == "num_attention_heads" and "block_out_channels" in config else 0  # a level without attention
        for number in numbers:
            if isinstance(number, (int, float)) and not key.endswith("_token_id") and not least <= number <= most:
                raise ValueError(f"{key} is {number}")


def _check_all_there(spec: CheckpointSpec) -> None:
    for name in PARTS:
        if name not in spec.parts:
            raise CheckpointNotFound(
                f"The checkpoint has no {name}/ folder. Give the folder that holds {', '.join(f'{part}/' for part in PARTS)}."
            )
    if "tokenizer" not in spec.companions:
        raise CheckpointNotFound("The checkpoint has no tokenizer/ folder. Copy the checkpoint again.")
    absent = [name for name, source in spec.sources.items() if source.path is None and name != "previewer"]
    if absent:
        size = f", about {spec.missing_bytes / 1e9:.1f} GB" if spec.missing_bytes else ""
        raise CheckpointNotFound(
            f"{spec.title} is not whole on this machine: {', '.join(absent)} must be fetched from the hub first{size}."
        )


def _files_for(folder: Path, stem: str, dtype: torch.dtype) -> tuple[Path, ...]:
    """The files to read a part from in `dtype`: those that need no conversion where there are any."""
    variants = stored_weights(folder, stem)
    preferred = {torch.bfloat16: ("bf16", "", "fp16"), torch.float16: ("fp16", "bf16", "")}.get(dtype, ("", "bf16", "fp16"))
    return next(variants[variant] for variant in preferred if variant in variants)


def _check_tensors(expected: Mapping[str, Tensor], refs: Mapping[str, TensorRef], label: str) -> None:
    """Every tensor the network asks for is there, in its shape and in a precision that can be used.

    Raises:
        CheckpointDamaged: with the first that is not.
    """
    missing = [key for key in expected if key not in refs]
    if missing:
        if len(missing) * 2 > len(expected):
            found = what_it_is(ref.key for ref in refs.values())
            if found:
                raise CheckpointDamaged(f"{label} {found}. Copy the checkpoint again.")
        raise CheckpointDamaged(
            f"{label} lacks {len(missing)} of the tensors its config asks for, {missing[0]} the first. Copy the checkpoint again."
        )
    for key, tensor in expected.items():
        ref = refs[key]
        if tuple(tensor.shape) != ref.shape:
            raise CheckpointDamaged(
                f"{label} does not fit its own config: {key} is {_sides(ref.shape)} in the file, "
                f"and the config asks for {_sides(tensor.shape)}. Copy the checkpoint again."
            )
        if ref.dtype not in (WEIGHT_DTYPES if tensor.is_floating_point() else DTYPES):
            raise CheckpointDamaged(
                f"{label} stores {key} as {ref.dtype}; only {', '.join(WEIGHT_DTYPES)} can be used. Get it in one of these."
            )


def _sides(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _fill(network: Any, refs: Mapping[str, TensorRef], dtype: torch.dtype, label: str) -> None:
    try:
        tensors = read_tensors({key: refs[key] for key in network.state_dict()}, dtype)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is truncated or was changed"
        raise CheckpointDamaged(f"{label} cannot be read: {reason}. Copy it again.") from error
    odd = next((key for key, tensor in tensors.items() if tensor.is_floating_point() and not _finite(tensor)), None)
    if odd:
        raise CheckpointDamaged(f"{label} holds numbers that are none (NaN or infinite) in {odd}. Copy the checkpoint again.")
    network.load_state_dict(tensors, assign=True)


def _finite(tensor: Tensor) -> bool:
    return tensor.numel() == 0 or all(math.isfinite(number) for number in torch.aminmax(tensor))


def _scheduler_config(source: Source | None) -> Mapping[str, Any]:
    """The config beside the networks; single files come without one and are sampled as published."""
    return SCHEDULER_CONFIG if source is None else read_json(source.path / "scheduler_config.json")


def _check_schedule(config: Mapping[str, Any]) -> None:
    """Refuse a schedule we cannot sample before any weight is read."""
    try:
        CosineSchedule.from_config(config)
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointDamaged(f"scheduler/scheduler_config.json holds what is no number ({error}). Restore it.") from error


def _load_previewer(source: Source | None, device: torch.device, dtype: torch.dtype) -> Preview | None:
    if source is None or source.path is None:
        return None
    path, prefix = source.path, source.prefix
    # Not in float16: its BatchNorms were not trained for that range, and it is slow on a CPU.
    dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    try:
        refs = {key.removeprefix(prefix): ref for key, ref in refs_in_folder([path]).items() if key.startswith(prefix)}
        state = read_tensors(refs, dtype)
        previewer = Previewer.from_state_dict(state).to(device, dtype, memory_format=torch.channels_last).requires_grad_(False)
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointDamaged(f"{path.name} does not hold a previewer. Copy it again, or remove it.") from error
    # Weights come and go by placement; the previewer, which no placement counts, follows the latents.
    return lambda latents: previewer.to(latents.device)(latents.to(dtype, memory_format=torch.channels_last)).float()
