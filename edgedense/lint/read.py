"""From an ONNX file to the view that the rules read; weights stay on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, numpy_helper

from edgedense.errors import InputError
from edgedense.findings import printable
from edgedense.lint.file import Constant, File, Input, Op

_STANDARD = ("", "ai.onnx")
_PLAIN = (AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING, AttributeProto.INTS)
_AGAIN = "Give a whole ONNX file; export it again if this one should be one."


def read_file(path: Path) -> File:
    """The graph in ``path``.

    Errors: InputError for what is no ONNX file, is truncated or contradicts itself, and where
    external data are missing.
    """
    model = _parse(path)
    opset = [entry.version for entry in model.opset_import if entry.domain in _STANDARD]
    if not opset or not model.graph.node:
        raise InputError(f"{path}: not an ONNX network, or truncated", _AGAIN)
    reader = _Reader(path)
    constants = {entry.name: reader.constant(entry) for entry in model.graph.initializer}
    ops = []
    for node in model.graph.node:
        op = _op(node)
        value = _constant_node(node)
        if value is not None:
            constants[op.output] = reader.constant(value)
        elif op.kind == "Identity" and op.input(0) in constants:
            constants[op.output] = constants[op.input(0)]
        else:
            ops.append(op)
    inputs = tuple(_input(value) for value in model.graph.input if value.name not in constants)
    sparse = {entry.values.name for entry in model.graph.sparse_initializer}
    given = {*constants, *sparse, *(value.name for value in inputs)}
    outputs = frozenset(value.name for value in model.graph.output)
    functions = {(function.domain, function.name) for function in model.functions}
    return File(
        ops=_in_order(ops, given, outputs, path),
        constants=constants,
        inputs=inputs,
        outputs=outputs,
        opset=max(opset),
        unseen=tuple(
            op
            for op in ops
            if (op.domain, op.kind) in functions or op.kind in ("If", "Loop", "Scan")
        ),
        producer=model.producer_name,
    )


def _parse(path: Path) -> Any:
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.glob("*.onnx"))[:8])
        raise InputError(
            f"{path} is a folder",
            f"Name one file in it: {inside}." if inside else "Name an ONNX file.",
        )
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "Check the path.") from None
    except DecodeError:
        raise InputError(f"{path}: not an ONNX file, or truncated", _AGAIN) from None
    # protobuf gives bytes where a name is not UTF-8
    if not all(isinstance(name, str) for name in _names(model.graph)):
        raise InputError(f"{path}: damaged, a name in it is no text", _AGAIN)
    return model


def _names(graph: Any) -> Iterator[Any]:
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            for body in _bodies(attribute):
                yield from _names(body)


class _Reader:
    """Reads tensors of one file; external data lie beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int | None] = {}

    def constant(self, tensor: Any) -> Constant:
        """``tensor`` with its values left where they are, after a look whether they are there."""
        shape = tuple(tensor.dims)
        known = tensor.data_type in TensorProto.DataType.values()
        if not known or any(length < 0 for length in shape):
            raise self._broken(tensor, "has no valid type or shape")
        if tensor.data_location == TensorProto.EXTERNAL:
            self._check_external(tensor)
        kind = TensorProto.DataType.Name(tensor.data_type).lower()
        name = {"float": "float32", "double": "float64"}.get(kind, kind)
        return Constant(tensor.name, name, shape, partial(self._values, tensor))

    def _values(self, tensor: Any) -> NDArray[Any]:
        if tensor.data_location == TensorProto.EXTERNAL:
            file, start, length = self._external(tensor)
            with (self.path.parent / file).open("rb") as handle:
                handle.seek(start)
                data = handle.read(length)
            whole = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=data)
        else:
            whole = tensor
        try:
            array = np.asarray(numpy_helper.to_array(whole))
        except (ValueError, TypeError, KeyError):
            raise self._broken(tensor, "does not hold what its shape asks for") from None
        if array.shape != tuple(tensor.dims):
            raise self._broken(tensor, "does not hold what its shape asks for")
        return array

    def _external(self, tensor: Any) -> tuple[str, int, int]:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        try:
            start, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        except ValueError:
            start = -1
        file = entries.get("location", "")
        if not isinstance(file, str):  # not UTF-8
            raise self._broken(tensor, "names external data in no text")
        place = PurePosixPath(file.replace("\\", "/"))
        if not file or start < 0 or place.is_absolute() or ".." in place.parts:
            raise self._broken(tensor, f"names external data {file!r}, not a place beside the file")
        return file, start, length

    def _check_external(self, tensor: Any) -> None:
        file, start, length = self._external(tensor)
        if file not in self.sizes:
            found = self.path.parent / file
            self.sizes[file] = found.stat().st_size if found.is_file() else None
        size = self.sizes[file]
        if size is None or size < start + max(length, 0):
            what, shown = "missing" if size is None else "cut", printable(file)
            raise InputError(
                f"{self.path}: its external data {shown} are {what}",
                f"Put the whole {shown} beside it.",
            )

    def _broken(self, tensor: Any, what: str) -> InputError:
        return InputError(
            f"{self.path}: tensor {printable(tensor.name) or '(unnamed)'} {what}", _AGAIN
        )


