"""What several checks use, one subject a file.

    answers.py   what an answer must be (`expects=`), values in messages
    numbers.py   numbers, and words for the usual mistakes
    blocks.py    modules and functions against a reference, in eval and training mode
    mistakes.py  words for the usual mistakes in a block
    parts.py     answers of several numbers, for parts of the points
    operators.py what a network's operators read
    trained.py   networks that a check trains: fresh copies, budgets, scores
    attention.py does a network attend
    slips.py     the usual slips of PyTorch, named
    watch.py     what a learner's code calls while it runs

    @exercise("02.1", title="Inverted residual", minutes=20, difficulty="medium", expects=a_module_class)
    def inverted_residual(answer):
        compare_blocks(answer, InvertedResidual, [((16, 24, 2, 6), (2, 16, 9, 12)), ((24, 24, 1, 6), (1, 24, 7, 7))])
"""
from lwcourse.checks.helpers.answers import (
    a_builder,
    a_function,
    a_module,
    a_module_class,
    a_number,
    plain,
    refuse_other_order,
    shown,
)
from lwcourse.checks.helpers.attention import refuse_without_attention
from lwcourse.checks.helpers.blocks import (
    all_close,
    compare_blocks,
    compare_functions,
    compare_modules,
    refuse_no_tensor,
    refuse_other_macs,
    run_alone,
)
from lwcourse.checks.helpers.mistakes import naming_mistakes
from lwcourse.checks.helpers.numbers import compare_numbers, read_number, refuse_missing_keys, usual_mistakes
from lwcourse.checks.helpers.operators import first_output, refuse_standard_convolutions
from lwcourse.checks.helpers.parts import compare_parts
from lwcourse.checks.helpers.slips import (
    explain_join,
    refuse_hidden_layers,
    refuse_layers_made,
    refuse_mixed_batch,
    refuse_other_dtype,
    refuse_probabilities,
    refuse_ready_made,
    refuse_squashed,
)
from lwcourse.checks.helpers.trained import (
    banded,
    build_network,
    counted_macs,
    counted_parameters,
    drawn_anew,
    refuse_other_network,
    refuse_over_budget,
    refuse_shared,
    ten_class_network,
    trained_accuracy,
)
from lwcourse.checks.helpers.watch import Watched, watch

__all__ = [
    "Watched", "a_builder", "a_function", "a_module", "a_module_class", "a_number", "all_close", "banded",
    "build_network", "compare_blocks", "compare_functions", "compare_modules", "compare_numbers", "compare_parts",
    "counted_macs", "counted_parameters", "drawn_anew", "explain_join", "first_output", "naming_mistakes", "plain",
    "read_number", "refuse_hidden_layers", "refuse_layers_made", "refuse_missing_keys", "refuse_mixed_batch",
    "refuse_no_tensor", "refuse_other_dtype", "refuse_other_macs", "refuse_other_network", "refuse_other_order",
    "refuse_over_budget", "refuse_probabilities", "refuse_ready_made", "refuse_shared", "refuse_squashed",
    "refuse_standard_convolutions", "refuse_without_attention", "run_alone", "shown", "ten_class_network",
    "trained_accuracy", "usual_mistakes", "watch",
]
