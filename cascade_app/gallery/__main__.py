"""The gallery's index made again from the files alone: `python -m cascade_app.gallery`. Safe while the page is served."""

from __future__ import annotations

import sys

from cascade_app.errors import CascadeError
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.limits import Limits
from cascade_app.settings import Settings


def main() -> int:
    """Rebuild and say what was found. Returns the exit status: 0, or 2 with a sentence."""
    try:
        settings = Settings.from_env()
        gallery = Gallery(settings.data_dir / "pictures", Limits.of(settings))
        gallery.open()
        found = gallery.rebuild()
    except CascadeError as error:
        print(error.message, file=sys.stderr)
        return 2
    gallery.close()
    left = f"; {len(found.unreadable)} files hold no record that can be read and were left alone" if found.unreadable else ""
    print(f"{found.added} pictures are in the gallery{left}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
