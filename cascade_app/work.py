"""What of the cascade a run goes through, and where each of its images comes from. Plain values, made by `explore.py`."""

from __future__ import annotations

from dataclasses import dataclass

from cascade_app.negative import Negative, Start

# What made a record, in the photographer's words of the page.
ACTIONS = ("generate", "sketch", "develop", "vary", "blend", "words", "grid")


@dataclass(frozen=True)
class Origin:
    """Where one image of a run comes from.

    seed: its own; it seeds Stage C's noise (unless `start` brings another) and always Stage B's.
    start: how Stage C begins, where not plainly.
    negative: given, Stage C is not run: this is developed. `start` then only says how it came about.
    parents: ids of the records it comes from; one for a develop or a vary, two for a blend.
    made_by: the checkpoint digest of what `negative` or `start.source` was taken from; "" where that is not known.
    """

    seed: int
    action: str = "generate"
    parents: tuple[str, ...] = ()
    start: Start | None = None
    negative: Negative | None = None
    made_by: str = ""


@dataclass(frozen=True)
class Work:
    """A run's share of the cascade. The default is the whole of it, from the request's seed on.

    sketch: stop after Stage C; the images are the previewer's pictures of the negatives.
    origins: one an image, in place of `request.images` plain seeds. Either all of them bring a negative or none does.
    """

    sketch: bool = False
    origins: tuple[Origin, ...] = ()

    @property
    def develops(self) -> bool:
        """Whether Stage C is left out."""
        return bool(self.origins) and all(origin.negative is not None for origin in self.origins)


WHOLE = Work()
