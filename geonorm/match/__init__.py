"""Definition 3 as measurements: what a layer respects, what it forgets, and who depends on whom.

Every function takes any callable or module that is called as ``layer(x, batch, batch_size)``, ``layer(x, batch)`` or
``layer(x)``, works on a copy in float64, and leaves the layer and its running statistics as they are.
"""

from geonorm.match.actions import permute_nodes, permute_samples, pools, replace_other_samples, scale, shift
from geonorm.match.check import check
from geonorm.match.errors import (
    invariance_error,
    node_permutation_error,
    relative_error,
    rotation_error,
    sample_dependence,
    sample_permutation_error,
)
from geonorm.match.frozen import frozen
from geonorm.match.invariance import (
    Explanation,
    NullSpace,
    explain_null_space,
    null_space,
    null_space_dimension,
)
from geonorm.match.jacobian import cross_sample_influence, jacobian, sample_influence
from geonorm.match.network import check_network
from geonorm.match.network_report import NetworkReport
from geonorm.match.report import MatchReport
from geonorm.match.rotations import random_rotations, rotate
from geonorm.match.tasks import Change, Task

__all__ = [
    "Change",
    "Explanation",
    "MatchReport",
    "NetworkReport",
    "NullSpace",
    "Task",
    "check",
    "check_network",
    "cross_sample_influence",
    "explain_null_space",
    "frozen",
    "invariance_error",
    "jacobian",
    "node_permutation_error",
    "null_space",
    "null_space_dimension",
    "permute_nodes",
    "permute_samples",
    "pools",
    "random_rotations",
    "relative_error",
    "replace_other_samples",
    "rotate",
    "rotation_error",
    "sample_dependence",
    "sample_influence",
    "sample_permutation_error",
    "scale",
    "shift",
]
