"""Files beside the package: README, conda environment and CI agree with pyproject.toml and with each other."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from bayesprf.attributes import Result, Setting
from bayesprf.machine import Machine

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()


def readme_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    return [block.strip() for block in blocks]


def test_environment_yml_lists_what_pyproject_asks_for():
    extras = PROJECT["optional-dependencies"]
    wanted = {f"python{PROJECT['requires-python']}", *PROJECT["dependencies"], *extras["test"], *extras["docs"]}
    lines = (ROOT / "environment.yml").read_text().splitlines()
    listed = {line.removeprefix("  - ") for line in lines if line.startswith("  - ") and not line.endswith(":")}
    assert listed - {"conda-forge", "pip"} == wanted


def test_conda_recipe_asks_for_what_pyproject_asks_for():
    recipe = yaml.safe_load((ROOT / "docs" / "contributing" / "conda" / "recipe.yaml").read_text())
    needed = {f"python{PROJECT['requires-python']}", *PROJECT["dependencies"]}
    assert {one.replace(" ", "") for one in recipe["requirements"]["run"]} == needed
    assert recipe["build"]["python"]["entry_points"] == [f"{k} = {v}" for k, v in PROJECT["scripts"].items()]
    assert recipe["about"]["summary"] == PROJECT["description"]


def test_python_version_file_satisfies_pyproject():
    pinned = (ROOT / ".python-version").read_text().strip()
    assert PROJECT["requires-python"] == f">={pinned}"


@pytest.mark.parametrize(
    ("position", "ending", "target"), [(0, ".venv/bin/bayesprf demo", "-e ."), (1, ".venv/bin/pytest", '-e ".[test]"')]
)
def test_readme_commands_make_their_own_environment(position, ending, target):
    command = readme_commands()[position]
    assert "\n" not in command
    assert command.startswith("python3.12 -m venv .venv && ")
    assert f".venv/bin/pip install {target} && " in command
    assert command.endswith(ending)


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    extraction = re.search(r'^command="\$\((grep .*)\)"$', script, flags=re.MULTILINE).group(1)
    found = subprocess.run(["bash", "-c", extraction], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == readme_commands()[1]
    assert 'bash -o pipefail -c "$command"' in script


def test_ci_script_is_executable_and_strict():
    path = ROOT / ".ci" / "run"
    assert path.stat().st_mode & 0o111
    assert "set -euo pipefail" in path.read_text()


def test_picture_of_the_readme_is_small():
    name = re.search(r"!\[[^\]]*\]\(([^)]+)\)", README).group(1)
    assert 0 < (ROOT / name).stat().st_size < 300_000


@pytest.mark.parametrize(
    ("page", "directive", "source"),
    [
        ("reference/datatree.md", "{schema-table}", "bayesprf.results.schema"),
        ("reference/flags.md", "{flag-table}", "bayesprf.flags"),
    ],
)
def test_pages_that_list_names_are_made_from_the_package(page, directive, source):
    assert f"```{directive}\n```" in (ROOT / "docs" / page).read_text()
    assert f"from {source} import" in (ROOT / "docs" / "_ext" / "package_tables.py").read_text()


def pages_below(index: Path) -> set[Path]:
    """Return the pages that the tables of contents name, from one page down."""
    named = "\n".join(re.findall(r"```\{toctree\}\n.*?\n\n(.*?)```", index.read_text(), re.DOTALL)).split()
    found = {index}
    for name in (name for name in named if "*" not in name):  # the notebooks are copied when the site is built
        pages = [path for path in index.parent.glob(f"{name}.*") if path.suffix in (".md", ".rst", ".ipynb")]
        assert pages, f"{index.name} names {name}, which does not exist"
        for page in pages:
            found |= pages_below(page) if page.suffix == ".md" else {page}
    return found


def test_every_page_is_in_the_table_of_contents():
    docs = ROOT / "docs"
    private = {"_build", "_static", "_templates", "changes", "generated"}
    pages = {path for path in docs.rglob("*") if path.suffix in (".md", ".rst") and not private & set(path.parts)}
    assert pages_below(docs / "index.md") >= pages


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text())
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_one_page_lists_every_public_name_of_machine():
    page = (ROOT / "docs" / "reference" / "machine.rst").read_text()
    groups = set(re.findall(r"^\.\. machine-attributes:: (\w+)$", page, re.MULTILINE))
    assert groups == {"settings", "data", "prf", "fluxes", "apertures"}
    listed = re.findall(r"^\.\. auto(?:method|attribute):: Machine\.(\w+)$", page, re.MULTILINE)
    public = {name for name, value in vars(Machine).items() if not name.startswith("_")}
    tabled = {name for name in public if isinstance(vars(Machine)[name], Result | Setting)}
    assert sorted(listed) == sorted(public - tabled)
