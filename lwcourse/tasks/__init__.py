"""What a network learns. The loop of `lwcourse.train` runs any task and names none: data carry theirs (`data.task`).

    base.py            what a task answers
    classification.py  one class an image
    segmentation.py    one class a pixel
"""
from lwcourse.tasks.base import Meter, Task
from lwcourse.tasks.classification import Classification
from lwcourse.tasks.segmentation import Segmentation

__all__ = ["Classification", "Meter", "Segmentation", "Task"]
