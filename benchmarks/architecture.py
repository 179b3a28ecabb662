"""Figures of the architecture, counted in the source of any checkout; nothing is imported.

python benchmarks/architecture.py [CHECKOUT ...] [--details]

One column a checkout (default: this one), in the order given. How each is counted:

    reach               modules, and their lines that aren't blank, which run once a module is
                        imported and used: transitively all imports, also those inside functions,
                        but not those for types alone or in a module's __getattr__ (public names);
                        with the __init__ of every package above
    root modules        files directly in rlentropy/
    file                lines, with blank ones
    function            lines from the first statement after its docstring to its end
    wrong-way imports   pairs of modules against the table of layers, imports of every kind; those
                        of earlier checkouts by FORMER_LAYERS and FORMER_UNITS
    circles             groups of modules that import each other, by imports of every kind
    outer loops         functions with a loop that calls tick or checkpoint
    class depth         classes of ours in the longest chain of inheritance
    Array definitions   modules that define that name

tests/test_layers.py holds the rules; --details lists what breaks them.
"""

from __future__ import annotations

import argparse
import ast
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

PACKAGE = "rlentropy"

# A module imports from lower layers, and from its own unit: a package, or a module beside them.
LAYERS = {
    **dict.fromkeys(("errors", "start", "types"), 0),
    **dict.fromkeys(("estimators", "files", "intervals", "kernels", "spaces"), 1),
    **dict.fromkeys(("log", "mdp", "wrappers"), 2),
    **dict.fromkeys(("calls", "data", "entropy", "policies", "risk"), 3),
    **dict.fromkeys(("diversity", "envs", "neural", "perturbations", "planning"), 4),
    **dict.fromkeys(("exploration", "offline", "preferences", "robust"), 5),
    **dict.fromkeys(("page", "plots", "runs"), 6),
    "commands": 7,
    "cli": 8,
}
AT_START = ("envs", "start")  # what `import rlentropy` itself imports

# Of checkouts before this table: tools that stood beside cli, and modules that are counted with a
# unit of the table. ``run`` held the Result that every algorithm returned.
FORMER_LAYERS = LAYERS | dict.fromkeys(("collect", "compare", "evaluate", "sweep"), 7)
FORMER_UNITS = {
    **dict.fromkeys(("empirical", "estimators", "known", "mdp_arrays", "mdp_formats"), "mdp"),
    **dict.fromkeys(("grids", "parameters"), "perturbations"),
    **{"checked": "wrappers", "figures": "plots", "networks": "neural", "objectives": "types"},
    "run": "log",
}

LONGEST_FILE, LONGEST_FUNCTION = 450, 60  # lines

REACH = ("exploration.entgame", "offline.rfzi", "robust.actor_critic")


class Import(NamedTuple):
    """A module of ours that another names."""

    target: str
    line: int
    inside: str  # the function that it is in; empty at module level
    for_types: bool  # under TYPE_CHECKING


@dataclass(frozen=True)
class Module:
    """A source file."""

    name: str  # rlentropy.risk.base; of a package's __init__ the package
    path: Path
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)
    imports: tuple[Import, ...] = field(repr=False)

    @property
    def unit(self) -> str:
        """The package or module directly in rlentropy that it belongs to; empty for the root."""
        return unit_of(self.name)

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Also those inside classes and functions."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


Modules = Mapping[str, Module]


def unit_of(name: str) -> str:
    return [*name.split("."), ""][1]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    has_docstring = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if has_docstring else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


# ---------------------------------------------------------------- reading


def read_modules(checkout: Path) -> Modules:
    """The package's modules by name; envs/ is rlentropy.envs."""
    files = {}
    for folder, prefix in (("rlentropy", PACKAGE), ("envs", f"{PACKAGE}.envs")):
        for path in sorted((checkout / folder).rglob("*.py")):
            parts = path.relative_to(checkout / folder).with_suffix("").parts
            files[".".join((prefix, *parts)).removesuffix(".__init__")] = path
    modules = {}
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, str(path))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        modules[name] = Module(name, path, text, tree, tuple(imports_in(tree, package, files)))
    return modules


