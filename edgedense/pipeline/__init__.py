"""``deploy``: the stages in their order, each result reused while its inputs are the same."""

from edgedense.pipeline.deploy import DeployReport, Planned, deploy, plan
from edgedense.pipeline.steps import DeployOptions, Inputs

__all__ = ["DeployOptions", "DeployReport", "Inputs", "Planned", "deploy", "plan"]
