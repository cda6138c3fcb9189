"""How equal is equal: relative to the size of what is compared, per dtype, in one place."""

import torch

ROUNDING = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


def assert_equal(actual: torch.Tensor, expected: torch.Tensor, tol: float | None = None) -> None:
    """All within `tol` times the largest expected entry; same dtype and shape."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    tol = ROUNDING[actual.dtype] if tol is None else tol
    size = expected.double().abs().max().clamp(min=1e-300)
    error = (actual.double() - expected.double()).abs().max() / size
    assert error <= tol, f"relative error {error:.2e}, allowed {tol:.0e}"
