"""Maps that look alike, and the filters that make one of another."""
import pytest
import torch
import torch.nn.functional as F

from lwcourse import viz


@pytest.fixture
def maps():
    """Map 1 is a filtered map 0, map 2 is map 0 negated, map 3 has nothing to do with them, map 4 is constant."""
    base = torch.randn(1, 1, 24, 30)
    shift = torch.tensor([[[[0.0, 0, 0], [0, 0, 1], [0, 0, 0]]]])
    shifted = F.conv2d(F.pad(base, (1, 1, 1, 1), mode="replicate"), shift)
    return torch.stack([base[0, 0], shifted[0, 0], 2 - 3 * base[0, 0], torch.randn(24, 30), torch.ones(24, 30)])


def test_likeness_is_the_correlation_without_its_sign(maps):
    likeness = viz.map_likeness(maps)
    assert torch.allclose(likeness[:4, :4] + torch.eye(4), torch.corrcoef(maps[:4].flatten(1).double()).abs())
    assert likeness[0, 2].item() == pytest.approx(1) and not likeness[4].any()


def test_a_filter_finds_what_correlation_misses(maps):
    assert viz.map_likeness(maps)[0, 1] < 0.2
    assert viz.ghost_likeness(maps, 1)[0, 1] < 0.1
    shares = viz.ghost_likeness(maps, 3)
    assert shares[0, 1] > 0.999 and shares[0, 2] > 0.999 and shares[0, 3] < 0.1
    assert shares[:, 4].eq(1).all() and shares.diagonal().eq(1).all()


def test_filters_can_be_tried_on_other_maps(maps):
    other = maps.flip(1).contiguous()
    assert viz.ghost_likeness(other, 1, fitted_on=maps)[0, 2] > 0.999
    other[2] = -other[2]
    assert viz.ghost_likeness(other, 1, fitted_on=maps)[0, 2] == 0
    with pytest.raises(ValueError, match="fitted_on must have 5 maps, got 4"):
        viz.ghost_likeness(maps, fitted_on=maps[:4])


def test_intrinsic_maps_are_those_that_make_the_others(maps):
    shares = viz.ghost_likeness(maps, 3)
    assert set(viz.choose_intrinsic(shares, 2)) & {0, 1, 2} and 3 in viz.choose_intrinsic(shares, 2)
    assert sorted(viz.choose_intrinsic(shares, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="count must be from 1 to 5"):
        viz.choose_intrinsic(shares, 6)


def test_pictures_tell_what_they_show(maps):
    assert "0 and 2 correlate with 1.00" in viz.map_pairs(maps, count=1).alt
    figure = viz.map_pairs(maps, [(0, 1), (3, 0)])
    assert "3 × 3 filter of 0 makes 100% of 1" in figure.alt and len(figure.axes) == 8
    budget = viz.ghost_budget(viz.ghost_likeness(maps), [(1, 1.0), (2, 0.55)], 2)
    assert "3 of 5 maps are convolved, for 55% of the MACs" in budget.alt
    with pytest.raises(ValueError, match="ratio must be one of 1, 2, got 3"):
        viz.ghost_budget(viz.ghost_likeness(maps), [(1, 1.0), (2, 0.55)], 3)


@pytest.mark.parametrize("maps", [torch.zeros(3, 4), torch.zeros(1, 4, 4), torch.full((2, 4, 4), float("nan"))])
def test_other_maps_are_refused(maps):
    with pytest.raises(ValueError, match="maps must be two or more"):
        viz.map_likeness(maps)


def test_an_even_filter_is_refused():
    with pytest.raises(ValueError, match="kernel_size must be odd, got 2"):
        viz.ghost_likeness(torch.randn(2, 5, 5), 2)
    with pytest.raises(ValueError, match="there is no pair"):
        viz.map_pairs(torch.zeros(2, 5, 5))
