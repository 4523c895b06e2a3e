"""What the documents show is so: Python blocks and commands run, links lead somewhere, every public name is listed."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sb3_ppo_variants

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(sb3_ppo_variants.__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(ROOT / "examples")]),
    "OMP_NUM_THREADS": "1",
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
}
EVERY_PAGE = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
]
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
ELSEWHERE = ("README.md", "docs/callbacks.md", "docs/recipes.md")  # test_readme, test_examples, test_recipes


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text()) if found == language]


def with_few_steps(code: str) -> str:
    """Replace every number of a thousand and more that is written with underscores, as in ``50_000``."""
    return re.sub(r"\b\d{1,3}(_\d{3})+\b", "2_048", code)


PYTHON_PAGES = [name_of(page) for page in EVERY_PAGE if blocks(page, "python") and name_of(page) not in ELSEWHERE]
BASH_PAGES = [name_of(page) for page in EVERY_PAGE if "sb3-ppo-variants " in "".join(blocks(page, "bash"))]


@pytest.mark.parametrize("name", PYTHON_PAGES)
def test_python_blocks_run_one_after_the_other(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = with_few_steps("\n".join(blocks(ROOT / name, "python")))
    monkeypatch.chdir(tmp_path)
    if "sb3_ppo_variants.zoo" in code:  # it changes Gymnasium for the whole process
        (tmp_path / "page.py").write_text(code)
        run([sys.executable, "page.py"], tmp_path)
    else:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


FEWER = {  # pattern -> replacement, for the commands of the documents
    r" -n \d+": " -n 256",
    r"--n-trials \d+": "--n-trials 2",
    r"--n-episodes \d+": "--n-episodes 2",
    r"--seeds \d+": "--seeds 1",
    r"--update \d+": "--update 1",
    r"--n-timesteps \d+": "--n-timesteps 1100",
    r"--envs CartPole-v1 Pendulum-v1": "--envs CartPole-v1",
    r"for seed in [\d ]+": "for seed in 1 2",
    r"(sb3-ppo-variants|rl_zoo3\.)( ?)train ": r"\1\2train -n 256 --eval-freq -1 ",
    r"(sb3-ppo-variants|rl_zoo3\.)( ?)enjoy ": r"\1\2enjoy --no-render -n 20 ",
    r" compare --": " compare --seeds 1 --eval-episodes 1 --eval-freq 600 --n-timesteps 1100 --",
}
SKIPPED = ("pip ", "make ", "ray ", "tensorboard ", "torchrun ", "python benchmarks/")
GIVEN = {  # files of an earlier session that the commands of a page draw
    "docs/callbacks.md": [f"{kind}_{seed}.csv" for kind in ("ppo", "penalty", "tight", "loose") for seed in (1, 2)],
    "docs/get_started.md": ["run.csv"],
}
FOLDERS = {"docs/callbacks.md": ["runs", "docs/figures"]}


def commands(page: Path) -> str:
    """Return the commands of a page as one script, with fewer steps and without what installs or needs a cluster."""
    kept = [code for code in blocks(page, "bash") if not code.startswith(SKIPPED)]
    script = "\n".join(kept)
    for pattern, replacement in FEWER.items():
        script = re.sub(pattern, replacement, script)
    return 'set -euo pipefail\nsb3-ppo-variants() { python -m sb3_ppo_variants "$@"; }\n' + script


@pytest.mark.slow
@pytest.mark.parametrize("name", BASH_PAGES)
def test_commands_run_one_after_the_other(name: str, tmp_path: Path) -> None:
    for folder in FOLDERS.get(name, []):
        (tmp_path / folder).mkdir(parents=True)
    for file in GIVEN.get(name, []):
        record(tmp_path / "given.csv", tmp_path / file)
    for code in blocks(ROOT / name, "python"):
        registered = re.search(r'register_algorithm\(\s*"(\w+)"', code)
        if registered and f"--algo {registered[1]}" in commands(ROOT / name):
            (tmp_path / "custom_envs.py").write_text(code)
    run(["bash", "-c", commands(ROOT / name)], tmp_path)


def record(made: Path, file: Path) -> None:
    """Put the record of a short training into a file; it is made once."""
    if not made.exists():
        code = (
            "from sb3_ppo_variants import PPOAdaptiveClip\n"
            "from sb3_ppo_variants.callbacks import TrustRegionRecorder\n"
            "model = PPOAdaptiveClip('MlpPolicy', 'CartPole-v1', n_steps=64)\n"
            f"model.learn(192, callback=TrustRegionRecorder({str(made)!r}, minibatches=True))\n"
        )
        run([sys.executable, "-c", code], made.parent)
    shutil.copy(made, file)


def test_what_is_not_run_is_there() -> None:
    text = "\n".join("\n".join(blocks(page, "bash")) for page in EVERY_PAGE)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^make ([\w-]+)", text, flags=re.MULTILINE)) <= targets
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r'pip install "\.\[(\w+)\]"', text)) <= set(extras)


@pytest.mark.parametrize("name", ["docs/callbacks.md", "docs/zoo.md"])
def test_yaml_blocks_have_arguments_that_there_are(name: str) -> None:
    of_the_zoo = {"n_timesteps", "policy", "callback"}
    known = of_the_zoo | set(inspect.signature(sb3_ppo_variants.PPOPenalty).parameters)
    (entry,) = (entry for code in blocks(ROOT / name, "yaml") for entry in yaml.safe_load(code).values())
    assert set(entry) <= known
    for callback in entry["callback"]:
        ((path, arguments),) = callback.items()
        module, _, cls = path.rpartition(".")
        getattr(importlib.import_module(module), cls)(**arguments)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    text = BLOCK.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    missing = []
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue  # another site
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(target)
    assert missing == []


def test_every_page_is_in_the_table_of_contents() -> None:
    pages = {name_of(page)[len("docs/") : -len(".md")] for page in EVERY_PAGE if name_of(page).startswith("docs/")}
    listed = {"index"}
    for index in ("index", "api/index"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / f"docs/{index}.md").read_text(), flags=re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {f"{index[: -len('index')]}{line}" for line in names}
    assert pages == listed


@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        ("sb3_ppo_variants", set()),
        ("sb3_ppo_variants.callbacks", set()),
        ("sb3_ppo_variants.checkpoints", {"CheckpointableEnv"}),  # under environment_state
        ("sb3_ppo_variants.environment_state", set()),
        ("sb3_ppo_variants.plots", set()),
        ("sb3_ppo_variants.trust_region_log", {"KL_MEASURES", "Table"}),
        ("sb3_ppo_variants.extend", set()),
        ("sb3_ppo_variants.extractors", set()),
        ("sb3_ppo_variants.vec_env", set()),
    ],
)
def test_every_public_name_is_in_the_api_reference(module: str, left_out: set[str]) -> None:
    listed: set[str] = set()
    for page in (ROOT / "docs/api").glob("*.md"):
        for part in page.read_text().split(".. currentmodule:: ")[1:]:
            if part.split("\n", 1)[0].strip() == module:
                listed |= set(re.findall(r"^\.\. auto\w+:: (\w+)$", part, flags=re.MULTILINE))
    assert listed == set(importlib.import_module(module).__all__) - left_out


def test_files_for_the_hosting_page_are_well_formed() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == sb3_ppo_variants.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        content = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= set(content), form.name
        assert all("label" in field["attributes"] for field in content["body"]), form.name
