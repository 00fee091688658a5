"""README.md says what is true: its derived parts are up to date, and it names every module and every setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cascade_app.cli import build_parser
from cascade_app.readme import BEGIN, END, module_list, modules, with_modules, written
from cascade_app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_derived_parts_are_up_to_date():
    assert written(ROOT) == README, "run `make readme`"


def test_every_module_is_named():
    names = [path.relative_to(ROOT / "cascade_app").as_posix() for path in modules(ROOT)]
    assert [name for name in names if f"`{name}`" not in README] == []


def test_every_setting_is_in_the_table_with_its_default():
    source = (ROOT / "cascade_app" / "settings.py").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(CASCADE_[A-Z_]+)` \| .* \| `([^`]*)` \|$", README, flags=re.MULTILINE))
    assert set(rows) == set(re.findall(r'"(CASCADE_[A-Z_]+)"', source))
    defaults = Settings.from_env({})
    for name, shown in rows.items():
        attribute = name.removeprefix("CASCADE_").lower()
        value = getattr(defaults, attribute if hasattr(defaults, attribute) else f"{attribute}_bytes")
        assert shown == ("0" if value is False else str(value).replace(str(Path.home()), "~")), name


def test_the_commands_shown_are_understood():
    commands = re.findall(r"^    \.venv/bin/python -m cascade_app (.*)$", README, flags=re.MULTILINE)
    assert commands
    for command in commands:
        words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', command)]
        build_parser().parse_args(words)


def test_links_to_files_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_makefile_has_what_the_readme_names():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for goal in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert re.search(rf"^{goal}:", makefile, flags=re.MULTILINE) or goal in ("the", "it", "them"), goal


def test_module_list(tmp_path: Path):
    files = {"plan.py": '"""Plans.\n\nMore."""', "ui/__init__.py": "", "ui/form.py": '"""Forms."""', "a.py": ""}
    for name, text in files.items():
        path = tmp_path / "cascade_app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    listed = module_list(modules(tmp_path), tmp_path)
    assert listed == (
        "**`cascade_app/`**\n\n- `a.py`: no description yet.\n- `plan.py`: Plans.\n"
        "\n**`cascade_app/ui/`**\n\n- `ui/form.py`: Forms.\n"
    )
    readme = f"above\n{BEGIN}old\n{END}below\n"
    assert with_modules(readme, listed) == f"above\n{BEGIN}\n{listed}\n{END}below\n"
    assert with_modules(with_modules(readme, listed), listed) == with_modules(readme, listed)


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="marks"):
        with_modules("# Hello", "")
