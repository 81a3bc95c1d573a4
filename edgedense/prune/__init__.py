"""Channel pruning without training, to a share of the multiply-accumulates.

Rooms: ``groups`` (what can be pruned), ``importance`` (a score a channel), ``select`` (how many and
which stay), ``remove`` (the surgery: the one home of torch-pruning), ``batchnorm`` (BN
re-estimation), ``options`` (what is asked, what came out), ``stage`` (all of it).
"""

from edgedense.prune.options import IMPORTANCES, PruneOptions, PruneReport
from edgedense.prune.stage import prune

__all__ = ["IMPORTANCES", "PruneOptions", "PruneReport", "prune"]
