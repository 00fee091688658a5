"""What a Space of one's own is made of: its files, its variables, and the calls to the hub that put them there.

Reads the repository's files and decides everything; it knows what the hub's functions are called and never calls one.
`deploy_command.py` does, or prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CascadeError, InvalidRequest
from cascade_app.licenses import ASKING
from cascade_app.spacefile import SUGGESTED_HARDWARE, front_matter

ROOT = Path(__file__).resolve().parent.parent
ZERO_GPU = "zero-a10g"
ZERO_GPU_PYTHON = "3.12.12"  # one of the two that ZeroGPU has

# What runs, and nothing else: `*` goes across folders. tests/test_space.py holds this against what app.py imports.
SHIPPED = ("app.py", "LICENSE", "examples/*.txt", "assets/*", "cascade_app/*.py")
LEFT_OUT = (
    "*/.*", "*.pyc", "assets/sheets/*", "assets/screenshot*", "assets/pocket/README.md", "assets/pocket/evaluation.json",
    "cascade_app/training/*", "cascade_app/bench/*", "*/__main__.py", "cascade_app/cli.py",
    "cascade_app/*_command.py", "cascade_app/readme.py", "cascade_app/space.py", "cascade_app/spacefile.py",
    "cascade_app/serving/sizing.py", "cascade_app/diffusion/effnet.py",
)  # fmt: skip


class Secret(str):
    """A value that is never shown."""

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class Call:
    """A function of the hub's API and its arguments."""

    name: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


@dataclass(frozen=True)
class Space:
    """A Space as it should be.

    Attributes:
        name: OWNER/NAME.
        files: path in the Space -> a file of this machine, or the content itself.
        variables: what anyone may read. `secrets`: what nobody may.
    """

    name: str
    hardware: str
    private: bool
    files: Mapping[str, Path | bytes]
    variables: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)

    def create(self) -> list[Call]:
        """The calls where there is no such Space yet."""
        arguments = {
            "repo_id": self.name, "repo_type": "space", "space_sdk": "gradio", "space_hardware": self.hardware,
            "space_variables": [{"key": key, "value": value} for key, value in self.variables.items()],
            "space_secrets": [{"key": key, "value": Secret(value)} for key, value in self.secrets.items()],
            "private": self.private,
        }  # fmt: skip
        return [Call("create_repo", arguments)]

    def update(self, hardware: str | None = None) -> list[Call]:
        """The calls where there is one: the hub would ignore what `create_repo` says of it.

        Args:
            hardware: what it was last asked to run on; asking for the same again would only restart it.
        """
        variables = [
            Call("add_space_variable", {"repo_id": self.name, "key": key, "value": value})
            for key, value in self.variables.items()
        ]
        secrets = [
            Call("add_space_secret", {"repo_id": self.name, "key": key, "value": Secret(value)})
            for key, value in self.secrets.items()
        ]
        other = Call("request_space_hardware", {"repo_id": self.name, "hardware": self.hardware})
        return [*variables, *secrets, *([] if hardware == self.hardware else [other])]

    def upload(self, folder: Path | str, version: str) -> Call:
        """The call that makes the Space's files those of `folder`, where `write` has put them."""
        arguments = {
            "repo_id": self.name, "repo_type": "space", "folder_path": str(folder), "delete_patterns": "*",
            "commit_message": f"Cascade Studio {version}",
        }  # fmt: skip
        return Call("upload_folder", arguments)

    def write(self, folder: Path) -> None:
        """Put the files into `folder`, as they are to be on the Space.

        Raises:
            CascadeError: one cannot be read, or the disk is full.
        """
        try:
            for name, content in self.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        except OSError as error:
            raise CascadeError(f"The Space's files cannot be put together: {error.strerror}. Make room and try again.") from error

    def sizes(self) -> dict[str, int]:
        """Path in the Space -> bytes."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }


def shipped_files(root: Path) -> list[str]:
    """Those files of the repository that run on a Space, as they are; with `/`, sorted."""
    top = {pattern.partition("/")[0] for pattern in SHIPPED}
    names = [
        path.relative_to(root).as_posix()
        for start in sorted(top)
        for path in ([root / start] if (root / start).is_file() else sorted((root / start).rglob("*")))
        if path.is_file()
    ]
    return sorted(
        name
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in SHIPPED)
        and not any(fnmatchcase(name, pattern) for pattern in LEFT_OUT)
    )


def space_files(root: Path, spec: CheckpointSpec, hardware: str, *, sign_in: bool = False) -> dict[str, Path | bytes]:
    """All files of the Space: those shipped as they are, and the two that are made for its hardware.

    Args:
        sign_in: the hub is to tell the Space who its visitors are, once they agree.

    Raises:
        InvalidRequest: `root` holds no repository.
    """
    requirements = root / ("requirements-zerogpu.txt" if hardware == ZERO_GPU else "requirements.txt")
    spacefile = root / "Spacefile"
    missing = [path.name for path in (root / "app.py", requirements, spacefile) if not path.is_file()]
    if missing:
        raise InvalidRequest(
            f"{missing[0]} is not beside the package: a Space is made from the repository. Run this in a copy of it."
        )
    files: dict[str, Path | bytes] = {name: root / name for name in shipped_files(root)}
    files["README.md"] = space_readme(spacefile.read_text(encoding="utf-8"), spec, hardware, sign_in=sign_in).encode()
    files["requirements.txt"] = requirements
    return dict(sorted(files.items()))


def space_readme(spacefile: str, spec: CheckpointSpec, hardware: str, *, sign_in: bool = False) -> str:
    """README.md of the Space: the front matter the hub reads, and what a visitor of its files should know."""
    changed: dict[str, Any] = {"suggested_hardware": hardware if hardware in SUGGESTED_HARDWARE else None}
    if hardware == ZERO_GPU:
        changed["python_version"] = ZERO_GPU_PYTHON
    if sign_in:
        changed["hf_oauth"] = True
    terms = f"\n{ASKING[spec.license_to_accept]}\n" if spec.license_to_accept else ""
    return (
        f"{front_matter(spacefile, **changed)}# Cascade Studio\n\n"
        "Write what you want to see, and watch Stable Cascade make the picture in three stages, step by step.\n\n"
        f"This Space runs the checkpoint *{spec.title}* (licence: {spec.license}). The code is under the Apache License 2.0, "
        f"see LICENSE.\n{terms}"
    )


def space_variables(spec: CheckpointSpec) -> dict[str, str]:
    """The variables every Space has.

    An update must take back a licence that an earlier one accepted: "none" is no licence's name.
    """
    return {"CASCADE_CHECKPOINT": spec.name, "CASCADE_ACCEPT_LICENSE": spec.license_to_accept or "none"}
