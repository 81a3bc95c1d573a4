"""Records the Python surface of an installed binding, as the fakes of this directory read it.

    python record.py tensorrt            (or tensorrt_rtx, pycuda.driver, cuda.bindings.driver)
    python record.py DUMP.json           (class -> member -> signature lines, taken elsewhere)

Prints the JSON. What a class or function takes is read off the bindings' own signatures; no GPU is
needed, though pycuda and classic TensorRT want their native libraries.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

# classes that edgedense touches, with all their members; and the enums they take
CLASSES = (
    "Builder", "Dims", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
    "IHostMemory", "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProfiler",
    "IProgressMonitor", "IRuntimeCache", "IRuntimeConfig", "ITensor", "ITimingCache", "OnnxParser",
    "ParserError", "Runtime",
)  # fmt: skip
ENUMS = (
    "BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "DataType",
    "ExecutionContextAllocationStrategy", "LayerInformationFormat", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "ProfilingVerbosity", "TensorIOMode",
)  # fmt: skip
PYCUDA = ("Context", "Device", "DeviceAllocation", "Event", "PagelockedHostAllocation", "Stream")
CUDA_ENUMS = ("CUdevice_attribute", "CUresult", "CUstreamCaptureMode")
CUDA_FUNCTIONS = (
    "cuInit", "cuDriverGetVersion", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease", "cuCtxPushCurrent", "cuCtxPopCurrent",
    "cuMemAlloc", "cuMemFree", "cuMemAllocHost", "cuMemFreeHost", "cuMemcpyHtoDAsync",
    "cuMemcpyDtoHAsync", "cuStreamCreate", "cuStreamDestroy", "cuStreamSynchronize",
    "cuEventCreate", "cuEventDestroy", "cuEventRecord", "cuEventElapsedTime",
    "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch",
    "cuGraphExecDestroy", "cuGraphDestroy",
)  # fmt: skip


def arguments(signature: str, owner: str) -> list[str] | None:
    """Arguments of one signature line as ``name:type``, with ``=`` where one may be left out."""
    found = re.fullmatch(r"(?:\d+\. )?\w+\((.*)\)(?: -> .*)?", signature.partition(" :")[0].strip())
    if found is None or "*args" in found[1]:
        return None
    if re.search(r"\(\w+\)\w", found[1]):  # Boost: ( (Stream)arg1 [, (int)flags=0])
        must, _, may = found[1].partition("[")
        told = [
            f"{name}:{kind}{'=' * (n > 0)}"
            for n, part in enumerate((must, may))
            for kind, name in re.findall(r"\((\w+)\)(\w+)", part)
        ]
        own = (f"arg1:{owner}", f"self:{owner}", "arg1:object")
        return told[1:] if owner and told[:1] and told[0] in own else told
    told = []
    for part in parts(found[1]):
        name, _, kind = part.partition(": ")
        kind, default, _ = kind.partition(" = ")
        short = re.sub(r"\b(\w+(::|\.))+", "", kind)
        if part and name != "self":
            told.append(f"{name}:{short}{'=' * bool(default)}")
    return told


def parts(text: str) -> list[str]:
    """``text`` split at its commas, but not at those within brackets."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]


def reduced(lines: list[str], owner: str) -> Any:
    """What the fakes need of a member: ``property``, ``callable``, or its overloads."""
    if lines in (["property"], ["callable"]):
        return lines[0]
    if lines == ["member"]:
        return "property"
    overloads = [found for line in lines if (found := arguments(line, owner)) is not None]
    return overloads or "callable"


def of_dump(dump: dict[str, Any]) -> dict[str, Any]:
    """The recorded facts of a whole dump."""
    if "driver" in dump:
        rest = {k: v for k, v in dump["driver"].items() if isinstance(v, list)}
        classes = {name: dump["driver"][name] for name in PYCUDA} | {"driver": rest}
        enums: dict[str, Any] = {}
    else:
        classes = {name: dump["classes"][name] for name in CLASSES if name in dump["classes"]}
        enums = {name: dump["enums"][name] for name in ENUMS if name in dump["enums"]}
    facts = {
        name: {
            member: reduced(lines, "" if name == "driver" else name)
            for member, lines in members.items()
        }
        for name, members in classes.items()
    }
    return {
        "package": dump["package"], "version": dump["version"], "classes": facts, "enums": enums,
    }  # fmt: skip


