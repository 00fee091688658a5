"""Measures a checkpoint, and lays contact sheets out for people to look at. Its last line is one JSON object.

    python -m cascade_app.training.evaluate --checkpoint assets/pocket --sheets assets/sheets
    python -m cascade_app.training.evaluate --checkpoint DIR --prompts prompts.txt

Prompts name held-out combinations. What a picture shows is read off by a classifier trained on renders only
(classifier.py; trained now if there is none); its own accuracy stands beside. "shuffled" judges the same pictures
against other prompts' attributes: that is chance.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_app.training import classifier
from cascade_app.training.attributes import NAMES
from cascade_app.training.captions import full_caption
from cascade_app.training.darkroom import Darkroom, Setting
from cascade_app.training.data import to_tensor
from cascade_app.training.roundness import roundness
from cascade_app.training.scenes import STARS, render
from cascade_app.training.sheets import contact_sheet
from cascade_app.training.specks import standing_out
from cascade_app.training.stage_a import to_bytes
from cascade_app.training.workdir import add_work_dir_argument, work_dir
from cascade_app.training.world import ATTRIBUTES, COLOURS, Scene, describe, labels

GROUPS = {
    "colour": ("terrain_colour", "object_colour", "background", "shape_colour", "other_colour"),
    "object": ("object", "body"),
    "position": ("object_position", "body_position", "shape_position"),
    "time_of_day": ("time",),
    "terrain": ("terrain",),
    "shape": ("shape", "other_shape"),
    "relation": ("relation",),
}
STARS_ABOVE = 0.3  # of the picture's height: no terrain hides those
FREE_PROMPTS = (
    "a white lighthouse on a rock in a blue sea at sunset",
    "a red sun over blue mountains",
    "night",
    "cactus",
    "mountains",
    "a lonely red cabin in the snow, beautiful, highly detailed",
    "sailboat",
    "zorblat quendish hills",
    "hot air balloons over the desert, masterpiece, 4k",
    "a yellow star on a purple background",
    "city at night",
    "an old windmill in green fields, morning light",
    "purple sea, orange sky",
    "a tent under the stars",
    "sunset",
    "blue",
)


def wanted(scenes: list[Scene]) -> np.ndarray:
    """Attributes that the full captions name, (N, attributes); -1 where one is not named."""
    table = np.array([list(labels(scene).values()) for scene in scenes])
    for column, name in enumerate(NAMES):
        if ATTRIBUTES[name][0] == "none":
            table[table[:, column] == 0, column] = -1
        if name == "size":
            table[table[:, column] == 1, column] = -1
    return table


def accuracy(read: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """Share of the named attributes that are read as asked: by attribute, by group, and the mean of the groups."""
    right, counts = (read == asked) & (asked >= 0), asked >= 0
    by_name = {n: float(right[:, i].sum() / counts[:, i].sum()) for i, n in enumerate(NAMES) if counts[:, i].any()}
    result = {}
    for group, names in GROUPS.items():
        columns = [NAMES.index(name) for name in names]
        if counts[:, columns].any():
            result[group] = float(right[:, columns].sum() / counts[:, columns].sum())
    result["mean"] = float(np.mean(list(result.values())))
    result["by_attribute"] = {name: round(value, 3) for name, value in by_name.items()}
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}


def psnr(a: Tensor, b: Tensor) -> float:
    return round(float(-10 * torch.log10(((a - b) ** 2).mean().clamp_min(1e-10))), 2)


def held_out_scenes(count: int) -> list[Scene]:
    """Three landscapes to one icon, none of whose combinations training has seen."""
    return [describe(20_000_000 + i, held_out=True, kind="icon" if i % 4 == 3 else "landscape") for i in range(count)]


def follows_prompts(room: Darkroom, judge, scenes: list[Scene], sheets: Path | None) -> tuple[dict, Tensor]:
    """Attribute accuracy of real and shuffled prompts, and of what previews show by step."""
    prompts, seeds = [full_caption(scene) for scene in scenes], list(range(len(scenes)))
    pictures, estimates = room.pictures(prompts, seeds)
    asked, read = wanted(scenes), classifier.read(judge, pictures)
    kinds = [type(scene).__name__ for scene in scenes]
    order, dice = np.arange(len(scenes)), random.Random(0)
    for kind in set(kinds):
        rows = [i for i, k in enumerate(kinds) if k == kind]
        order[rows] = dice.sample(rows, len(rows))
    previews = {}
    for step in (1, 3, 5, 10, 15, 20):
        if step <= len(estimates):
            shown = room.checkpoint.preview_prior(estimates[step - 1])
            previews[str(step)] = accuracy(classifier.read(judge, shown), asked)["mean"]
    if sheets:
        contact_sheet(list(to_bytes(pictures)), sheets / "held-out.png", titles=prompts)
        steps = [to_bytes(room.checkpoint.preview_prior(estimates[s - 1][:8])) for s in (1, 3, 5, 10, 20)]
        contact_sheet([p for row in steps for p in row], sheets / "previews.png", side_px=128)
    return {
        "real": accuracy(read, asked),
        "shuffled": accuracy(read, asked[order]),
        "previews_by_step": previews,
        "clip_score": room.clip_score(pictures, prompts),
    }, pictures


def reconstruction(room: Darkroom, count: int, sheets: Path | None) -> dict | None:
    """PSNR of Stage A alone and of encoder -> B -> A, on renders that training has not seen."""
    originals = to_tensor(np.stack([render(describe(30_000_000 + i)) for i in range(count)]))
    restored = room.restore(originals)
    if restored is None:
        return None
    if sheets:
        rows = [*to_bytes(originals[:8]), *to_bytes(restored[0][:8]), *to_bytes(restored[1][:8])]
        contact_sheet(rows, sheets / "reconstruction.png")
    return {"stage_a_db": psnr(restored[0], originals), "whole_db": psnr(restored[1], originals)}


def guidance_sweep(room: Darkroom, judge, scenes: list[Scene], sheets: Path | None) -> dict:
    prompts, seeds, result, rows = [full_caption(s) for s in scenes], list(range(len(scenes))), {}, []
    for scale in (1.0, 2.0, 4.0, 7.0):
        pictures, _ = room.pictures(prompts, seeds, setting=Setting(guidance=scale))
        result[f"{scale:g}"] = accuracy(classifier.read(judge, pictures), wanted(scenes))["mean"]
        rows += list(to_bytes(pictures[:8]))
    if sheets:
        contact_sheet(rows, sheets / "guidance.png")
    return result


def negative_prompt(room: Darkroom, judge, count: int, sheets: Path | None) -> dict:
    """How often an object has a colour nobody asked for, without and with a negative prompt that names it.

    Of the three colours that come most often by themselves, each against a negative prompt of its own; the shares add up.
    """
    prompts, seeds = ["a house in front of hills at noon"] * count, list(range(count))
    column = NAMES.index("object_colour")
    plain, _ = room.pictures(prompts, seeds)
    colours = classifier.read(judge, plain)[:, column]
    by_colour, rows = {}, [*to_bytes(plain[:8])]
    for common in np.bincount(colours, minlength=len(COLOURS)).argsort()[::-1][:3]:
        avoided, _ = room.pictures(prompts, seeds, against=[f"a {COLOURS[common]} house"] * count)
        after = classifier.read(judge, avoided)[:, column]
        shares = (float((colours == common).mean()), float((after == common).mean()))
        by_colour[COLOURS[common]] = [round(share, 3) for share in shares]
        rows += to_bytes(avoided[:8])
    if sheets:
        contact_sheet(rows, sheets / "negative.png")
    without, with_it = (round(sum(shares[i] for shares in by_colour.values()), 3) for i in (0, 1))
    return {"colours": by_colour, "without": without, "with": with_it}


def fewer_steps_and_bits(room: Darkroom, judge, scenes: list[Scene], first: Tensor, folder: Path) -> dict:
    """8+4 steps against 20+10, and bfloat16 against float32. bfloat16 on few: some CPUs have no quick kernels for it."""
    prompts, seeds = [full_caption(s) for s in scenes], list(range(len(scenes)))
    short, _ = room.pictures(prompts, seeds, setting=Setting(prior_steps=8, decoder_steps=4))
    half, _ = Darkroom(folder, dtype=torch.bfloat16).pictures(prompts[:2], seeds[:2])
    mean = accuracy(classifier.read(judge, short), wanted(scenes))["mean"]
    return {
        "steps_8_4": {"mean": mean, "psnr_db": psnr(short, first)},
        "bfloat16_psnr_db": psnr(half, first[: len(half)]),
    }


def seconds_per_picture(room: Darkroom) -> float:
    """Wall time of one picture at the default steps on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    room.pictures(["a red sun over blue mountains"], [0])
    begin = time.perf_counter()
    room.pictures(["a red sun over blue mountains"], [1])
    taken = time.perf_counter() - begin
    torch.set_num_threads(before)
    return round(taken, 2)


