"""Compiles ``counting.c`` when the package is installed; without a compiler there is a warning, and NumPy counts.

A wheel also carries what lies beside the package in the project and a pipeline run needs, under names inside the package.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/modelyard/data/filters/counting.c")
LIBRARY = SOURCE.with_name("_counting.so")
CARRIED = {"configs": "modelyard/configs", "flows": "modelyard/project/flows", "tasks": "modelyard/project/tasks"}
"""Directory of the project -> its place in a wheel; an editable installation finds them in the project."""


class CompiledFilters(BuildHookInterface):  # type: ignore[misc, type-arg]
    """Puts the library beside its source and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a wheel (``version`` is ``standard``, or ``editable`` where the source tree is used) is then for this platform."""
        if self.target_name != "wheel":
            return
        if version != "editable":
            build_data["force_include"] |= {str(Path(self.root) / name): place for name, place in CARRIED.items()}
        try:
            compile_library(Path(self.root))
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"{SOURCE} is not compiled ({error}): the data stage counts with NumPy, which is slower")
            return
        if version == "editable":
            return
        build_data["force_include"][str(Path(self.root) / LIBRARY)] = str(LIBRARY.relative_to("src"))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"


def compile_library(root: Path) -> None:
    """Compile into place, by one rename. Raises OSError without a compiler, CalledProcessError where it fails."""
    source, library = root / SOURCE, root / LIBRARY
    library.unlink(missing_ok=True)
    compiler = os.environ.get("CC", "cc").split()
    version = hashlib.sha256(source.read_bytes()).hexdigest()[:15]
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        built = Path(directory) / library.name
        options = ["-O3", "-shared", "-fPIC", f"-DSOURCE=0x{version}"]
        subprocess.run([*compiler, *options, "-o", str(built), str(source)], check=True, capture_output=True)
        built.replace(library)


def _platform() -> str:
    from packaging.tags import platform_tags

    return next(platform_tags())
