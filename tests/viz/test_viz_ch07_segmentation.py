"""Pictures of segmentation: label maps, IoU by class, curves of mean IoU, frame rates."""
import pytest
import torch

from lwcourse import viz
from lwcourse.train import Epoch, Evaluation, History

CLASSES = ("sky", "road", "car")
CONFUSION = torch.tensor([[40, 10, 0], [0, 100, 0], [5, 5, 0]])


def evaluation(confusion=CONFUSION, classes=CLASSES):
    return Evaluation(0.5, 0.9, confusion, classes)


def history(*ious):
    return History({}, [Epoch(i + 1, {"loss": 1.0, "accuracy": 0.5}, {"loss": 1.0, "accuracy": 0.5, "mean_iou": iou},
                              0.1, 1.0) for i, iou in enumerate(ious)])


def test_label_maps_tell_how_much_agrees():
    truth = torch.zeros(2, 4, 6, dtype=torch.long)
    guess = truth.clone()
    guess[:, :2] = 1
    truth[0, 0, 0] = -100
    figure = viz.label_maps(torch.rand(2, 3, 4, 6), {"truth": truth, "guess": guess}, CLASSES)
    assert len(figure.axes) == 6 and "guess agrees with truth on 50% of the pixels" in figure.alt
    assert figure.axes[1].images[0].get_array().mask[0, 0], "an ignored label has no colour"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CLASSES)
    assert figure.png()[:4] == b"\x89PNG"


def test_label_maps_refuse():
    images, maps = torch.rand(1, 3, 4, 6), torch.zeros(1, 4, 6)
    with pytest.raises(ValueError, match="colours for 1 to 8 classes, got 9"):
        viz.label_maps(images, {"a": maps}, [str(i) for i in range(9)])
    with pytest.raises(ValueError, match=r"must be \(1, 4, 6\), got \(1, 4, 5\)"):
        viz.label_maps(images, {"a": maps[..., :5]}, CLASSES)
    with pytest.raises(ValueError):
        viz.label_maps(images, {}, CLASSES)


def test_class_iou_has_frequent_classes_first():
    figure = viz.class_iou({"a": evaluation(), "b": [evaluation(), evaluation()]}, title="IoU")
    axes, = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["road, 62.5%", "sky, 31.2%", "car, 6.2%"]
    assert "a road 87, sky 73, car 0" in figure.alt
    assert [round(bar.get_width()) for bar in axes.patches[:3]] == [87, 73, 0]
    assert len(axes.lines) == 2, "a row of dots for each seed of b"


def test_class_iou_refuses():
    with pytest.raises(ValueError, match="same classes"):
        viz.class_iou({"a": evaluation(), "b": evaluation(classes=("x", "y", "z"))})
    with pytest.raises(ValueError, match="one Evaluation at least"):
        viz.class_iou({"a": []})


def test_iou_curves_cut_to_the_shortest_and_draw_the_level():
    figure = viz.iou_curves({"a": [history(0.1, 0.2, 0.3), history(0.2, 0.4)]}, level=0.05)
    assert figure.alt == "Learning curves: a ends at 30.0 % mean IoU."
    lines = figure.axes[1].lines
    assert list(lines[0].get_ydata()) == pytest.approx([15, 30]) and lines[1].get_ydata()[0] == pytest.approx(5)
    with pytest.raises(ValueError, match="label maps"):
        viz.iou_curves({"a": history(None)})
    with pytest.raises(ValueError, match="no history"):
        viz.iou_curves({"a": []})


def test_frame_rates_are_frames_a_second():
    figure = viz.frame_rates({"a": {(64, 128): 0.01, (128, 256): 0.05}, "b": {(64, 128): 0.02}})
    axes, = figure.axes
    assert list(axes.lines[0].get_ydata()) == pytest.approx([100, 20])
    assert "a 100 at 64 × 128, 20 at 128 × 256; b 50 at 64 × 128" in figure.alt
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64 × 128", "128 × 256"]
    with pytest.raises(ValueError, match="positive"):
        viz.frame_rates({"a": {(64, 128): 0.0}})
    with pytest.raises(ValueError, match="one time at least"):
        viz.frame_rates({"a": {}})
