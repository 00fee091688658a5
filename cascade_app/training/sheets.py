"""Contact sheets: many pictures on one PNG for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def contact_sheet(
    pictures: Sequence[np.ndarray],
    path: Path,
    *,
    columns: int = 8,
    side_px: int = 192,
    titles: Sequence[str] | None = None,
) -> Path:
    """Lay (H, W, 3) uint8 pictures out in rows, each fitted into a square of `side_px`, with an optional line of text."""
    line_px = 24 if titles else 0
    rows = -(-len(pictures) // columns)
    gap = 4
    sheet = Image.new("RGB", (columns * (side_px + gap) + gap, rows * (side_px + line_px + gap) + gap), (24, 24, 28))
    pen = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = gap + (i % columns) * (side_px + gap), gap + (i // columns) * (side_px + line_px + gap)
        image = Image.fromarray(np.ascontiguousarray(picture))
        image.thumbnail((side_px, side_px), Image.LANCZOS)
        if max(image.size) < side_px:
            scale = side_px / max(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.LANCZOS)
        sheet.paste(image, (x + (side_px - image.width) // 2, y + (side_px - image.height) // 2))
        if titles:
            for k, part in enumerate((titles[i][:34], titles[i][34:68])):
                pen.text((x, y + side_px + 1 + 11 * k), part, fill=(220, 220, 220))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    sheet.save(temporary, format="PNG")
    temporary.replace(path)
    return path
