"""The house stands as it was designed: who imports whom, what files are called, and that nothing is unpickled."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATIONS = {"data", "backbones", "losses", "checkpoints"}
MAY_IMPORT = {
    "data": set(),
    "backbones": set(),
    "losses": set(),
    "checkpoints": {"backbones"},
    "pretrain": FOUNDATIONS,
    "finetune": FOUNDATIONS,
    "audit": FOUNDATIONS,
}
"""Edges between top-level packages; each may import itself."""
SCRIPTS = ("pretrain", "finetune", "audit", "benchmarks")
"""Folders whose files are run by their path, which puts the folder first on sys.path."""
MOST_LINES = 400


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


OURS = sources(*MAY_IMPORT)
ALL = sources(*MAY_IMPORT, "tests", "benchmarks")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(source: str) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def unpickling_in(source: str) -> Iterator[str]:
    """Imports and calls that could run what a file says."""
    for name in imports_of(source):
        if name.partition(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
            yield f"import {name}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            if called in ("torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"):
                yield called
            if any(
                keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False" for keyword in node.keywords
            ):
                yield f"{called}(allow_pickle)"


def test_the_walk_sees_what_it_should():
    source = (
        "import data.pack as pack\nfrom losses import triplet\ndef f():\n    from . import near\n    import audit\n"
    )
    assert list(imports_of(source)) == ["data.pack", "losses", ".", "audit"]
    bad = "import pickle\nimport torch\ntorch.load(x)\nyaml.load(y)\nnp.load(z, allow_pickle=True)\nyaml.safe_load(y)\n"
    assert list(unpickling_in(bad)) == ["import pickle", "torch.load", "yaml.load", "np.load(allow_pickle)"]
    assert len(OURS) > 20


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_no_package_imports_what_the_design_forbids(path):
    package = path.relative_to(ROOT).parts[0]
    for name in imports_of(path.read_text()):
        top = name.partition(".")[0]
        assert not name.startswith("."), f"{name_of(path)} imports {name}: say the full name"
        assert top not in MAY_IMPORT.keys() - MAY_IMPORT[package] - {package}, f"{name_of(path)} imports {name}"
        assert top not in ("tests", "benchmarks"), f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_nothing_is_unpickled(path):
    assert list(unpickling_in(path.read_text())) == []


def test_packages_are_listed_by_name():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in OURS if path.name == "__init__.py"}
    assert set(listed) == found
    assert all((path.parent / "__init__.py").is_file() for path in OURS)


def test_files_are_named_after_nouns_and_stay_short():
    for path in ALL:
        assert path.stem not in ("utils", "util", "misc", "common", "helpers"), name_of(path)
        lines = len(path.read_text().splitlines())
        assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines: it is two files"


def test_scripts_hide_no_other_module():
    others = {path.name for entry in sys.path if "site-packages" in entry for path in Path(entry).iterdir()}
    others = {name.removesuffix(".py") for name in others} | set(sys.stdlib_module_names)
    for path in sources(*SCRIPTS):
        if path.name != "__init__.py":
            assert path.stem not in others - set(MAY_IMPORT), f"{name_of(path)} hides a module of that name"


def test_tests_are_no_packages():
    assert not list((ROOT / "tests").rglob("__init__.py"))
