"""Training: one plain loop (`fit`), a test (`evaluate`), and the record of a run (`History`).

    recipes.py     how a network is trained: `Recipe`, and the published ones by name
    loop.py        `fit`: from a model, data and a recipe to a trained network
    run.py         a run: all that it consists of, its single step, its state
    input.py       the batches of an epoch, from any place in it
    optimizers.py, schedules.py, state.py, device.py, processes.py, checkpoint.py, history.py   what it is made of
    evaluation.py  `evaluate`, and weights for rare classes
    folder.py      what the command line leaves of a run
"""
from lwcourse.tasks.classification import Evaluation
from lwcourse.train.device import pick_device
from lwcourse.train.evaluation import enet_weights, evaluate
from lwcourse.train.history import Epoch, History, TrainingDiverged
from lwcourse.train.loop import fit, fit_seeds
from lwcourse.train.recipes import Recipe
from lwcourse.train.schedules import CyclicLinear, warmup_cosine

__all__ = ["CyclicLinear", "Epoch", "Evaluation", "History", "Recipe", "TrainingDiverged", "enet_weights", "evaluate",
           "fit", "fit_seeds", "pick_device", "warmup_cosine"]
