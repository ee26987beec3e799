"""What an exception means, as torch and its libraries raise it; the record of incidents."""

import errno
import json
from dataclasses import asdict, replace

import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision.heartbeat import Beat
from hbn_foundation.training.supervision.incidents import (
    FILE,
    Incident,
    as_lines,
    classify,
    read_incidents,
    record,
)

INCIDENT = Incident.now(
    Beat(device="cuda", section="step", epoch=1, step=12),
    "silent",
    "silent for 31 s",
    "restart on cpu",
    1.5,
    'File "x.py", line 1\nµ',
)
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("Tried to allocate 2.00 GiB"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't "
                 "allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:83] data. DefaultCPUAllocator: not enough memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
]  # fmt: skip
DEVICE = [
    RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle`"),
    RuntimeError("CUDA driver error: invalid device context"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDn`"),
    RuntimeError("HIP error: invalid device function"),
    RuntimeError("Triton Error [CUDA]: an illegal instruction was encountered"),
    RuntimeError("No CUDA GPUs are available"),
    torch.AcceleratorError("an illegal memory access was encountered")
    if hasattr(torch, "AcceleratorError")
    else RuntimeError("CUDA error: unknown error"),
]
OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 9x2)"),
    RuntimeError("Expected all tensors to be on the same device, cuda:0 and cpu!"),
    ValueError("CUDA error: said by something else"),
    KeyError("out of memory"),
    OSError(errno.EIO, "Input/output error"),
]
ALL = [
    *((error, "out_of_memory") for error in OUT_OF_MEMORY),
    *((error, "device_error") for error in DEVICE),
    *((error, "error") for error in OTHERS),
    (UserError("trainer: out of memory, CUDA error: said to a person"), "user"),
]


@pytest.mark.parametrize(("error", "kind"), ALL, ids=lambda one: str(one)[:40])
def test_an_exception_is_sorted_by_what_failed(error, kind):
    assert classify(error) == kind


def test_what_is_added_is_read_again(tmp_path):
    assert read_incidents(tmp_path) == []
    assert as_lines([]) == ""
    assert INCIDENT.time.endswith("+00:00")
    both = [INCIDENT, replace(INCIDENT, step=13)]
    for incident in both:
        record(tmp_path, incident)
    assert read_incidents(tmp_path) == both
    lines = as_lines(both).splitlines()
    assert [json.loads(line) for line in lines] == [asdict(incident) for incident in both]


def test_a_line_cut_short_hides_no_other(tmp_path):
    record(tmp_path, INCIDENT)
    whole = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(whole + whole[: len(whole) // 2])
    assert read_incidents(tmp_path) == [INCIDENT]
    record(tmp_path, INCIDENT)  # the rest of that line must not swallow it
    assert read_incidents(tmp_path) == [INCIDENT, INCIDENT]
