"""What is installed and what is handed on as source hold every file that is needed."""

import subprocess
import sys
import tarfile
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from zoo_commands import ROOT, run_python


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


def files_under(*names: str) -> set[str]:
    """Return the files of the project in these folders, as paths from its root."""
    found = {path for name in names for path in (ROOT / name).rglob("*") if path.is_file()}
    return {str(path.relative_to(ROOT)) for path in found if not {"__pycache__", "_build"} & {*path.parts}}


def test_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    moved = {f"sb3_ppo_variants/{name}" for name in files_under("hyperparams")}
    assert held == files_under("sb3_ppo_variants") | moved
    assert {f"sb3_ppo_variants/{name}" for name in ("py.typed", "compare/report/report.html.jinja")} <= held


def test_source_distribution_holds_what_its_tests_and_documents_name(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    folders = ("sb3_ppo_variants", "hyperparams", "tests", "examples", "benchmarks", "docs")
    alone = {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"}
    alone |= {"Makefile", "constraints.txt", "pyproject.toml"}
    assert files_under(*folders) | alone <= held


def test_every_direct_dependency_has_its_version_in_the_constraints() -> None:
    toml = pytest.importorskip("tomllib")  # of Python 3.11
    project = toml.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    pinned = {canonicalize_name(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
    assert {canonicalize_name(Requirement(one).name) for one in wanted} - pinned == {"sb3-ppo-variants"}


def test_installed_wheel_finds_its_hyperparams(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        archive.extractall(tmp_path)
    script = "from sb3_ppo_variants.zoo.hyperparameters import hyperparams_folder as f; print(f())"
    folder = Path(run_python(tmp_path, "-c", script, path=tmp_path).stdout.strip())
    assert folder == tmp_path / "sb3_ppo_variants" / "hyperparams"
    in_tree, in_wheel = (
        {path.name: path.read_text() for path in place.glob("*.yml")} for place in (ROOT / "hyperparams", folder)
    )
    assert in_wheel == in_tree