def imports_in(
    node: ast.AST,
    package: str,
    known: Mapping[str, Path],
    inside: str = "",
    for_types: bool = False,
) -> Iterator[Import]:
    """Imports of ours at and below a node, of modules and of names in them, each as the module.

    A public name of the root stays one, since it stands for a module that it doesn't name.
    ``import_module`` with a literal name is an import too; names in tables are not.
    """
    guarded = node.body if isinstance(node, ast.If) and for_checkers(node) else []
    for child in ast.iter_child_nodes(node):
        typed = for_types or child in guarded  # not in its else
        for name in targets(child, package):
            source, _, last = name.rpartition(".")
            public = source == PACKAGE and not last.startswith("_")
            if name.split(".")[0] == PACKAGE:
                target = name if name in known or public else source
                yield Import(target, getattr(child, "lineno", 0), inside, typed)
        function = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else ""
        yield from imports_in(child, package, known, function or inside, typed)


def for_checkers(node: ast.If) -> bool:
    match node.test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
    return False


def targets(node: ast.AST, package: str) -> list[str]:
    """Dotted names that an import statement, or a call of import_module, asks for."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        source = ".".join([*(above if node.level else ()), *([node.module] if node.module else ())])
        return [f"{source}.{alias.name}" for alias in node.names]
    match node:
        case ast.Call(
            func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [name]
    return []


# ---------------------------------------------------------------- layers and circles


def wrong_way(
    modules: Modules,
    layers: Mapping[str, int] = LAYERS,
    units: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Imports against the layers, one line each, with the number of the first line that has it.

    A module imports, at module level or inside functions, to run or for types alone, from strictly
    lower layers and its own unit. The root may name anything inside functions or for types, and at
    module level what starts the package; anything may import the root, which is there before it.
    A unit that no layer is given is a line too.

    Args:
        units: modules beside the packages that count as parts of another unit.
    """

    def unit(name: str) -> str:
        own = unit_of(name)
        return units.get(own, own)

    found = {}
    for name, module in modules.items():
        here = unit(name)
        if here and here not in layers:
            found[name, name] = f"{name} must be in the table of layers, got no layer of {here}"
        for target, line, inside, for_types in module.imports:
            there = unit(target)
            if there in ("", here) or (name, target) in found:
                continue
            if not here and not (inside or for_types or there in AT_START):
                found[name, target] = f"{name} imports {target} at module level, line {line}"
            elif here in layers and layers.get(there, math.inf) >= layers[here]:
                found[name, target] = (
                    f"{name} (layer {layers[here]}) imports {target} "
                    f"(layer {layers.get(there, 'none')}), line {line}"
                )
    return list(found.values())


def circles(modules: Modules) -> list[str]:
    """Modules that import each other, directly or not; a line a circle, with all its imports.

    Imports of every kind. The root is left out, and so are the packages above a module, whose
    __init__ Python runs before it.
    """
    graph = {
        name: {i.target: i.line for i in reversed(module.imports) if unit_of(i.target)}
        for name, module in modules.items()
        if module.unit
    }
    after = {name: reached(graph, graph[name]) for name in graph}
    groups = {
        tuple(other for other in graph if other in after[name] and name in after[other])
        for name in graph
        if name in after[name]
    }
    return [
        "; ".join(
            f"{name} imports {other}, line {graph[name][other]}"
            for name in group
            for other in group
            if other in graph[name]
        )
        for group in sorted(groups)
    ]


def reach(modules: Modules, start: str) -> set[str]:
    """Modules that run once `start` is imported and used."""
    graph = {
        name: {
            name.rpartition(".")[0],
            *(i.target for i in module.imports if not i.for_types and i.inside != "__getattr__"),
        }
        & modules.keys()
        for name, module in modules.items()
    }
    return reached(graph, {start} & modules.keys())


def reached(graph: Mapping[str, Iterable[str]], start: Iterable[str]) -> set[str]:
    """The start, and all that edges lead to from there."""
    found: set[str] = set()
    ahead = list(start)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += graph.get(name, ())
    return found


# ---------------------------------------------------------------- figures


def too_long(modules: Modules) -> list[str]:
    """Files and functions over the limits, one line each."""
    found = [
        f"{module.name} has {module.lines} lines, at most {LONGEST_FILE}"
        for module in modules.values()
        if module.lines > LONGEST_FILE
    ]
    for module in modules.values():
        found += [
            f"{module.name}.{function.name} has {length(function)} lines, at most "
            f"{LONGEST_FUNCTION}, line {function.lineno}"
            for function in module.functions
            if length(function) > LONGEST_FUNCTION
        ]
    return found


