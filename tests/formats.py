"""One small random cascade, written in each of the published formats: folders, the authors' single files, all-in-one files.

Widths are multiples of 64, so that heads can be inferred as they are for the published files. The names here are written
from the authors' and ComfyUI's side, independently of the code that reads them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from cascade_app.diffusion.preview import Previewer
from tests.small import LEVEL_C, LEVEL_CTA, published_scheduler, revive, small_decoder, small_prior, small_tokenizer
from tests.small import small_vqgan as vqgan_of

Tensors = dict[str, torch.Tensor]
STUDIO = {"name": "Wide", "license": "test", "default_size_px": 128, "min_size_px": 64, "max_size_px": 2048}


@dataclass
class Cascade:
    """The networks of a small cascade whose values all fit into 16 bits exactly, so that every format holds the same."""

    tokenizer: Any
    parts: dict[str, torch.nn.Module]
    previewer: Previewer


def wide_cascade(seed: int = 0) -> Cascade:
    tokenizer = small_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1,
        max_position_embeddings=12, projection_dim=32, hidden_act="gelu", bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=1,
    )  # fmt: skip
    text = {"clip_text_pooled_in_channels": 32, "clip_seq": 2}
    parts = {
        "text_encoder": revive(CLIPTextModelWithProjection(config), seed + 4),
        "prior": small_prior(
            seed + 1, **text, conditioning_dim=64, block_out_channels=(64, 128), num_attention_heads=(1, 2),
            clip_text_in_channels=64,
        ),
        "decoder": small_decoder(
            seed + 2, **text, conditioning_dim=64, block_out_channels=(64, 64, 128), num_attention_heads=(0, 1, 2),
            block_types_per_layer=(LEVEL_C, LEVEL_CTA, LEVEL_CTA), up_blocks_repeat_mappers=(3, 2, 1), dropout=(0.0, 0.1, 0.1),
        ),
        "vqgan": vqgan_of(seed + 3),
    }  # fmt: skip
    with torch.no_grad():  # a picture that is not mostly black and white
        parts["vqgan"].out_block[0].weight.mul_(0.02)
        parts["vqgan"].out_block[0].bias.add_(0.5)
    previewer = revive(Previewer((16, 8)), seed + 5)
    for module in (*parts.values(), previewer):
        module.to(torch.bfloat16).float()  # what a 16-bit file can hold, and a 32-bit one too
    return Cascade(tokenizer, parts, previewer)


def write_folder(
    folder: Path, cascade: Cascade, *, dtype: torch.dtype = torch.float32, variant: str | None = None, lite: bool = False,
    names: tuple[str, ...] = ("text_encoder", "prior", "decoder", "vqgan"),
) -> Path:  # fmt: skip
    """The published folder layout."""
    for name in names:
        target = folder / (f"{name}_lite" if lite and name in ("prior", "decoder") else name)
        cascade.parts[name].to(dtype).save_pretrained(target, variant=variant)
        cascade.parts[name].float()
    write_companions(folder, cascade)
    save_file(cascade.previewer.state_dict(), folder / "previewer.safetensors")
    (folder / "model_index.json").write_text(json.dumps({"resolution_multiple": 42.67, "studio": STUDIO}))
    return folder


def write_companions(folder: Path, cascade: Cascade) -> Path:
    """What every format needs beside its weights."""
    cascade.tokenizer.save_pretrained(folder / "tokenizer")
    published_scheduler().save_pretrained(folder / "scheduler")
    return folder


def write_halves(folder: Path, cascade: Cascade, *, dtype: torch.dtype) -> Path:
    """Two folders side by side, as the two repositories of the hub are."""
    write_folder(folder / "stable-cascade-prior", cascade, dtype=dtype, variant="bf16", names=("text_encoder", "prior"))
    write_folder(folder / "stable-cascade", cascade, dtype=dtype, variant="bf16", names=("decoder", "vqgan"))
    for name in ("tokenizer", "scheduler"):
        shutil.rmtree(folder / "stable-cascade" / name)
    (folder / "stable-cascade-prior" / "previewer.safetensors").unlink()
    return folder


def authors_names(name: str, module: torch.nn.Module) -> Tensors:
    """A network's tensors under the names of the authors' code."""
    tensors = {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
    if name == "vqgan":
        tensors["vquantizer.codebook.weight"] = tensors.pop("vquantizer.embedding.weight")
        return tensors
    for key in [key for key in tensors if key.endswith("attention.to_q.weight")]:
        attention = key.removesuffix("to_q.weight")
        for kind in ("weight", "bias"):
            rows = [tensors.pop(f"{attention}to_{letter}.{kind}") for letter in "qkv"]
            tensors[f"{attention}attn.in_proj_{kind}"] = torch.cat(rows)
            tensors[f"{attention}attn.out_proj.{kind}"] = tensors.pop(f"{attention}to_out.0.{kind}")
    if name == "decoder":
        for kind in ("weight", "bias"):
            tensors[f"clip_mapper.{kind}"] = tensors.pop(f"clip_txt_pooled_mapper.{kind}")
    return tensors


def write_authors_files(folder: Path, cascade: Cascade, *, dtype: torch.dtype, names: dict[str, str]) -> Path:
    """One file a network under `names`; the text encoder keeps its folder, for the authors' code has it from the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in names.items():
        save_file(_in(dtype, authors_names(name, cascade.parts[name])), folder / file)
    cascade.parts["text_encoder"].to(dtype).save_pretrained(folder / "text_encoder")
    cascade.parts["text_encoder"].float()
    save_file(cascade.previewer.state_dict(), folder / "previewer.safetensors")
    return write_companions(folder, cascade)


