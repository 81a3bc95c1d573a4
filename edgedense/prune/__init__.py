"""Channel pruning without training, to a share of the multiply-accumulates or the parameters.

Rooms: ``groups`` (what can be pruned), ``select`` (how many and which stay), ``remove`` (the
surgery: the one home of torch-pruning), ``options`` (what is asked, what came out), ``stage`` (all
of it).

By a score a channel: ``importance`` (the scores), ``batchnorm`` (BN re-estimation), ``scored``
(both). By reconstruction: ``teacher`` (what the original gives, and what matters of it), ``gram``
(least squares), ``eliminate`` (what is missed least), ``features`` and ``walk`` (layer by layer
through a network, in the memory that ``spool`` allows), ``reconstruct`` (all of that).
"""

from edgedense.prune.options import METHODS, PruneOptions, PruneReport
from edgedense.prune.stage import prune

__all__ = ["METHODS", "PruneOptions", "PruneReport", "prune"]