def day_and_night(room: Darkroom, judge, count: int) -> dict:
    """What the classifier reads off "... at night" and "... at noon"."""
    column, result = NAMES.index("time"), {}
    for when in ("night", "noon"):
        pictures, _ = room.pictures([f"mountains at {when}"] * count, list(range(count)))
        read = classifier.read(judge, pictures)[:, column]
        result[when] = round(float((read == ATTRIBUTES["time"].index(when)).mean()), 3)
    return result


def circles(room: Darkroom, count: int, sheets: Path | None) -> dict:
    """How round single circles are, on pictures and on renders of the same scenes."""
    icons = (describe(i, held_out=True, kind="icon") for i in itertools.count(50_000_000))
    scenes = list(itertools.islice((one for one in icons if one.shape == "circle" and one.relation is None), count))
    prompts = [full_caption(scene) for scene in scenes]
    pictures, _ = room.pictures(prompts, list(range(count)))
    if sheets:
        contact_sheet(list(to_bytes(pictures)), sheets / "circles.png", titles=prompts)
    made, drawn = [roundness(one) for one in to_bytes(pictures)], [roundness(render(scene)) for scene in scenes]
    return {
        "round": round(float(np.mean(made)), 3),
        "worst_tenth": round(float(np.quantile(made, 0.1)), 3),
        "renders": round(float(np.mean(drawn)), 3),
    }


