"""The baselines: one stage, one stream, one head, and a loss of ``ltk.methods.functional``."""

from ltk.methods.baselines.cross_entropy import CrossEntropy
from ltk.methods.baselines.focal import Focal
from ltk.methods.baselines.ldam import LDAM
from ltk.methods.baselines.logit_adjustment import BalancedSoftmax, LogitAdjustment
from ltk.methods.baselines.reweighting import ClassBalanced, deferred_weights

__all__ = [
    "LDAM",
    "BalancedSoftmax",
    "ClassBalanced",
    "CrossEntropy",
    "Focal",
    "LogitAdjustment",
    "deferred_weights",
]