def class_depth(modules: Modules) -> list[str]:
    """The longest chain of classes of ours, base first; a base is looked up by its last name."""
    classes = {
        node.name: node
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }

    def chain(name: str, below: tuple[str, ...] = ()) -> list[str]:
        if name not in classes or name in below:
            return []
        bases = [ast.unparse(base).partition("[")[0].split(".")[-1] for base in classes[name].bases]
        return [*max((chain(b, (*below, name)) for b in bases), key=len, default=[]), name]

    return max(map(chain, classes), key=len, default=[])


def outer_loops(modules: Modules) -> list[str]:
    """Functions with a loop in which a run's progress is kept."""
    return [
        f"{module.name}.{function.name}"
        for module in modules.values()
        for function in module.functions
        if any(
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in ("tick", "checkpoint")
            for loop in ast.walk(function)
            if isinstance(loop, ast.For | ast.While)
            for call in ast.walk(loop)
        )
    ]


def array_definitions(modules: Modules) -> list[str]:
    def defines(node: ast.stmt) -> bool:
        match node:
            case ast.Assign(targets=[ast.Name(id="Array")]):
                return True
            case ast.AnnAssign(target=ast.Name(id="Array")):
                return True
        return False

    return [module.name for module in modules.values() if any(map(defines, module.tree.body))]


def figures(modules: Modules) -> dict[str, str]:
    """Name → figure, in words."""
    found = {}
    for name in REACH:
        seen = reach(modules, f"{PACKAGE}.{name}")
        lines = sum(bool(x.strip()) for m in seen for x in modules[m].text.splitlines())
        found[f"reach of {name}, modules / lines"] = f"{len(seen)} / {lines:,}" if seen else "none"
    lengths = [length(function) for module in modules.values() for function in module.functions]
    files = [module.lines for module in modules.values()]
    roots = {m.path for m in modules.values() if m.path.parent.name == PACKAGE}
    return found | {
        "root modules": f"{len(roots)}",
        "largest file, lines": f"{max(files):,}",
        f"files over {LONGEST_FILE} lines": f"{sum(n > LONGEST_FILE for n in files)}",
        "longest function, lines": f"{max(lengths)}",
        "functions over 40 lines": f"{sum(n > 40 for n in lengths)}",
        f"functions over {LONGEST_FUNCTION} lines": f"{sum(n > LONGEST_FUNCTION for n in lengths)}",
        "wrong-way imports": f"{len(wrong_way(modules, FORMER_LAYERS, FORMER_UNITS))}",
        "circles": f"{len(circles(modules))}",
        "outer loops": f"{len(outer_loops(modules))}",
        "class depth": f"{len(class_depth(modules))}",
        "Array definitions": f"{len(array_definitions(modules))}",
    }


def details(modules: Modules) -> list[str]:
    """What stands behind the figures that should be 0 or 1."""
    lines = wrong_way(modules, FORMER_LAYERS, FORMER_UNITS) + too_long(modules)
    lines += [f"circle: {circle}" for circle in circles(modules)]
    lines += [f"outer loop: {name}" for name in outer_loops(modules)]
    lines += [f"Array is defined in {name}" for name in array_definitions(modules)]
    return [*lines, f"longest chain of classes: {' < '.join(class_depth(modules))}"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("checkouts", nargs="*", type=Path, default=[here])
    parser.add_argument("--details", action="store_true", help="also list what is counted")
    options = parser.parse_args(arguments)
    packages = {path.resolve().name: read_modules(path) for path in options.checkouts}
    columns = {name: figures(modules) for name, modules in packages.items()}
    widths = {name: max(len(name), *map(len, column.values())) for name, column in columns.items()}
    print(f"{'':48}" + "".join(f"  {name:>{width}}" for name, width in widths.items()))
    for row in next(iter(columns.values())):
        print(f"{row:48}" + "".join(f"  {columns[n][row]:>{w}}" for n, w in widths.items()))
    for name, modules in packages.items() if options.details else ():
        print("", name, *(f"  {line}" for line in details(modules)), sep="\n")


if __name__ == "__main__":
    main()
