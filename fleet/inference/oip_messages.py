"""Messages of the Open Inference Protocol v2 over gRPC: one table, classes built at import.

Field numbers are the protocol's; fields that a site never reads or writes are left out, and are
skipped when they come. A test holds the table against NVIDIA's own client.

Source: KServe, Open Inference Protocol V2, grpc_predict_v2.proto; Triton Inference Server,
grpc_service.proto and model_config.proto (model configuration extension).
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "inference"
SERVICE: Final = "inference.GRPCInferenceService"

_Type = descriptor_pb2.FieldDescriptorProto
_TYPES: Final = {
    **{"bool": _Type.TYPE_BOOL, "text": _Type.TYPE_STRING, "bytes": _Type.TYPE_BYTES},
    **{"i32": _Type.TYPE_INT32, "i64": _Type.TYPE_INT64, "u32": _Type.TYPE_UINT32},
    **{"u64": _Type.TYPE_UINT64, "f32": _Type.TYPE_FLOAT, "f64": _Type.TYPE_DOUBLE},
}

_ASKED: Final = {"name": (1, "text"), "version": (2, "text")}
_TENSOR: Final = {
    "name": (1, "text"),
    "datatype": (2, "text"),
    "shape": (3, "i64*"),
    "parameters": (4, "{InferParameter}"),
    "contents": (5, "InferTensorContents"),
}

MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": _ASKED,
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {
        "name": (1, "text"),
        "version": (2, "text"),
        "extensions": (3, "text*"),
    },
    "ModelMetadataRequest": _ASKED,
    "ModelMetadataResponse": {
        "name": (1, "text"),
        "versions": (2, "text*"),
        "platform": (3, "text"),
        "inputs": (4, "ModelMetadataResponse.TensorMetadata*"),
        "outputs": (5, "ModelMetadataResponse.TensorMetadata*"),
    },
    "ModelMetadataResponse.TensorMetadata": {
        "name": (1, "text"),
        "datatype": (2, "text"),
        "shape": (3, "i64*"),
    },
    "ModelConfigRequest": _ASKED,
    "ModelConfigResponse": {"config": (1, "ModelConfig")},
    "ModelConfig": {
        "name": (1, "text"),
        "platform": (2, "text"),
        "max_batch_size": (4, "i32"),
        "input": (5, "ModelInput*"),
        "output": (6, "ModelOutput*"),
        "backend": (17, "text"),
    },
    "ModelInput": {"name": (1, "text"), "data_type": (2, "DataType"), "dims": (4, "i64*")},
    "ModelOutput": {"name": (1, "text"), "data_type": (2, "DataType"), "dims": (3, "i64*")},
    "InferParameter": {
        "bool_param": (1, "bool|"),
        "int64_param": (2, "i64|"),
        "string_param": (3, "text|"),
        "double_param": (4, "f64|"),
        "uint64_param": (5, "u64|"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "bool*"),
        "int_contents": (2, "i32*"),
        "int64_contents": (3, "i64*"),
        "uint_contents": (4, "u32*"),
        "uint64_contents": (5, "u64*"),
        "fp32_contents": (6, "f32*"),
        "fp64_contents": (7, "f64*"),
        "bytes_contents": (8, "bytes*"),
    },
    "ModelInferRequest": {
        "model_name": (1, "text"),
        "model_version": (2, "text"),
        "id": (3, "text"),
        "parameters": (4, "{InferParameter}"),
        "inputs": (5, "ModelInferRequest.InferInputTensor*"),
        "outputs": (6, "ModelInferRequest.InferRequestedOutputTensor*"),
        "raw_input_contents": (7, "bytes*"),
    },
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": {
        "name": (1, "text"),
        "parameters": (2, "{InferParameter}"),
    },
    "ModelInferResponse": {
        "model_name": (1, "text"),
        "model_version": (2, "text"),
        "id": (3, "text"),
        "parameters": (4, "{InferParameter}"),
        "outputs": (5, "ModelInferResponse.InferOutputTensor*"),
        "raw_output_contents": (6, "bytes*"),
    },
    "ModelInferResponse.InferOutputTensor": _TENSOR,
}
"""Message -> field -> (number, type); "*" repeated, "|" one of, {} a map from text to it."""

DATA_TYPES: Final = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING", "BF16"),
)
"""Types of tensors in a model's configuration, by number; strings are BYTES everywhere else."""

CONTENTS: Final = {
    **{"BOOL": "bool_contents", "INT64": "int64_contents", "UINT64": "uint64_contents"},
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{"FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"},
}
"""Type -> field of InferTensorContents; FP16 has none and travels raw."""


def _add_field(message: Any, name: str, number: int, spec: str) -> None:
    base, label = spec.strip("*|{}"), _Type.LABEL_OPTIONAL
    if spec[-1] in "*}":
        label = _Type.LABEL_REPEATED
    field = message.field.add(name=name, number=number, label=label)
    if base in _TYPES:
        field.type = _TYPES[base]
    elif base == "DataType":
        field.type, field.type_name = _Type.TYPE_ENUM, f".{PACKAGE}.{base}"
    else:
        field.type, field.type_name = _Type.TYPE_MESSAGE, f".{PACKAGE}.{base}"
    if spec.endswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _add_map(message: Any, path: str, name: str, number: int, value: str) -> None:
    entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "text")
    _add_field(entry, "value", 2, value)
    _add_field(message, name, number, f"{path}.{entry.name}*")


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="roadloop/oip.proto", package=PACKAGE, syntax="proto3"
    )
    enum = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        enum.value.add(name=f"TYPE_{name}", number=number)
    made: dict[str, Any] = {}
    for path, columns in MESSAGES.items():
        outer, _, name = path.rpartition(".")
        message = made[outer].nested_type if outer else file.message_type
        made[path] = message.add(name=name)
        for field, (number, spec) in columns.items():
            if spec.startswith("{"):
                _add_map(made[path], path, field, number, spec.strip("{}"))
            else:
                _add_field(made[path], field, number, spec)
    return file


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


CLASSES: Final[dict[str, Any]] = _classes()
"""Message name -> protobuf class."""

InferRequest: Final[Any] = CLASSES["ModelInferRequest"]
InferResponse: Final[Any] = CLASSES["ModelInferResponse"]
