"""What an exception says of the device: the one place that tells too little memory from a fault.

By names and texts, without torch: libraries raise many classes, and an old torch has fewer.
"""

from __future__ import annotations

import errno
import re

from hbn_foundation.errors import UserError

USER, OUT_OF_MEMORY, DEVICE, ERROR = "user", "out_of_memory", "device_error", "error"

#: Texts, in lower case, of a device or a host without enough memory.
NO_MEMORY = (
    "out of memory",  # CUDA, HIP, MPS, XPU
    "status_alloc_failed",  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE
    "cufft_alloc_failed",
    "memory allocation",  # cudaErrorMemoryAllocation, "failed memory allocation"
    "erroroutofmemory",
    "can't allocate memory",  # DefaultCPUAllocator
    "cannot allocate memory",
    "not enough memory",
    "alloc_cpu",
)
#: Texts, in lower case, of a device or its driver that failed; after it nothing there is right.
FAILED_DEVICE = re.compile(
    r"(cuda|hip|nccl|cudnn|miopen|cufft|triton|mps)( driver| runtime| internal)? error"
    r"|triton error|(cublas|cudnn|cusolver|cusparse|hipblas|rocblas|miopen)_?status"
    r"|cufft_|device-side assert|illegal (memory access|instruction|address)|misaligned address"
    r"|launch failure|launch timed out|uncorrectable|no cuda gpus|no nvidia driver"
    r"|no hip gpus|hiperror|cudaerror"
)


def classify(error: BaseException) -> str:
    """Sort an error: `user`, `out_of_memory`, `device_error` or `error`."""
    if isinstance(error, UserError):
        return USER
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    return DEVICE if is_device_error(error) else ERROR


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory, of the device or the host, was what was missing."""
    if isinstance(error, MemoryError) or "OutOfMemoryError" in _classes(error):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in NO_MEMORY)


def is_device_error(error: BaseException) -> bool:
    """Tell whether the device failed, and not what it was given to do."""
    if "AcceleratorError" in _classes(error):
        return True
    return isinstance(error, RuntimeError) and FAILED_DEVICE.search(str(error).lower()) is not None


def _classes(error: BaseException) -> set[str]:
    return {one.__name__ for one in type(error).__mro__}
