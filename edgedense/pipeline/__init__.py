"""``deploy``: the stages in their order, each result reused while its inputs are the same.

``sweep`` is many such runs at once, which share their stages and end in a table.
"""

from edgedense.pipeline.deploy import DeployReport, Planned, deploy, plan
from edgedense.pipeline.outcome import PointReport, SweepReport
from edgedense.pipeline.parallel import Parallel
from edgedense.pipeline.points import Sources, SweepOptions
from edgedense.pipeline.steps import DeployOptions, Inputs
from edgedense.pipeline.sweep import SweepPlan, plan_sweep, sweep

__all__ = [
    "DeployOptions",
    "DeployReport",
    "Inputs",
    "Parallel",
    "Planned",
    "PointReport",
    "Sources",
    "SweepOptions",
    "SweepPlan",
    "SweepReport",
    "deploy",
    "plan",
    "plan_sweep",
    "sweep",
]
