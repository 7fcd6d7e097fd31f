"""Nothing that comes from a store or a file is unpickled or run, and no service of ours listens to the world: looked for in the code itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "pickle.load",
    "pickle.loads",
    "cloudpickle.load",
    "cloudpickle.loads",
    "joblib.load",
    "dill.load",
    "marshal.loads",
    "shelve.open",
}
WORDS = {"torch.load": ("weights_only", False), "np.load": ("allow_pickle", True), "numpy.load": ("allow_pickle", True)}
"""What these must not be told; neither unpickles objects by default."""
PINNED = {"src/modelyard/data/filters/abuse_teacher.py: joblib.load"}
"""A classifier inside a package that is fetched by its sha256: it is the package's code as much as its modules are."""


def literal(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)


def calls(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: literal(word.value) for word in node.keywords}


def findings(source: str, name: str) -> list[str]:
    found = []
    for called, words in calls(source):
        keyword, value = WORDS.get(called, ("", None))
        if called in FORBIDDEN or (keyword and words.get(keyword) is value):
            found.append(f"{name}: {called}")
        if called.startswith("Auto") and called.endswith(".from_pretrained") and words.get("trust_remote_code") is not False:
            found.append(f"{name}: {called}")
        if called == "yaml.load" and "Safe" not in words.get("Loader", ""):
            found.append(f"{name}: {called}")
    return found


def sources():
    return [path for folder in ("src", "flows", "tasks") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_code_unpickles_nothing_and_runs_no_code_of_a_model_directory():
    assert {line for path in sources() for line in findings(path.read_text("utf-8"), str(path.relative_to(ROOT)))} == PINNED


@pytest.mark.parametrize(
    "source", ["pickle.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)", "AutoModel.from_pretrained(d)"]
)
def test_search_finds_what_it_looks_for(source):
    assert findings(source, "x") == [f"x: {source.split('(')[0]}"]


def test_every_logger_of_ours_logs_what_may_be_shown():
    assert [str(path) for path in sources() if "logging.getLogger(__name__)" in path.read_text("utf-8")] == []


def test_no_code_of_ours_listens_on_every_interface():
    assert [str(path) for path in sources() if "0.0.0.0" in path.read_text("utf-8")] == []
