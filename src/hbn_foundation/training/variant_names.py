"""The names of the variants of a trained model, known without torch."""

from typing import Literal, get_args

Name = Literal["fp32", "cached", "bf16", "fp16", "int8", "int8_dynamic", "compile", "onnx"]
FP32: Name = "fp32"
NAMES: tuple[Name, ...] = get_args(Name)
