"""Trains Stage C: from words (and pictures) to the 16x6x6 latent, together with the text encoder.

    python -m cascade_app.training.stage_c --minutes 90

The network predicts x0; besides being near the true latents, its guess has to tell the scene's attributes to the
reader that the encoder was trained with, so that what the words say weighs more than the outlines of hills.
Conditioning is drawn a sample: mostly a caption; sometimes a picture's CLIP embedding with or without one; sometimes
nothing, which is what guidance moves away from. The text tower keeps facing the (fixed) image tower through a small
contrastive loss.

With --refine it meets its own guesses (guesses.py), and what they look like counts too: in latents all errors of a size are
alike, to an eye a dented sun is worse than a paler sky. (Losses on decoded features: Berrada et al. 2024, "Boosting Latent
Diffusion with Perceptual Objectives".)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cascade_app.diffusion import sampler
from cascade_app.diffusion.conditioning import encode_prompts
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.schedule import CosineSchedule, add_noise
from cascade_app.training import clip
from cascade_app.training import encoder as encoders
from cascade_app.training import reader as readers
from cascade_app.training.attributes import AttributeHead, attribute_loss, label_table
from cascade_app.training.captions import can_be_short, is_one_word, is_plain
from cascade_app.training.data import Pictures
from cascade_app.training.export import GUIDANCE, PRIOR_STEPS, unpack
from cascade_app.training.guesses import Rows, Taken, with_guesses
from cascade_app.training.latents import LatentCache, fingerprint, with_more
from cascade_app.training.loop import (
    BucketWeights,
    Part,
    autocast,
    high_ratios,
    pick_device,
)
from cascade_app.training.sheets import contact_sheet
from cascade_app.training.stage_a import to_bytes
from cascade_app.training.unets import PRIOR, new_schedule, new_unet, stage_parser, train_stage
from cascade_app.training.workdir import keep, work_dir
from cascade_app.training.world import ATTRIBUTES, DATA_VERSION, Icon, describe

# Weights of the attributes read from x0 and from the pooled text. The sun's place is three per cent of a latent's variance
# and drowns in the outlines of hills: at 0.2 it was still at chance after 5,000 steps, though the text tower knew it.
# When they are read well (`refine`) they weigh less: a reader can be pleased by what an eye is not.
READING, READING_LATER, TEXT_READING = 0.8, 0.3, 0.1
# A refining run's own reader of texts knows nothing at first and would unsettle a tower that is read well already.
TEXT_READING_LATER = 0.02
# Share of captions that name every attribute; later half, as people write.
EXPLICIT, EXPLICIT_LATER = 0.85, 0.5
MORE_ICONS = 0.25  # share of samples that are replaced by icons: their shapes are learnt last
ONE_WORD = 1500  # icons drawn besides, when refining, for which one word can stand: by chance there are 5 in 1,000 pictures
MORE_SHORT = 0.2  # share that is replaced, when refining, by scenes which a word or two can stand for
# Upper borders of the share of samples that get: nothing; a picture; a picture and a caption. The rest get a caption.
NOTHING, PICTURE, BOTH = 0.10, 0.18, 0.24
LOOKS = 20.0  # weight of the previews' absolute differences
# Above this ratio it is open what the picture will show, and the nearest picture to all of them is none of them.
LOOKED_BELOW = 0.65
# Of guesses made earlier than that the target may be another picture.
TAKEN = Taken(share=0.85, below=0.5, earliest=LOOKED_BELOW)
LOOKED = 6  # samples a step that are looked at: each costs as much as two of the network's own
SHOW_PROMPTS = (
    "a white lighthouse on a rock in a blue sea at sunset",
    "a red sun over blue mountains",
    "night",
    "a green cactus on the left in a desert at noon",
    "a red tent on the right in a snowfield at night, stars",
    "a yellow hot air balloon over a city skyline at dawn",
    "a red circle above a blue square on a yellow background",
    "a green star beside a purple triangle on a white background",
    "a pink house on the left in front of green hills at noon, a sun on the right",
    "a brown windmill on the right in front of purple hills at dusk",
    "an orange sailboat in the centre on the teal sea at dawn",
    "pine trees in front of mountains at night, a white moon on the left",
    "a large orange diamond on a teal background",
    "beautiful highly detailed cabin in the snow",
    "",
    "a black cabin on the left in an orange desert at sunset, a red sun on the right, birds",
)


@torch.no_grad()
def image_embeddings(data: Pictures, work: Path, image_encoder: nn.Module, device: torch.device) -> Tensor:
    """CLIP embeddings of the square pictures, (N, P) float32; kept on disk."""
    path = work / "latents" / f"clip-v{DATA_VERSION}-{fingerprint(image_encoder)}-{data.count}.npy"
    if path.exists():
        return torch.from_numpy(np.load(path)).to(device)
    small = clip.small_pictures(data, work)
    parts = []
    for start in range(0, len(small), 256):
        pixels = torch.from_numpy(small[start : start + 256].copy()).permute(0, 3, 1, 2).float().to(device) / 255
        with autocast(device):
            parts.append(image_encoder(clip.normalised(pixels)).image_embeds.float())
    path.parent.mkdir(exist_ok=True)
    keep(path, torch.cat(parts).cpu().numpy())
    return torch.cat(parts)


def one_word_indices(start: int, wanted: int) -> list[int]:
    """The first `wanted` training scenes from `start` on that are icons for which one word can stand."""
    found: list[int] = []
    while len(found) < wanted:
        if is_one_word(describe(start)):
            found.append(start)
        start += 1
    return found


def short_rows(indices: np.ndarray) -> list[np.ndarray]:
    """The rows of scenes which a word or two can stand for, in kinds that are drawn alike: landscapes, icons, and plain icons.

    Of the last there are so few that "circle" gave an empty background. Kinds without any are left out.
    """
    kinds: tuple[list[int], ...] = ([], [], [])
    for row, index in enumerate(indices):
        scene = clip.scene_of(int(index))
        if can_be_short(scene):
            kinds[isinstance(scene, Icon) and 1 + is_plain(scene)].append(row)
    return [np.array(rows) for rows in kinds if rows]


def look_loss(previewer: nn.Module, guess: Tensor, x0: Tensor, ratios: Tensor) -> Tensor:
    """How far the previews of some guesses (B, 16, h, w) are from those of `x0`, edges first; 0 where none is judged."""
    rows = torch.nonzero(ratios < LOOKED_BELOW)[:LOOKED, 0]
    if not len(rows):
        return guess.new_zeros(())
    with torch.no_grad():
        wanted = previewer(x0[rows]).float()
    return ((previewer(guess[rows]).float() - wanted).abs() * encoders.contrast_weight(wanted)).mean()


@torch.no_grad()
def sample_latents(
    modules: dict[str, nn.Module],
    tokenizer,
    prompts: list[str],
    *,
    schedule: CosineSchedule,
    device: torch.device,
    shape: tuple[int, int] = (6, 6),
    steps: int = PRIOR_STEPS,
    guidance: float = GUIDANCE,
) -> Tensor:
    """A quick deterministic look at what Stage C does while it trains: prompts to (B, 16, *shape)."""
    count = len(prompts)
    text = encode_prompts(tokenizer, modules["text_encoder"], [*prompts, *[""] * count])
    x = torch.randn(count, 16, *shape, generator=torch.Generator().manual_seed(1)).to(device)
    none = torch.zeros(2 * count, 1, clip.PROJECTION, device=device)
    ratios = schedule.ratios(steps).to(device)

    def predict(latents: Tensor, step: int) -> Tensor:
        output = modules["prior"](
            torch.cat([latents, latents]),
            ratios[step].expand(2 * count),
            text.prompt_embeds_pooled,
            clip_text=text.prompt_embeds,
            clip_img=none,
        ).sample.float()
        return Guidance(guidance).combine(output[:count], output[count:])

    *_, last = sampler.sample(predict, x, schedule, steps=steps, sampler="ddim", generators=[])
    return last.latents


def build(
    data: Pictures,
    work: Path,
    device: torch.device,
    *,
    batch: int = 32,
    count: int = 16000,
    refine: bool = False,
    sample_path: Path | None = None,
) -> Part:
    tokenizer, text_encoder, image_encoder = clip.load(work, device)
    encoder, previewer = encoders.load(work, device)
    more = one_word_indices(count, ONE_WORD) if refine else ()
    targets = LatentCache(work, "encoder", encoder, data=data, count=count, device=device, more=more)
    images = image_embeddings(data, work, image_encoder, device)
    schedule = new_schedule()
    tables, weights = {shape: label_table(indices) for shape, indices in targets.indices.items()}, BucketWeights()
    modules = {
        "prior": new_unet(PRIOR).to(device).train(),
        "text_encoder": text_encoder.train(),
        "text_reader": AttributeHead(clip.PROJECTION).to(device),
    }
    scale, reader = torch.tensor(20.0), readers.load(work, device)
    background = list(ATTRIBUTES).index("background")
    icons = {shape: np.flatnonzero(table[:, background] >= 0) for shape, table in tables.items() if len(table)}
    short = {shape: short_rows(indices) for shape, indices in (targets.indices if refine else {}).items()}

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        shape, rows = targets.pick(rng, batch, square=0.85)
        rows = with_more(rows, icons[shape], MORE_ICONS, rng)
        brief = np.zeros(len(rows), dtype=bool)
        if refine and short[shape]:
            brief = rng.random(len(rows)) < MORE_SHORT
            kinds = rng.integers(len(short[shape]), size=len(rows))
            rows = np.where(brief, [rng.choice(short[shape][kind]) for kind in kinds], rows)
            order = np.argsort(rows, kind="stable")
            rows, brief = rows[order], brief[order]
        indices, x0 = targets.indices[shape][rows], targets.get(shape, rows)
        dice = torch.from_numpy(rng.random(len(rows)))
        captions = np.array(
            clip.captions_of(indices, rng, explicit=EXPLICIT_LATER if refine else EXPLICIT), dtype=object
        )
        captions[brief] = clip.captions_of(indices[brief], rng, explicit=0)
        prompts = [text if u >= PICTURE else "" for text, u in zip(captions, dice.tolist())]
        picture = images.new_zeros(len(rows), 1, clip.PROJECTION)
        known = torch.from_numpy(rows < len(images)) & (shape == (6, 6))
        shown = known & (dice >= NOTHING) & (dice < BOTH)
        picture[shown, 0] = images[torch.from_numpy(rows)[shown]]
        ratios = high_ratios(len(rows), rng, even=0.6 if refine else 0.3).to(device)
        with autocast(device):
            text = encode_prompts(tokenizer, modules["text_encoder"], prompts)

            def guessed(noisy: Tensor, ratios: Tensor, chosen: Rows) -> Tensor:
                pooled, words = text.prompt_embeds_pooled[chosen], text.prompt_embeds[chosen]
                return modules["prior"](noisy, ratios, pooled, clip_text=words, clip_img=picture[chosen]).sample

            source = with_guesses(x0, ratios, guessed, schedule=schedule, rng=rng, taken=TAKEN) if refine else x0
            noisy = add_noise(source, torch.randn_like(x0), schedule.alpha_cumprod(ratios))
            guess = guessed(noisy, ratios, slice(None))
            said = torch.tensor([bool(prompt) for prompt in prompts])
            wanted = torch.where(said[:, None], torch.from_numpy(tables[shape][rows]), -1).to(device)
            pooled = text.prompt_embeds_pooled[:, 0]
            reading, accuracy = attribute_loss(modules["text_reader"](pooled), wanted)
        errors = ((guess.float() - x0) ** 2).mean(dim=(1, 2, 3))
        total = weights(errors, ratios) + (TEXT_READING_LATER if refine else TEXT_READING) * reading
        numbers = {"mse": float(errors.mean().detach()), "read": accuracy, "seen": 0.0}
        if reader is not None:
            seen, numbers["seen"] = attribute_loss(reader(guess.float()), wanted)
            total = total + (READING_LATER if refine else READING) * seen
        if refine:
            with autocast(device):
                look = look_loss(previewer, guess.float(), x0, ratios)
            total, numbers["look"] = total + LOOKS * look, float(look.detach())
        facing = known & said
        if int(facing.sum()) > 4:
            total = total + 0.02 * clip.contrastive(pooled[facing], images[torch.from_numpy(rows)[facing]], scale)[0]
        return total, numbers

    def sample(ema: dict[str, nn.Module]) -> None:
        with autocast(device):
            latents = sample_latents(ema, tokenizer, list(SHOW_PROMPTS), schedule=schedule, device=device)
        if sample_path:
            contact_sheet(to_bytes(previewer(latents)), sample_path, columns=4, titles=SHOW_PROMPTS)

    rate = 0.5 if refine else 1.0
    return Part(
        "stage_c",
        modules,
        loss,
        muon_lr=0.02 * rate,
        adam_lr=2e-3 * rate,
        slow={"text_encoder": 0.4},
        weights=weights,
        sample=sample,
        plain=("embedding", "mapper", "clf", "projection", "reader"),
    )


def main() -> None:
    parser = stage_parser(__doc__, minutes=90, latents=16000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    if arguments.init_from:
        unpack(arguments.init_from, work)
    data = Pictures(work, arguments.pictures)
    sample_path = work / "samples" / "stage_c.png"
    part = build(data, work, device, count=arguments.latents, refine=arguments.refine, sample_path=sample_path)
    train_stage(part, work, arguments, kept={"prior": "stage_c", "text_encoder": "text_encoder_c"})


if __name__ == "__main__":
    main()
