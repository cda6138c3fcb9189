"""How the code hangs together: no circles, no private names from outside, one place for what is said once."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch

import amdm
from amdm import geometry, sample_amdm, sample_ddim, samplers

ROOT = Path(__file__).parent.parent
PACKAGES = ("amdm", "theory_checks", "benchmarks", "examples")
FILES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MODULES = {
    ".".join(path.with_suffix("").parts).removesuffix(".__init__"): ast.parse((ROOT / path).read_text())
    for path in FILES
}
LAYERS = ["amdm", "amdm.command_line.arguments", "theory_checks", "amdm.shapes", "amdm.sample", "examples"]
LAYERS += ["benchmarks", "amdm.page", "amdm.command_line"]  # what starts everything else


def layer_of(module):
    """The innermost layer that a module lies in: `amdm.shapes.world` is of `amdm.shapes`, not of `amdm`."""
    around = [top for top in LAYERS if f"{module}.".startswith(f"{top}.")]
    return LAYERS.index(max(around, key=len)) if around else -1


def imports(tree):
    """The modules and names that a module imports, where it does at run time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def test_the_import_graph_has_no_circles():
    graph = {}
    for name, tree in MODULES.items():
        found = {f"{m}.{n}" if f"{m}.{n}" in MODULES else m for m, n in imports(tree)}
        graph[name] = (found & MODULES.keys()) - {name}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_imports_go_down_the_layers():
    for name, tree in MODULES.items():
        for module, imported in imports(tree):
            lazily = name.startswith("theory_checks") and module.startswith("amdm.shapes")  # where they are
            needed = max(layer_of(module), layer_of(f"{module}.{imported}"))
            assert needed <= layer_of(name) or lazily, (name, module)


def test_no_private_names_are_imported_from_outside():
    for name, tree in MODULES.items():
        for module, imported in imports(tree):
            if module.split(".")[0] in PACKAGES:
                assert not imported.startswith("_") or imported == "__version__", (name, module, imported)


def docstrings(tree):
    """Yield the docstrings of a module: its own, and those of classes, functions and attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(ast.Constant(str(text))):
                    yield statement.lineno, text.strip()


def test_no_docstring_begins_as_a_question():
    """A docstring says what something returns, does or is: "Return the angle", not "What the angle is"."""
    words = ("Of ", "What ", "How ", "Whose ", "Whether ", "Who ")
    found = {name: list(docstrings(tree)) for name, tree in MODULES.items()}
    assert sum(map(len, found.values())) > 1000
    wrong = [
        (name, line, text) for name, each in found.items() for line, text in each if text.startswith(words)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "places"),
    [("0.00085**0.5", ["amdm/schedules.py"]), ("(n / 16384)", ["amdm/samplers/amdm.py"])],
)
def test_constants_stand_in_one_place(text, places):
    assert [str(path) for path in FILES if text in (ROOT / path).read_text()] == places


def test_every_sampler_is_registered_and_public():
    assert sorted(samplers.SAMPLERS) == [
        "amdm", "ddim", "dpmpp_2m", "dpmpp_2m_flow", "dpmpp_2m_sde", "euler_ancestral_flow", "fkc", "heun",
        "heun_flow", "lcm", "mcmc", "projective_guidance", "res_multistep", "res_multistep_flow", "superdiff",
        "uni_pc", "uni_pc_flow",
    ]  # fmt: skip
    for name, generator in samplers.SAMPLERS.items():
        assert (
            getattr(samplers, name) is generator
            and getattr(amdm, f"sample_{name}").__name__ == f"sample_{name}"
        )
        for arguments in ("noise_sampler:", "extra_args:", "sigmas:", "debug_nans:", "validate:"):
            assert generator.__doc__.count(f"    {arguments} ") == 1
    for fold in geometry.FOLDS.values():
        assert fold.__name__ in geometry.__all__


def test_records_are_shown_on_one_line():
    models = [lambda x, sigma: x / 2] * 2
    (step,) = amdm.amdm(models, torch.ones(2, 3, 4), SIGMAS, window=1)
    assert repr(step) == (
        "Step(index=0, sigma=3, sigma_next=0, std=0, x=(2, 3, 4) torch.float32 on cpu, "
        "aggregation=Aggregation(2 models, x=(2, 3, 4), lengths=(0.008119, 0.008119)))"
    )


SIGMAS = torch.tensor([3.0, 0.0])


def test_wrong_options_are_named_with_the_function():
    with pytest.raises(TypeError, match=r"^sample_ddim\(\) got an unexpected keyword argument 'etta'"):
        sample_ddim(lambda x, sigma: x, torch.ones(1, 2), SIGMAS, etta=1.0)
    with pytest.raises(TypeError, match=r"^sample_amdm\(\) missing a required argument: 'sigmas'"):
        sample_amdm([], torch.ones(1, 2))
    with pytest.raises(TypeError, match="unexpected keyword argument 'etta'"):
        amdm.ddim(lambda x, sigma: x, torch.ones(1, 2), SIGMAS, etta=1.0)


CALLS = """
import torch
from amdm import amdm, ddim, sample_amdm, sample_ddim
from amdm.denoisers import GaussianMixture
x, sigmas = torch.ones(1, 2), torch.tensor([1.0, 0.0])
model = GaussianMixture(torch.zeros(1, 2), torch.ones(1))
a: torch.Tensor = sample_ddim(model, x, sigmas, None, None, True, eta=0.5)
b: torch.Tensor = sample_amdm(models=[model], x=[x], sigmas=sigmas, disable=True, window=3, sampler=ddim)
for step in amdm([model], x, sigmas, weights=[0.5]):
    c: float = step.sigma
sample_ddim(model, x, sigmas, eta="0.5")
sample_ddim(model, x, sigmas, etta=0.5)
sample_amdm([model], x)
sample_amdm([model], x, sigmas, window="all")
"""


@pytest.mark.slow
def test_mypy_sees_the_signatures_of_derived_functions(tmp_path):
    """The first calls are right, each of the last four is wrong."""
    path = tmp_path / "calls.py"
    path.write_text(CALLS)
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
    lines = [line for line in told.splitlines() if line.startswith(str(path)) and ": error: " in line]
    wrong = len(CALLS.splitlines())
    assert [int(line.split(":")[1]) for line in lines] == [wrong - 3, wrong - 2, wrong - 1, wrong], told
