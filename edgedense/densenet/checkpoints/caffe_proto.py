"""The few messages of Caffe's caffe.proto that weights need; all other fields are skipped.

Source: BVLC/caffe, src/caffe/proto/caffe.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
# names are bytes: a hostile file's need be no UTF-8; numbers are bytes too, which Caffe packs as
# little-endian values, so that millions of them are read at once
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "BlobShape": (("dim", 1, "int64*"),),
    "BlobProto": (
        *(("num", 1, "int64"), ("channels", 2, "int64"), ("height", 3, "int64")),
        *(("width", 4, "int64"), ("data", 5, "bytes*"), ("shape", 7, "BlobShape")),
        ("double_data", 8, "bytes*"),
    ),
    "BatchNormParameter": (("eps", 3, "float"),),
    "LayerParameter": (
        *(("name", 1, "bytes"), ("type", 2, "bytes"), ("bottom", 3, "bytes*")),
        *(("top", 4, "bytes*"), ("blobs", 7, "BlobProto*")),
        ("batch_norm_param", 139, "BatchNormParameter"),
    ),
    "V1LayerParameter": (
        *(("bottom", 2, "bytes*"), ("top", 3, "bytes*"), ("name", 4, "bytes")),
        *(("type", 5, "int32"), ("blobs", 6, "BlobProto*")),
    ),
    "NetParameter": (("layers", 2, "V1LayerParameter*"), ("layer", 100, "LayerParameter*")),
}


def net_parameter() -> type[Any]:
    """The message class NetParameter, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="edgedense_caffe.proto", package="edgedense")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            message.field.add(name=field, number=number, **_kind(kind))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("edgedense.NetParameter")
    return message_factory.GetMessageClass(found)  # type: ignore[no-any-return]


def _kind(kind: str) -> dict[str, Any]:
    label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
    kind = kind.removesuffix("*")
    if kind in _MESSAGES:
        return {
            "label": label,
            "type": _FIELD.TYPE_MESSAGE,
            "type_name": f".edgedense.{kind}",
        }
    types = {
        "int32": _FIELD.TYPE_INT32,
        "int64": _FIELD.TYPE_INT64,
        "float": _FIELD.TYPE_FLOAT,
        "bytes": _FIELD.TYPE_BYTES,
    }
    return {"label": label, "type": types[kind]}