def write_all_in_one(folder: Path, cascade: Cascade, *, dtype: torch.dtype, split_attention: bool = False) -> Path:
    """Two files as ComfyUI keeps them: Stage C with text encoder and previewer, Stage B with Stage A.

    Args:
        split_attention: queries, keys and values apart, as ComfyUI writes a model that it has loaded before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    networks = {name: authors_names(name, module) for name, module in cascade.parts.items() if name != "text_encoder"}
    if split_attention:
        for name in ("prior", "decoder"):
            networks[name] = _split(networks[name])
    text = {f"transformer.{key}": tensor.detach().clone() for key, tensor in cascade.parts["text_encoder"].state_dict().items()}
    text["text_projection"] = text.pop("transformer.text_projection.weight").T.contiguous()
    text["logit_scale"] = torch.tensor(4.6)
    stage_c = {
        **_under("model.diffusion_model.", networks["prior"]),
        **_under("text_encoder.clip_g.", text),
        **_under("vae.previewer.", dict(cascade.previewer.state_dict())),
        **_under("clip_l_vision.", {"vision_model.embeddings.class_embedding": torch.zeros(8)}),
    }
    stage_b = {**_under("model.diffusion_model.", networks["decoder"]), **_under("vae.", networks["vqgan"])}
    save_file(_in(dtype, stage_c, but="vae.previewer."), folder / "one.safetensors")
    save_file(_in(dtype, stage_b), folder / "two.safetensors")
    return write_companions(folder, cascade)


def _split(tensors: Tensors) -> Tensors:
    apart: Tensors = {}
    for key, tensor in tensors.items():
        if "attn.in_proj_" in key:
            for letter, rows in zip("qkv", tensor.chunk(3), strict=True):
                apart[key.replace("in_proj_", f"to_{letter}.")] = rows.clone()
        else:
            apart[key] = tensor
    return apart


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def _in(dtype: torch.dtype, tensors: Tensors, but: str = "-") -> Tensors:
    kept = {key for key, tensor in tensors.items() if key.startswith(but) or not tensor.is_floating_point()}
    return {key: tensor if key in kept else tensor.to(dtype) for key, tensor in tensors.items()}
