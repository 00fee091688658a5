"""The pictures of one browser session: what the page remembers of each, and how it names their files. Pure.

Only references are kept, never pixels: the saved PNG is the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cascade_app.events import ImageSaved
from cascade_app.request import GenerationRequest
from cascade_app.ui import markup

FILE_ROUTE = "gradio_api/file="  # relative, so that the page also works under a proxy's prefix


@dataclass(frozen=True)
class Picture:
    """A saved picture. `request` makes this one picture again; `total_s` is the whole run's time."""

    path: str
    request: GenerationRequest
    total_s: float = 0.0

    @property
    def url(self) -> str:
        return FILE_ROUTE + quote(self.path)

    @property
    def ratio(self) -> float:
        return self.request.width / self.request.height


def picture_of(event: ImageSaved) -> Picture:
    """What to remember of a picture that was just saved."""
    return Picture(path=str(event.path), request=event.record.request)


def details(picture: Picture) -> list[str]:
    """The settings worth reading under a picture, shortest first to be understood."""
    request = picture.request
    lines = [
        f"{request.width} x {request.height} px",
        f"seed {request.seed}",
        f"{request.prior_steps} + {request.decoder_steps} steps",
        f"guidance {_strength(request.prior_guidance)} / {_strength(request.decoder_guidance)}",
        request.sampler,
    ]
    if picture.total_s:
        lines.append(f"{picture.total_s:.1f} s")
    return lines


def _strength(guidance: float) -> str:
    return f"{guidance:g}" if guidance > 1 else "off"


def row(pictures: Sequence[Picture], chosen: int | None) -> str:
    """The thumbnails of the session."""
    thumbnails = [
        markup.Thumbnail(url=one.url, caption=f"seed {one.request.seed}", alt=one.request.prompt) for one in pictures
    ]
    return markup.session_row(thumbnails, chosen)


def facts(picture: Picture) -> str:
    """The settings and actions of one picture."""
    return markup.facts(
        title=picture.request.prompt, details=details(picture), url=picture.url, filename=Path(picture.path).name
    )


def on_easel(picture: Picture) -> markup.Easel:
    """One finished picture, alone and large."""
    request = picture.request
    done = (
        markup.StageMark("done", request.prior_steps, request.prior_steps),
        markup.StageMark("done", request.decoder_steps, request.decoder_steps),
        markup.StageMark("done", 1, 1),
    )
    clock = f"made in {picture.total_s:.1f} s" if picture.total_s else ""
    return markup.Easel(
        state="done",
        ratio=picture.ratio,
        prints=(markup.Print(src=picture.url, alt=request.prompt),),
        marks=done,
        headline=f"Developed, seed {request.seed}",
        clock=clock,
        fraction=1.0,
        link=picture.url,
    )
