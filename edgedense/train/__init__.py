"""Training DenseNets by the papers' recipe: from fresh weights, or further (``finetune``).

Rooms: ``options`` (what is asked, what came out), ``arch`` (which network), ``job`` (what is
trained on what), ``images``, ``augment``, ``stream`` (what the network sees), ``schedule`` and
``loss``, ``engine`` (the loop), ``syncnorm`` (BN over processes), ``accuracy``, ``state`` (going on
after an interruption), ``outcome`` (the report), ``stage`` (all of it).
"""

from edgedense.train.options import Epoch, Plan, TrainOptions, TrainReport, recipe
from edgedense.train.stage import finetune_job, plan, run, train_job

__all__ = [
    "Epoch",
    "Plan",
    "TrainOptions",
    "TrainReport",
    "finetune_job",
    "plan",
    "recipe",
    "run",
    "train_job",
]
