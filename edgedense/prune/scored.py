"""Pruning by a score a channel: the best stay, and BN statistics move along."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgedense.data import Batch
from edgedense.densenet.family import Network
from edgedense.progress import SILENT, Progress
from edgedense.prune.batchnorm import reestimate_bn
from edgedense.prune.groups import Group, prunable
from edgedense.prune.importance import bn_scale, fpgm, lamp, magnitude, random_scores, taylor
from edgedense.prune.options import PruneOptions
from edgedense.prune.remove import Pruned, remove
from edgedense.prune.select import Budget, Scores, alignment_cost, allocate, rank

Stream = Callable[[str], Iterable[Batch]]


def prune_by_scores(
    network: Network,
    budget: Budget,
    options: PruneOptions,
    stream: Stream | None,
    progress: Progress = SILENT,
) -> Pruned:
    """A network within ``budget`` by ``options.method``; ``network`` stays as it is.

    ``stream`` gives the calibration images, under a label; None where ``options`` need none. With
    iterations, what is left is scored anew after each.
    """
    cost = None
    for step in budget.steps(options.iterations):
        groups = prunable(network.spec, options.scope)
        scores = score(network, groups, options, stream)
        rankings = {name: rank(values) for name, values in scores.items()}
        widths = allocate(network.spec, groups, rankings, step)
        cost = alignment_cost(network.spec, groups, rankings, step, widths)
        kept = {name: rankings[name].kept(width) for name, width in widths.items()}
        pruned = remove(network, groups, kept, progress)
        if options.moves_bn and stream is not None and pruned.spec != network.spec:
            reestimate_bn(pruned, network, groups, kept, stream("re-estimate BN"))
        network = pruned
    return Pruned(network, cost)


def score(
    network: Network, groups: tuple[Group, ...], options: PruneOptions, stream: Stream | None
) -> Scores:
    """Scores of all channels by ``options.method``; magnitude for one that gives none."""
    match options.method:
        case "taylor" if stream is not None:
            return taylor(network, groups, stream("importance"))
        case "bn-scale":
            return bn_scale(network, groups)
        case "fpgm":
            return fpgm(network, groups)
        case "lamp":
            return lamp(network, groups)
        case "random":
            return random_scores(groups, options.seed)
    return magnitude(network, groups)
