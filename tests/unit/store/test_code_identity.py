"""Identity of code: what changes it and what must not."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from modelyard.store import code_identity
from modelyard.store.code_identity import code_version, definition_version

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "src" / "modelyard"
STAGES = ("data", "scaling", "pretrain", "posttrain", "evals", "release")

SOURCE = """
LIMIT = 3
OTHER = 4

def helper(x):
    return x + LIMIT

def scorer(x):
    'What it says.'
    return helper(x)

def neighbour(x):
    return OTHER
"""


def read_from(directories: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on identities are of the package's files in these directories."""
    monkeypatch.setattr(sys.modules["modelyard"], "__path__", directories)
    for cached in (code_version, definition_version, code_identity._module, code_identity._parse, code_identity._file):
        cached.cache_clear()


def version(text: str, directory: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> str:
    """Identity of a module with this text, as ``modelyard.sample_code``."""
    (directory / "sample_code.py").write_text(text)
    read_from([*sys.modules["modelyard"].__path__, str(directory)], monkeypatch)
    return definition_version("modelyard.sample_code", *names) if names else code_version("modelyard.sample_code")


@pytest.mark.parametrize(
    ("old", "new", "definition_changes", "module_changes"),
    [
        ("return helper(x)", "return helper(x) + 1", True, True),
        ("x + LIMIT", "x - LIMIT", True, True),
        ("LIMIT = 3", "LIMIT = 5", True, True),
        ("OTHER = 4", "OTHER = 5", False, True),
        ("def neighbour(x):", "def neighbour(y):", False, True),
        ("'What it says.'", "'Something else.'", False, False),
        ("return OTHER", "return OTHER  # why", False, False),
    ],
)
def test_identity_changes_with_what_is_used_and_nothing_else(
    old: str, new: str, definition_changes: bool, module_changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [version(SOURCE, tmp_path, monkeypatch, *names) for names in (("scorer",), ())]
    after = [version(SOURCE.replace(old, new), tmp_path, monkeypatch, *names) for names in (("scorer",), ())]

    assert [one != other for one, other in zip(before, after, strict=True)] == [definition_changes, module_changes]


def test_definition_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="defines no nothing"):
        definition_version("modelyard.evals.scorers", "nothing")


def test_module_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="no such module"):
        code_version("modelyard.stats.estimate", "modelyard.nothing")


def test_code_version_of_several_modules_holds_each() -> None:
    both = code_version("modelyard.stats.estimate", "modelyard.store.storage")

    assert len({both, code_version("modelyard.stats.estimate"), code_version("modelyard.store.storage")}) == 3


def stages() -> list[str]:
    """Every module whose code can be part of an artifact's fingerprint: those of the stages, and what the tasks name beside them."""
    files = [file.relative_to(PACKAGE.parent) for stage in STAGES for file in (PACKAGE / stage).rglob("*.py")]
    calls = [call for file in (ROOT / "tasks").glob("*.py") for call in re.findall(r"code_version\((.*?)\)", file.read_text("utf-8"))]
    named = {name for call in calls for name in re.findall(r'"(modelyard\.[\w.]+)"', call)}
    return sorted({".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files} | named)


def edit(files: list[Path]) -> None:
    """Change what the files do."""
    for file in files:
        file.write_text(file.read_text("utf-8") + "\nEDITED = 1\n", "utf-8")


def test_editing_commands_changes_no_fingerprint_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = shutil.copytree(PACKAGE, tmp_path / "modelyard", ignore=shutil.ignore_patterns("__pycache__"))
    modules = stages()

    def whole() -> str:
        read_from([str(copied)], monkeypatch)
        return code_version(*modules)

    before = whole()
    edit([*(copied / "commands").glob("*.py"), *copied.rglob("__main__.py")])
    after_commands = whole()
    edit([copied / "stats" / "estimate.py"])
    after_stages = whole()

    assert after_commands == before
    assert after_stages != before, "an edit of what stages use is seen"
