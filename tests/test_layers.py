"""The rule of the house: imports go down, files and functions are short, and what costs comes late.

The table of layers, and how imports are read, are those of benchmarks/architecture.py.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import architecture
import pytest

ROOT = Path(__file__).parents[1]

# Where an import inside a function is the point: help stays quick, names load when first used.
LATE_UNITS, LATE_MODULES = ("cli", "commands", "plots"), ("rlentropy", "rlentropy.risk")
PICTURES = ("rlentropy.plots", "rlentropy.envs.picture")
TABULAR = (
    *("data", "entropy", "log", "mdp", "perturbations", "planning", "policies", "risk", "runs"),
    *("offline.fqi", "offline.rfqi", "offline.rfzi"),
    *("robust.planning", "robust.policy_gradient"),
    *("exploration.entgame", "exploration.maxent", "exploration.optimal"),
    *("exploration.random_policy", "exploration.reg_entgame", "exploration.rf_explore_ent"),
    *("exploration.rf_ucrl", "exploration.ucbvi_ent"),
    *("preferences.acquisition", "preferences.active_preference", "preferences.calibration"),
    *("preferences.judges", "preferences.path_entropy", "preferences.store"),
    *("preferences.table_subject", "preferences.teaching"),
)
HEAVY = ("matplotlib", "tensorboard", "torch")


@pytest.fixture(scope="module")
def modules() -> architecture.Modules:
    return architecture.read_modules(ROOT)


def python(script: str) -> str:
    """What a script prints in a process of its own."""
    argv = [sys.executable, "-c", script]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def none(found: list[str]) -> None:
    """Fail with all of them, a line each."""
    assert not found, "\n".join(["", *found])


def test_imports_go_to_lower_layers(modules: architecture.Modules) -> None:
    none(architecture.wrong_way(modules))


def test_no_modules_import_each_other(modules: architecture.Modules) -> None:
    none(architecture.circles(modules))


def test_imports_stand_at_the_top(modules: architecture.Modules) -> None:
    """One inside a function hides what a module needs."""
    none(
        [
            f"{module.name} imports {i.target} inside {i.inside}, line {i.line}"
            for module in modules.values()
            for i in module.imports
            if i.inside and i.target not in PICTURES
            if not (module.unit in LATE_UNITS or module.name in LATE_MODULES)
        ]
    )


def test_files_and_functions_are_short(modules: architecture.Modules) -> None:
    none(architecture.too_long(modules))


def test_one_array_type_one_outer_loop_and_flat_classes(modules: architecture.Modules) -> None:
    assert architecture.array_definitions(modules) == ["rlentropy.types"]
    assert len(architecture.outer_loops(modules)) == 1
    assert len(architecture.class_depth(modules)) <= 3


def test_oracles_are_strangers_to_the_package() -> None:
    files = sorted((ROOT / "tests" / "oracles").glob("*.py"))
    none([f"{file.name} names rlentropy" for file in files if "rlentropy" in file.read_text()])
    assert files


def test_tables_need_neither_networks_nor_pictures() -> None:
    script = f"""
import sys
import tomllib
from importlib import import_module
for name in {TABULAR}:
    import_module(f"rlentropy.{{name}}")
    for heavy in set({HEAVY}) & set(sys.modules):
        sys.exit(print(f"rlentropy.{{name}} loads {{heavy}}"))
"""
    none(python(script).splitlines())


def test_the_package_shows_what_users_want() -> None:
    """Also after modules of it were imported, which Python makes attributes of the package."""
    script = """
import rlentropy, rlentropy.cli, rlentropy.exploration.entgame
names = dir(rlentropy)
for name in names:
    getattr(rlentropy, name)
print(*names, "|", *rlentropy.__all__)
"""
    shown, public = (
        {name for name in part.split() if not name.startswith("__")}
        for part in python(script).split("|")
    )
    assert shown == public
    assert public >= {"EmpiricalModel", "FiniteMDP", "entropy", "load_run", "planning", "risk"}


# ---------------------------------------------------------------- the reader of imports itself


def read(folder: Path, **files: str) -> architecture.Modules:
    """A package of these files, ``planning__soft`` for planning/soft.py."""
    for name, text in {"__init__": "", **files}.items():
        path = folder / "rlentropy" / f"{name.replace('__', '/', 1) if name[0] != '_' else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return architecture.read_modules(folder)


@pytest.mark.parametrize(
    "statement",
    [
        "import rlentropy.planning",
        "from rlentropy import planning",
        "from rlentropy.planning import optimum",
        "from .planning import optimum",
        "def f():\n    from rlentropy.planning import optimum",
        "def f():\n    import_module('rlentropy.planning')",
        "if TYPE_CHECKING:\n    from rlentropy.planning import Plan",
        "try:\n    pass\nfinally:\n    import rlentropy.planning as p",
    ],
)
def test_an_import_of_any_kind_is_seen(tmp_path: Path, statement: str) -> None:
    planning = "from rlentropy.errors import InputError\n"
    found = read(tmp_path, errors=statement, planning=planning)
    line = statement.count("\n") + 1
    assert architecture.wrong_way(found) == [
        f"rlentropy.errors (layer 0) imports rlentropy.planning (layer 4), line {line}"
    ]
    (circle,) = architecture.circles(found)
    assert f"rlentropy.errors imports rlentropy.planning, line {line}" in circle


def test_names_of_the_root_and_unknown_units_have_no_layer(tmp_path: Path) -> None:
    found = read(tmp_path, mdp="from rlentropy import FiniteMDP, __version__", helpers="")
    assert architecture.wrong_way(found) == [
        "rlentropy.helpers must be in the table of layers, got no layer of helpers",
        "rlentropy.mdp (layer 2) imports rlentropy.FiniteMDP (layer none), line 1",
    ]


def test_equal_layers_are_strangers_and_a_unit_is_not(tmp_path: Path) -> None:
    robust = "import rlentropy.offline\nimport rlentropy.robust.other"
    found = read(tmp_path, robust__one=robust, robust__other="", offline="")
    assert architecture.wrong_way(found) == [
        "rlentropy.robust.one (layer 5) imports rlentropy.offline (layer 5), line 1"
    ]


def test_the_root_starts_the_environments_and_names_the_rest(tmp_path: Path) -> None:
    root = "def __getattr__(name):\n    import rlentropy.risk\nimport rlentropy.envs, rlentropy.mdp"
    found = read(tmp_path, __init__=root, envs="", risk="import rlentropy", mdp="")
    assert architecture.wrong_way(found) == [
        "rlentropy imports rlentropy.mdp at module level, line 3"
    ]
    assert architecture.circles(found) == []
    assert architecture.reach(found, "rlentropy.risk") == {
        "rlentropy", "rlentropy.envs", "rlentropy.mdp", "rlentropy.risk",
    }  # fmt: skip


def test_lengths_are_of_the_body_after_the_docstring(tmp_path: Path) -> None:
    body = "\n".join(["    x = 1"] * 60)
    text = f'def f():\n    """One.\n\n    Two.\n    """\n\n{body}\ndef g():\n{body}\n    x = 2\n'
    (line,) = architecture.too_long(read(tmp_path, log=text))
    assert line == "rlentropy.log.g has 61 lines, at most 60, line 67"


def test_a_wheel_holds_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    named = set(settings["tool"]["setuptools"]["packages"])
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for file in (ROOT / "rlentropy").rglob("__init__.py")
    }
    assert named == found | {"rlentropy.envs"}
