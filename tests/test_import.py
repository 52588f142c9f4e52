"""What `import geonorm` costs and offers."""

import inspect
import json
import re
import subprocess
import sys
import types

import pytest
from torch import nn

import geonorm as gn

#: What the package needs beyond torch and e3nn to be imported.
LIGHT = {"geonorm", "jaxtyping", "numpy"}

WEIGHT_ROWS = ("scaled_weight_standardization", "spectral_norm", "weight_norm")
LAYERS = [
    name for name in gn.__all__ if isinstance(getattr(gn, name), type) and issubclass(getattr(gn, name), nn.Module)
]
CALLABLES = [name for name in gn.__all__ if callable(getattr(gn, name))]


def imports(statement: str) -> tuple[set[str], float]:
    """The modules that a fresh process holds after a statement, and the seconds of processor time it took."""
    report = "; import json, sys, time; print(json.dumps([sorted(sys.modules), time.process_time()]))"
    result = subprocess.run([sys.executable, "-c", statement + report], capture_output=True, text=True, check=True)
    modules, seconds = json.loads(result.stdout)
    return set(modules), seconds


def test_import_brings_nothing_heavy_beyond_torch_and_e3nn() -> None:
    ours, our_seconds = imports("import geonorm")
    theirs, their_seconds = imports("import torch, e3nn")
    print(f"import geonorm: {our_seconds:.2f} s, import torch and e3nn: {their_seconds:.2f} s")
    assert "e3nn.o3" not in ours, "it takes as long to import as torch: only the first layer needs it"
    assert "geonorm.layers.vision" in ours
    assert {name.split(".")[0] for name in ours - theirs} <= LIGHT
    explicit = ("data", "models", "experiments", "viz", "cli")
    assert not ours & {f"geonorm.{name}" for name in explicit}, "these are imported by those who want them"


def test_the_list_of_public_names_is_complete_and_sorted() -> None:
    public = {
        name for name, value in vars(gn).items() if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(gn.__all__) == public
    assert gn.__all__ == sorted(gn.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def test_the_version_is_the_one_of_the_package() -> None:
    from importlib.metadata import version

    assert version("geonorm") == gn.__version__


@pytest.mark.parametrize("name", gn.__all__)
def test_every_public_name_is_documented_in_one_sentence_first(name: str) -> None:
    documentation = inspect.getdoc(getattr(gn, name))
    assert documentation
    assert documentation.split("\n\n")[0].endswith((".", ")."))


@pytest.mark.parametrize("name", CALLABLES)
def test_every_argument_is_documented(name: str) -> None:
    documentation = inspect.getdoc(getattr(gn, name))
    described = re.findall(r"^ {4}\**(\w+): ", documentation, re.MULTILINE)
    wanted = [parameter for parameter in inspect.signature(getattr(gn, name)).parameters if parameter != "self"]
    assert [argument for argument in described if argument in wanted] == wanted


@pytest.mark.parametrize("name", [*LAYERS, *WEIGHT_ROWS])
def test_every_layer_has_its_formula_and_its_source(name: str) -> None:
    documentation = inspect.getdoc(getattr(gn, name))
    assert re.search(r"\$\$.+\$\$", documentation, re.DOTALL)
    assert re.search(r"^Source: \S+", documentation, re.MULTILINE)