def dump_of(module_name: str) -> dict[str, Any]:
    """Class -> member -> signature lines of an installed module."""
    module = importlib.import_module(module_name)
    if module_name == "pycuda.driver":
        return {"package": "pycuda", "version": version(module_name), "driver": members(module)}
    classes, enums = {}, {}
    for name, value in vars(module).items():
        if isinstance(value, type):
            named = getattr(value, "__members__", None)
            if named is None:
                classes[name] = members(value)
            else:
                enums[name] = sorted(named)
    return {
        "package": module_name, "version": version(module_name), "classes": classes, "enums": enums,
    }  # fmt: skip


def members(owner: Any) -> dict[str, Any]:
    """Member -> signature lines; of a module, its classes in the same way."""
    found: dict[str, Any] = {}
    for name in dir(owner):
        value = getattr(owner, name)
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(value, type) and inspect.ismodule(owner):
            found[name] = members(value)
        elif not callable(value):
            found[name] = ["member" if inspect.ismodule(owner) else "property"]
        else:
            lines = [line.strip() for line in (value.__doc__ or "").splitlines()]
            signature = re.compile(rf"(\d+\. )?{re.escape(name)}\(.*")
            found[name] = [line for line in lines if signature.match(line)] or ["callable"]
    return found


def of_cuda_python() -> dict[str, Any]:
    """The recorded facts of cuda-python: arguments, and how many values come with the status."""
    driver = importlib.import_module("cuda.bindings.driver")
    functions = {}
    for name in CUDA_FUNCTIONS:
        function = getattr(driver, name)
        told = (function.__doc__ or "").partition("(")[2].partition(")")[0]
        kinds = [word.strip() for word in told.split(",")] if told else []
        taken = [f"{n}:{_kind(kind)}" for n, kind in zip(_names(function), kinds, strict=True)]
        returns = re.search(r"Returns\s+-+\s+(.*?)(\n\s*\n|\Z)", function.__doc__, re.S)
        assert returns, name
        functions[name] = {"takes": taken, "gives": len(re.findall(r"\n\s*\w+ : ", returns[1]))}
    enums = {name: list(getattr(driver, name).__members__) for name in CUDA_ENUMS}
    return {
        "package": "cuda-bindings", "version": version("cuda-bindings"),
        "functions": functions, "enums": enums,
    }  # fmt: skip


def _names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _kind(told: str) -> str:
    """``size_t bytesize`` is an int, ``mode: CUstreamCaptureMode`` that enum, ``dev`` anything."""
    if ": " in told:
        return told.partition(": ")[2]
    return "int" if " " in told else "handle"


def version(module_name: str) -> str:
    from importlib.metadata import version as of

    names = {"pycuda.driver": "pycuda", "tensorrt_rtx": "tensorrt_rtx_cu12"}
    return of(names.get(module_name, module_name))


def text(facts: dict[str, Any]) -> str:
    """One line a class, function or enum."""

    def section(name: str) -> str:
        rows = (
            f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}"
            for k, v in sorted(facts[name].items())
        )
        return f' "{name}": {{\n' + ",\n".join(rows) + "\n }"

    head = f' "package": {json.dumps(facts["package"])}, "version": {json.dumps(facts["version"])}'
    sections = [section(name) for name in ("classes", "functions", "enums") if name in facts]
    return "{\n" + ",\n".join([head, *sections]) + "\n}\n"


if __name__ == "__main__":
    what = sys.argv[1]
    if what == "cuda.bindings.driver":
        sys.stdout.write(text(of_cuda_python()))
    elif what.endswith(".json"):
        sys.stdout.write(text(of_dump(json.loads(Path(what).read_text()))))
    else:
        sys.stdout.write(text(of_dump(dump_of(what))))
