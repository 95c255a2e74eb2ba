"""Dependencies point one way: command line -> applications -> families -> metrics, networks, data, training."""

import ast
from pathlib import Path

import pytest

import gencore

ROOT = Path(gencore.__file__).parent
GROUND = {"errors", "integrity"}
FAMILIES = {"gan", "vae", "diffusion", "autoregressive"}
SHARED = GROUND | {"networks", "training", "metrics", "data", "analytic", "plots"}
MAY_IMPORT = {
    "errors": set(),
    "integrity": {"errors"},
    "claims": {"errors"},
    "analytic": GROUND,
    "training": GROUND,
    "networks": GROUND,
    "data": GROUND | {"analytic", "training"},
    "plots": GROUND | {"data"},
    "zoo": GROUND,
    "metrics": GROUND | {"analytic", "networks", "training", "data", "zoo"},  # the zoo holds the judge of digits
    **{family: SHARED for family in FAMILIES},
    "applications": SHARED | FAMILIES | {"zoo"},
    # Families are found by walking, applications among them, and first stages in the zoo; none is known by name.
    "families": GROUND | {"training", "zoo", "applications"},
    "cli": SHARED | {"families", "zoo", "applications"},
    "__main__": {"cli"},
    "__init__": set(),
}
# What only some rooms know: hardware, and the packages of the command line.
ONLY_IN = {"tyro": {"cli"}, "tqdm": {"cli", "data", "metrics"}, "safetensors": {"training"}, "matplotlib": {"plots"}}


def imports(source: str) -> set[str]:
    """Return the dotted names of all modules and members that a source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forbidden(room: str, source: str) -> list[str]:
    """Return what a file of a room must not import, and touches of hardware outside ``training``."""
    found = []
    for name in sorted(imports(source)):
        package, _, rest = name.partition(".")
        if package in {"benchmarks", "tests", "tools"}:  # they do not come with the library
            found.append(f"{room} imports {name}")
        other = rest.partition(".")[0]
        if package == "gencore" and other and not other.startswith("__"):
            if other != room and other not in MAY_IMPORT[room]:
                found.append(f"{room} imports {name}")
        elif room not in ONLY_IN.get(package, {room}):
            found.append(f"{room} imports {name}")
    if room not in {"training", "cli"} and "torch.cuda" in source:
        found.append(f"{room} speaks of torch.cuda")
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_point_one_way(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert room in MAY_IMPORT, f"gencore/{room}: say in this test what it may import"
    assert forbidden(room, path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("gan", "from gencore.vae import objectives"),
        ("gan", "from gencore import zoo"),
        ("diffusion", "import gencore.gan.loop"),
        ("networks", "from gencore.training.loss import Loss"),
        ("data", "def load():\n    from gencore.metrics import frechet"),
        ("training", "import tyro"),
        ("gan", "import matplotlib.pyplot"),
        ("training", "from benchmarks.gan_step import peer"),
        ("cli", "from gencore import gan"),
        ("families", "from gencore.vae import recipes"),
        ("networks", "import torch\ntorch.cuda.synchronize()"),
    ],
)
def test_a_wrong_turn_is_seen(room, source):
    assert len(forbidden(room, source)) == 1


def test_the_right_way_is_free():
    assert forbidden("gan", "import gencore\nfrom gencore.training import ema\nfrom gencore.gan import train") == []
