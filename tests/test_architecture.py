"""Imports point down: every import of every module, inside functions and for types included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TypeGuard

import pytest

import edgedense

ROOT = Path(edgedense.__file__).parent
# from the bottom; a room is a module or package right under edgedense, and rooms on one floor are
# strangers; "" is edgedense itself, which holds the version
FLOORS = (
    {""},
    {"errors"},
    {"environment", "progress", "distributed", "findings", "memory"},
    {"artifact"},
    {"board", "data", "densenet", "run", "stats", "targets"},
    {"engines", "graph", "latency"},
    {
        *("importing", "prune", "quantize", "lint", "build", "validate", "benchmark", "train"),
        "insight",
    },
    {"bundle", "compare", "pipeline", "report", "demo", "doctor", "profiling", "serving"},
    {"cli"},
    {"__main__", "pytest_plugin"},
)
CHECKPOINTS = "densenet.checkpoints"
# the only homes of each heavy library: a room with all its modules, or one module
HOMES = {
    "torch": {
        *("densenet", "graph", "prune", "quantize", "train", "demo"),
        *("engines.pytorch", "distributed"),
    },
    "torch_pruning": {"prune.remove"},
    "onnx": {"graph.export", "build.cpu", "lint.read"},
    "onnxruntime": {"engines.onnxruntime"},
    "safetensors": {f"{CHECKPOINTS}.{name}" for name in ("load", "model", "torch_file")},
    "sklearn": {"demo"},
    "h5py": {f"{CHECKPOINTS}.keras_file"},
    # protobuf comes with onnx
    "google": {f"{CHECKPOINTS}.caffe", f"{CHECKPOINTS}.caffe_proto", "lint.read"},
    "tensorrt": set(),
    "tensorrt_rtx": set(),
    "pycuda": {"engines.cuda_pycuda"},
    "cuda": {"engines.cuda_python"},
    "ray": {"pipeline.parallel"},
    "cryptography": {"bundle.keys"},
}
# where a module's name is only known at run time
BY_NAME = {"engines.tensorrt_api", "engines.cuda"}
# what runs on a device: none of it may reach a heavy library by being imported
DEVICE_ROOMS = {
    *("cli", "build", "benchmark", "validate", "data", "stats", "targets", "doctor"),
    *("latency", "profiling", "bundle", "run", "serving", "board"),
    *("findings", "insight", "compare", "report"),
}
DEVICE_MODULES = {
    *("engines.cuda", "engines.cuda_pycuda", "engines.cuda_python", "engines.fit"),
    *("engines.layer_times", "engines.runtime_cache"),
    *("engines.tensorrt_engine", "engines.tensorrt_lane"),
    "engines.opening",
    "engines.reference",
    "engines.runner",
    "engines.tensorrt",
    "engines.tensorrt_api",
}
IMPORTED_BY_FUNCTIONS_ONLY = {"build.cpu"}  # needs onnxruntime, which a device may lack


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {name_of(path): path for path in ROOT.rglob("*.py")}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def room(module: str) -> str:
    return module.partition(".")[0]


def floor(module: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if room(module) in rooms]
    assert len(found) == 1, f"edgedense.{room(module)} has no place: put it on a floor in FLOORS"
    return found[0]


def targets_of(node: ast.AST) -> Iterator[str]:
    """Full names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: write the import out in full"
        base = node.module or ""
        inner = base.removeprefix("edgedense").lstrip(".")
        for alias in node.names:
            name = f"{inner}.{alias.name}".lstrip(".")
            ours = room(base) == "edgedense" and name in FILES
            yield f"edgedense.{name}" if ours else base
    elif imports_by_name(node) and isinstance(node.args[0], ast.Constant):
        yield node.args[0].value


def imports_by_name(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
        ("import_module", "__import__")
    )


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    return {name for node in nodes for name in targets_of(node)}


def ours(names: set[str]) -> set[str]:
    found = {n.removeprefix("edgedense").lstrip(".") for n in names if room(n) == "edgedense"}
    assert found <= set(FILES), f"no such module: {found - set(FILES)}"
    return found


def on_import(nodes: list[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that run when a module is imported."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from on_import(node.orelse)
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            yield from on_import(getattr(node, inner, []))


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_to_lower_floors(module: str) -> None:
    for used in sorted(ours(imported(ast.walk(tree(module))))):
        if room(used) != room(module):
            assert floor(used) < floor(module), (
                f"edgedense.{module} (floor {floor(module)}) imports edgedense.{used} "
                f"(floor {floor(used)})"
            )


def test_every_room_has_one_floor() -> None:
    rooms = {room(module) for module in FILES}
    placed = [name for rooms_there in FLOORS for name in rooms_there]
    assert sorted(placed) == sorted(rooms)


def test_no_import_cycle_between_modules() -> None:
    graph = {module: ours(imported(ast.walk(tree(module)))) - {module} for module in FILES}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, naming the cycle


@pytest.mark.parametrize("module", sorted(FILES))
def test_heavy_libraries_stay_in_their_homes(module: str) -> None:
    for name in imported(ast.walk(tree(module))):
        homes = HOMES.get(room(name))
        assert homes is None or {module, room(module)} & homes, f"{name} is no guest here"


@pytest.mark.parametrize("module", sorted(set(FILES) - BY_NAME))
def test_nothing_is_imported_by_a_computed_name(module: str) -> None:
    for node in ast.walk(tree(module)):
        assert not imports_by_name(node) or isinstance(node.args[0], ast.Constant), node.lineno


def device_modules() -> list[str]:
    return sorted(
        module
        for module in FILES
        if (room(module) in DEVICE_ROOMS or module in DEVICE_MODULES)
        and module not in IMPORTED_BY_FUNCTIONS_ONLY
    )


@pytest.mark.parametrize("module", device_modules())
def test_importing_the_device_side_reaches_no_heavy_library(module: str) -> None:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        now = waiting.pop()
        if now in seen:
            continue
        seen.add(now)
        names = imported(on_import(tree(now).body))
        heavy = {name for name in names if room(name) in HOMES}
        assert not heavy, f"edgedense.{module} imports {heavy} by way of edgedense.{now}"
        for used in ours(names):
            parts = used.split(".")
            waiting += [".".join(parts[:k]) for k in range(1, len(parts) + 1)]
