"""The parts of README.md that are made from other files: `python -m cascade_app.readme` writes them.

The front matter comes from the Spacefile, the list of modules from the first line of each module's docstring. Reads
source as text: it imports none of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from cascade_app.spacefile import with_front_matter

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- modules: written by `make readme` -->\n"
END = "<!-- end of modules -->\n"


def modules(root: Path) -> list[Path]:
    """Every module of the package, top files first, then room by room."""
    package = root / "cascade_app"
    paths = (path for path in package.rglob("*.py") if path.name != "__init__.py")
    return sorted(paths, key=lambda path: (path.parent != package, path.relative_to(package).as_posix()))


def module_list(paths: Iterable[Path], root: Path) -> str:
    """One line a module: where it is, and what it says it is."""
    lines, room = [], None
    for path in paths:
        name = path.relative_to(root / "cascade_app")
        if name.parent != room:
            room = name.parent
            lines.append(f"\n**`cascade_app/{'' if room == Path('.') else f'{room.as_posix()}/'}`**\n")
        lines.append(f"- `{name.as_posix()}`: {_first_line(path)}")
    return "\n".join([*lines, ""]).lstrip("\n")


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].strip() or "no description yet."


def with_modules(readme: str, listed: str) -> str:
    """`readme` with the list between its two marks replaced.

    Raises:
        ValueError: a mark is missing.
    """
    before, found, rest = readme.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"README.md lacks one of its marks: {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + "\n" + listed + "\n" + END + after


def written(root: Path) -> str:
    """README.md as it should be."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    readme = with_front_matter(readme, (root / "Spacefile").read_text(encoding="utf-8"))
    return with_modules(readme, module_list(modules(root), root))


if __name__ == "__main__":
    (ROOT / "README.md").write_text(written(ROOT), encoding="utf-8")