def stars(room: Darkroom, count: int, sheets: Path | None) -> dict:
    """Share of a sky's stars that stand in night pictures, with "stars" in the prompt and without, and in renders with them."""
    views = (describe(i, kind="landscape") for i in itertools.count(60_000_000))
    nights = (one for one in views if one.time == "night" and one.sky_colour is None and not one.body)
    scenes = list(itertools.islice(nights, count))
    places = [(x, y) for x, y in STARS if y < STARS_ABOVE]
    result, rows = {}, []
    for name, weather in (("asked", ("stars",)), ("not_asked", ())):
        pictures, _ = room.pictures([full_caption(replace(s, weather=weather)) for s in scenes], list(range(count)))
        shown = list(to_bytes(pictures))
        rows += shown
        result[name] = [standing_out(one, places) for one in shown]
    result["renders"] = [standing_out(render(replace(s, weather=("stars",))), places) for s in scenes]
    if sheets:
        contact_sheet(rows, sheets / "stars.png")
    return {name: round(float(np.mean(shares)), 3) for name, shares in result.items()}


def free_sheet(room: Darkroom, prompts: list[str], path: Path, *, columns: int = 8) -> Tensor:
    pictures, _ = room.pictures(prompts, list(range(100, 100 + len(prompts))))
    contact_sheet(list(to_bytes(pictures)), path, columns=columns, titles=prompts)
    return pictures


def sixty_four(dice: random.Random) -> list[str]:
    """The committed sheet's prompts: the written ones, then captions of scenes nobody picked."""
    from cascade_app.training.captions import caption

    drawn = [caption(describe(40_000_000 + i), dice, explicit=0.6) for i in range(64 - len(FREE_PROMPTS))]
    return [*FREE_PROMPTS, *drawn]


def evaluate(folder: Path, work: Path, *, count: int, sheets: Path | None) -> dict:
    room, judge = Darkroom(folder), classifier.load(work)
    scenes = held_out_scenes(count)
    followed, pictures = follows_prompts(room, judge, scenes, sheets)
    print("held_out", followed, file=sys.stderr, flush=True)
    few = max(8, count // 4)
    result = {"checkpoint": folder.name, "prompts": count, "held_out": followed}
    groups = {
        "classifier_on_renders": lambda: {k: round(v, 3) for k, v in classifier.own_accuracy(judge).items()},
        "reconstruction": lambda: reconstruction(room, few, sheets),
        "seconds_per_picture": lambda: seconds_per_picture(room),
        "guidance": lambda: guidance_sweep(room, judge, scenes[:few], sheets),
        "negative_prompt": lambda: negative_prompt(room, judge, max(24, few), sheets),
        "circles": lambda: circles(room, few, sheets),
        "stars": lambda: stars(room, few, sheets),
        "night_and_noon": lambda: day_and_night(room, judge, 8),
        "fewer": lambda: fewer_steps_and_bits(room, judge, scenes[:few], pictures[:few], folder),
    }
    for name, group in groups.items():
        result[name] = group()
        print(name, result[name], file=sys.stderr, flush=True)
    if sheets:
        free_sheet(room, sixty_four(random.Random(0)), sheets / "sheet-64.png")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_work_dir_argument(parser)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--count", type=int, default=128, help="held-out prompts (default 128)")
    parser.add_argument("--sheets", type=Path, help="where contact sheets go (default: the work dir's evaluation/)")
    parser.add_argument(
        "--prompts", type=Path, help="a text file, one prompt a line: only these, with a sheet and CLIP score"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = work_dir(arguments.work_dir)
    sheets = arguments.sheets or work / "evaluation"
    if arguments.prompts:
        prompts = [line.strip() for line in arguments.prompts.read_text().splitlines() if line.strip()]
        room = Darkroom(arguments.checkpoint)
        pictures = free_sheet(room, prompts, sheets / "prompts.png")
        result = {
            "checkpoint": arguments.checkpoint.name,
            "prompts": len(prompts),
            "clip_score": room.clip_score(pictures, prompts),
        }
    else:
        if not (work / "final" / "classifier.pt").exists():
            classifier.train(work, minutes=6)
        result = evaluate(arguments.checkpoint, work, count=arguments.count, sheets=sheets)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
