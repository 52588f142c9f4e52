"""The lists of dependencies agree: pyproject.toml, constraints.txt, environment.yml, the workflows, the citation."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import geonorm

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())

# conda's name -> pip's name
NAMES = {"pytorch-cpu": "torch"}
# What only a notebook server needs: it shows the chapters' MyST text there.
ONLY_ON_BINDER = {"jupyterlab-myst"}


def _pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def _requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [
        Requirement(line) for line in [*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)]
    ]


@pytest.mark.parametrize("requirement", _requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_bounds(requirement):
    version = _pins().get(canonicalize_name(requirement.name))
    assert version, f"{requirement.name} is not in constraints.txt"
    assert requirement.specifier.contains(version, prereleases=True)


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_pins_install_on_every_supported_python(python):
    # A pin that wants a later patch release would shut out the Python of a stable Linux distribution.
    refused = []
    for name, version in _pins().items():
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        if installed.version.split("+")[0] == version:
            bounds = SpecifierSet(installed.metadata.get("Requires-Python") or "")
            refused += [f"{name}=={version} wants Python {bounds}"] * (not bounds.contains(python))
    assert refused == []


def test_core_dependencies_stay_few():
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == {
        "torch",
        "e3nn",
        "numpy",
        "jaxtyping",
        "click",
    }


def test_torch_is_pinned_without_a_build():
    # The same pin must fit the wheels with and without CUDA.
    assert "+" not in _pins()["torch"]


def test_conda_environment_has_the_pinned_versions():
    pins = _pins()
    conda = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    pip = next(line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict))
    versions = dict(re.split("==?", line) for line in [*conda, *pip] if "=" in line)
    assert SpecifierSet(PROJECT["requires-python"]).contains(versions.pop("python"))
    for name, version in versions.items():
        if name not in ONLY_ON_BINDER:
            assert version == pins[canonicalize_name(NAMES.get(name, name))], name
    assert {NAMES.get(line.split("=")[0], line.split("=")[0]) for line in conda} >= {"torch", "numpy"}
    assert "-c constraints.txt" in pip
    extras = next(line for line in pip if line.startswith("-e"))
    assert set(re.search(r"\[(.*)\]", extras)[1].split(",")) == {"book", "models", "data"}


def _brought_along(requirements: list[Requirement]) -> set[str]:
    """The names of all packages that come with these."""
    found, left = set(), [(requirement, "") for requirement in requirements]
    while left:
        requirement, extra = left.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in found:
                found.add((name, extra))
                left += [(Requirement(line), extra) for line in distribution(name).requires or ()]
    return {name for name, _ in found}


def test_what_notebooks_import_is_installed_where_they_are_read():
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *extras["book"], *extras["models"], *extras["data"]]
    there = _brought_along(list(map(Requirement, lines)))
    owners = packages_distributions()
    missing = {}
    for text in [*ROOT.glob("notebooks/text/*.md"), *ROOT.glob("book/text/*.md")]:
        cells = re.findall(r"^```{code-cell}.*?^```", text.read_text(), re.MULTILINE | re.DOTALL)
        for name in re.findall(r"^(?:import|from) (\w+)", "\n".join(cells), re.MULTILINE):
            # What no package has is a file that a chapter writes.
            known = name in sys.stdlib_module_names or name not in owners or name == "geonorm"
            if not known and not there & set(map(canonicalize_name, owners[name])):
                missing.setdefault(name, []).append(text.name)
    assert missing == {}


def test_workflows_test_the_oldest_supported_torch_and_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    matrix = workflow["jobs"]["versions"]["strategy"]["matrix"]
    torch = next(requirement for requirement in _requirements() if requirement.name == "torch")
    oldest = next(version for version in matrix["torch"] if version)
    assert torch.specifier.contains(oldest)
    assert str(torch.specifier) == f">={oldest.rsplit('.', 1)[0]}"
    supported = {line.split("::")[-1].strip() for line in PROJECT["classifiers"] if "Python :: 3." in line}
    assert {min(supported), max(supported)} == set(matrix["python"])


def test_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == geonorm.__version__ == distribution("geonorm").version
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