def _op(node: Any) -> Op:
    attributes: dict[str, Any] = {}
    captured: set[str] = set()
    for attribute in node.attribute:
        if attribute.type in _PLAIN:
            value = onnx.helper.get_attribute_value(attribute)
            attributes[attribute.name] = tuple(value) if isinstance(value, list) else value
        for body in _bodies(attribute):
            captured |= _captured(body)
    inputs = (*node.input, *sorted(captured - set(node.input)))
    domain = "" if node.domain in _STANDARD else node.domain
    return Op(node.op_type, node.name, inputs, tuple(filter(None, node.output)), attributes, domain)


def _captured(body: Any) -> set[str]:
    """Values of the outer graph that the body of an If or Loop reads."""
    own = {value.name for value in (*body.input, *body.initializer)}
    read = {value.name for value in body.output}
    for node in body.node:
        own.update(node.output)
        read.update(node.input)
        for attribute in node.attribute:
            for inner in _bodies(attribute):
                read |= _captured(inner)
    return {name for name in read if name} - own


def _bodies(attribute: Any) -> tuple[Any, ...]:
    alone = (attribute.g,) if attribute.type == AttributeProto.GRAPH else ()
    return (*alone, *attribute.graphs)


def _constant_node(node: Any) -> Any:
    if node.op_type != "Constant" or node.domain not in _STANDARD or not node.output:
        return None
    for attribute in node.attribute:
        name = node.output[0]
        if attribute.name == "value":
            tensor = TensorProto()
            tensor.CopyFrom(attribute.t)
            tensor.name = name
            return tensor
        if attribute.name in ("value_float", "value_floats"):
            value = onnx.helper.get_attribute_value(attribute)
            return numpy_helper.from_array(np.asarray(value, np.float32), name)
        if attribute.name in ("value_int", "value_ints"):
            value = onnx.helper.get_attribute_value(attribute)
            return numpy_helper.from_array(np.asarray(value, np.int64), name)
    return None


def _input(value: Any) -> Input:
    tensor = value.type.tensor_type
    known = tensor.elem_type in TensorProto.DataType.values()
    kind = TensorProto.DataType.Name(tensor.elem_type).lower() if known else ""
    axes = tuple(
        axis.dim_value if axis.WhichOneof("value") == "dim_value" and axis.dim_value > 0 else None
        for axis in tensor.shape.dim
    )
    return Input(value.name, "float32" if kind == "float" else kind, axes)


def _in_order(ops: list[Op], given: set[str], outputs: Iterable[str], path: Path) -> tuple[Op, ...]:
    """``ops`` so that each comes after those that it reads: most files are so already."""
    makers: dict[str, int] = {}
    for number, op in enumerate(ops):
        for name in op.outputs:
            if makers.setdefault(name, number) != number or name in given:
                raise InputError(
                    f"{path}: {printable(name)} is computed twice: not valid ONNX", _AGAIN
                )
    needs = {number: set(_needs(op, makers, given, path)) for number, op in enumerate(ops)}
    for name in outputs:
        if name not in makers and name not in given:
            raise InputError(f"{path}: nothing computes its output {printable(name)}", _AGAIN)
    if all(before < number for number, befores in needs.items() for before in befores):
        return tuple(ops)
    try:
        return tuple(ops[number] for number in TopologicalSorter(needs).static_order())
    except CycleError:
        raise InputError(f"{path}: its nodes read each other in a circle", _AGAIN) from None


def _needs(op: Op, makers: Mapping[str, int], given: set[str], path: Path) -> Iterator[int]:
    for name in op.inputs:
        if name in makers:
            yield makers[name]
        elif name and name not in given:
            place, missing = printable(op.name or op.output or op.kind), printable(name)
            raise InputError(
                f"{path}: {place} reads {missing}, which nothing computes: truncated, or damaged",
                _AGAIN,
            )
