"""Report versions, devices and dtypes for a bug report: `amdm environment`."""

import argparse
import importlib.metadata
import platform
from collections.abc import Iterator, Sequence

import torch

import amdm

PACKAGES = ["torch", "numpy", "jaxtyping", "diffusers", "transformers", "peft", "safetensors", "k-diffusion"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def report() -> str:
    """Return the versions of amdm, Python and the packages around it, then a line for each device."""
    versions = [f"amdm {amdm.__version__}", f"Python {platform.python_version()}", platform.platform()]
    packages = [f"{package} {_version(package)}" for package in PACKAGES]
    return "\n".join([*versions, *packages, *map(_device, _devices())])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> Iterator[torch.device]:
    """Yield the CPU and every accelerator that torch sees."""
    yield torch.device("cpu")
    for kind in ("cuda", "xpu", "mps"):
        module = getattr(torch, kind, None)
        if module is not None and module.is_available():
            yield from (torch.device(kind, i) for i in range(module.device_count()))


def _device(device: torch.device) -> str:
    """Return the name of a device and the dtypes in which it multiplies."""
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    shown = f" ({name})" if device.type in ("cuda", "cpu") else ""
    works = [str(dtype).removeprefix("torch.") for dtype in DTYPES if _multiplies(device, dtype)]
    return f"device {device}{shown}: {', '.join(works)}"


def _multiplies(device: torch.device, dtype: torch.dtype) -> bool:
    try:
        ones = torch.ones(2, 2, dtype=dtype, device=device)
        return bool((ones @ ones == 2).all())
    except (RuntimeError, TypeError):
        return False


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report."""
    argparse.ArgumentParser(prog="amdm environment", description=__doc__).parse_args(argv)
    print(report())


if __name__ == "__main__":
    main()
