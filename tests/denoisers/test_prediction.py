"""Every kind of prediction, made exactly of known noise and data, gives the data back."""

import pytest
import torch
from strategies import randn
from tolerances import assert_equal

from amdm.denoisers import scaling

SIGMA = torch.tensor([[0.03], [0.4], [1.0], [15.0]], dtype=torch.float64)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow"])
def test_the_exact_prediction_is_scaled_to_the_data(prediction):
    x0, noise = randn(0, 4, 6), randn(1, 4, 6)
    root, s = (1 + SIGMA**2).sqrt(), SIGMA / (1 + SIGMA)
    inputs = {"flow": (1 - s) * x0 + s * noise}.get(prediction, (x0 + SIGMA * noise) / root)
    predicted = {
        "epsilon": noise,
        "v_prediction": (noise - SIGMA * x0) / root,
        "sample": x0,
        "flow": noise - x0,
    }[prediction]
    x = x0 + SIGMA * noise
    c_in, c_skip, c_out = scaling(prediction, SIGMA)
    assert_equal(c_in * x, inputs, 1e-12)
    assert_equal(c_skip * x + c_out * predicted, x0, 1e-12)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_prediction_is_named():
    with pytest.raises(ValueError, match="prediction is 'noise', expected epsilon, v_prediction, sample or"):
        scaling("noise", SIGMA)
