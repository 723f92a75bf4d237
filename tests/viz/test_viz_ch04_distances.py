"""Templates in the plane, histograms of outputs, norms of gradients."""
import pytest
import torch

from lwcourse import viz


def test_a_short_template_wins_nowhere_by_product_and_at_home_by_distance():
    alt = viz.template_planes(torch.tensor([[2.0, 1.0], [-1.0, 1.0], [0.6, -0.6], [-0.4, -2.0]])).alt
    assert "by the product 3 of 4 templates win at their own place" in alt
    assert "by the L1 distance 4 of 4" in alt


@pytest.mark.parametrize("templates", [torch.zeros(1, 2), torch.zeros(3, 3), torch.zeros(9, 2)])
def test_planes_refuse_what_they_cannot_draw(templates):
    with pytest.raises(ValueError, match="templates must be"):
        viz.template_planes(templates)


def test_histograms_tell_mean_spread_and_share_above_zero():
    alt = viz.output_histograms({"low": torch.tensor([-3.0, -1.0]), "both": torch.tensor([-1.0, 1.0])}).alt
    assert "low mean -2.0, standard deviation 1, 0% above zero" in alt and "both mean 0.0" in alt and "50%" in alt
    viz.output_histograms({"zeros": torch.zeros(4)}).png()
    for bad in (torch.tensor([float("nan")]), torch.zeros(0)):
        with pytest.raises(ValueError, match="must be finite"):
            viz.output_histograms({"bad": bad})


def test_gradient_norms_are_drawn_by_layer():
    figure = viz.gradient_norms({"a": [1, 10], "b": [0.1, 0.2]}, ["1", "2"])
    assert "a 1, 10; b 0.1, 0.2" in figure.alt and figure.axes[0].get_yscale() == "log"
    for bad in ([1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="positive norm for each of 2 layers"):
            viz.gradient_norms({"a": bad}, ["1", "2"])
