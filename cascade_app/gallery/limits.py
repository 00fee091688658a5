"""How much the gallery keeps, and what goes when it is more: the policy and its words. Pure.

Each visitor has a limit of pictures and bytes, and all of them together. What is longest in the trash goes first, then the
oldest; favourites never go. Knows nothing of files or rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cascade_app.errors import GalleryFull
from cascade_app.gallery.item import Usage
from cascade_app.settings import Settings

DAY_S = 86_400.0


@dataclass(frozen=True)
class Limits:
    """Pictures and bytes, for one visitor and for all; 0 is no limit. `trash_s` is how long the trash is kept.

    disk_free_bytes: what is left free of the disk, whatever the gallery may have.
    """

    visitor_pictures: int = 0
    visitor_bytes: int = 0
    all_pictures: int = 0
    all_bytes: int = 0
    trash_s: float = 30 * DAY_S
    disk_free_bytes: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            settings.gallery_pictures, settings.gallery_bytes, settings.gallery_all_pictures, settings.gallery_all_bytes,
            settings.gallery_trash_days * DAY_S, settings.disk_free_bytes,
        )  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A picture that may go."""

    visitor: str
    id: str
    name: str
    n_bytes: int
    favourite: bool
    deleted: bool


Candidates = Callable[[str], Iterable[Candidate]]  # a visitor, or "" for all -> who goes first


@dataclass(frozen=True)
class Departure:
    """What would go for good to make room, of the visitor's own pictures. `sentence` is "" where nothing would.

    fits: False where even that would not be enough, because only favourites are left.
    """

    ids: tuple[str, ...] = ()
    pictures: int = 0
    n_bytes: int = 0
    sentence: str = ""
    fits: bool = True


def to_go(
    visitor: str, limits: Limits, *, pictures: int, n_bytes: int, used: Usage, used_by_all: Usage, candidates: Candidates
) -> list[Candidate]:
    """Who has to go so that `pictures` more of `n_bytes` together fit for `visitor`.

    Raises:
        GalleryFull: even without all of them it would not fit.
    """
    gone = _until_it_fits(
        candidates(visitor), pictures=used.pictures + pictures - (limits.visitor_pictures or float("inf")),
        n_bytes=used.n_bytes + n_bytes - (limits.visitor_bytes or float("inf")), whose="Your gallery", limits=limits,
    )  # fmt: skip
    seen = {(one.visitor, one.id) for one in gone}
    rest = (one for one in candidates("") if (one.visitor, one.id) not in seen)
    return gone + _until_it_fits(
        rest, pictures=used_by_all.pictures - len(gone) + pictures - (limits.all_pictures or float("inf")),
        n_bytes=used_by_all.n_bytes - sum(one.n_bytes for one in gone) + n_bytes - (limits.all_bytes or float("inf")),
        whose="The gallery of this server", limits=limits,
    )  # fmt: skip


def _until_it_fits(
    candidates: Iterable[Candidate], *, pictures: float, n_bytes: float, whose: str, limits: Limits
) -> list[Candidate]:
    """The first of `candidates` that free as many `pictures` and `n_bytes`."""
    gone: list[Candidate] = []
    if pictures <= 0 and n_bytes <= 0:
        return gone
    for one in candidates:
        gone.append(one)
        pictures, n_bytes = pictures - 1, n_bytes - one.n_bytes
        if pictures <= 0 and n_bytes <= 0:
            return gone
    mine = whose == "Your gallery"
    most, most_bytes = (
        (limits.visitor_pictures, limits.visitor_bytes) if mine else (limits.all_pictures, limits.all_bytes)
    )
    raise GalleryFull(
        f"{whose} is full ({words(most, most_bytes)}) and only favourites are left, which are never removed. "
        f"{'Delete some, or take the star off some, to make room.' if mine else 'Nothing more can be kept for now.'}"
    )


def check_disk(free_bytes: int, n_bytes: int, limits: Limits) -> None:
    """Whether `n_bytes` more may be written where so much is free.

    Raises:
        GalleryFull: less would be left than is kept free.
    """
    if limits.disk_free_bytes and free_bytes - n_bytes < limits.disk_free_bytes:
        raise GalleryFull(
            f"The disk of this server is nearly full: {size(free_bytes)} are free, and {size(limits.disk_free_bytes)} stay so. "
            "Nothing more can be kept until whoever runs it makes room."
        )


def departure(going: Iterable[Candidate], visitor: str) -> Departure:
    """What `visitor` is told about it: of others' pictures nothing."""
    mine = [one for one in going if one.visitor == visitor]
    if not mine:
        return Departure()
    trashed, n_bytes = sum(one.deleted for one in mine), sum(one.n_bytes for one in mine)
    parts = [f"{trashed} from the trash"] * bool(trashed)
    if oldest := len(mine) - trashed:
        parts.append(f"the {'oldest one' if oldest == 1 else f'{oldest} oldest'} without a star")
    sentence = f"The gallery is nearly full: to make room, {' and '.join(parts)} ({size(n_bytes)}) will be removed for good."
    return Departure(tuple(one.id for one in mine), len(mine), n_bytes, sentence)


def words(pictures: int, n_bytes: int) -> str:
    """A limit, as a sentence may say it."""
    return " and ".join([f"{pictures:,} pictures"] * bool(pictures) + [size(n_bytes)] * bool(n_bytes)) or "no limit"


def size(n_bytes: int) -> str:
    """Bytes as people say them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes} bytes"
