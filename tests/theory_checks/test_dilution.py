"""What averaging does to guidance: shares by hand, AMDM's steps, controls rejected."""

import pytest

from theory_checks.dilution import check_share, check_step, checks


@pytest.mark.parametrize("guidance", [1.5, 3.0])
@pytest.mark.parametrize(
    ("num_models", "knowing", "share"), [(2, 1, 1 / 2), (3, 1, 1 / 3), (3, 2, 2 / 3), (4, 1, 1 / 4)]
)
def test_a_control_is_divided_and_the_caption_is_not(num_models, knowing, share, guidance):
    control = check_share("control", num_models, knowing, guidance=guidance)
    assert control.verdict == "holds" and control.measured == pytest.approx(share)
    caption = check_share("caption", num_models, knowing, guidance=guidance)
    assert caption.verdict == "holds" and caption.measured == pytest.approx(1)
    assert check_share("control", num_models, knowing, control="not divided").verdict == "fails"
    assert check_share("caption", num_models, knowing, control="all divided").verdict == "fails"


@pytest.mark.parametrize("direction", ["caption", "control"])
def test_projective_guidance_divides_nothing(direction):
    record = check_share(direction, method="projective")
    assert record.verdict == "holds" and record.claimed == 1


@pytest.mark.parametrize("num_models", [2, 3])
def test_amdm_takes_the_means_steps(num_models):
    assert check_step(num_models).measured < 1e-12


def test_the_spherical_fold_takes_nearly_the_same():
    record = check_step(fold="spherical")
    assert not record.ours and record.verdict == "fails" and record.measured < 0.05


def test_the_grid():
    for record in (check() for check in checks("small")):
        assert (record.verdict == "holds") == record.ours, record
