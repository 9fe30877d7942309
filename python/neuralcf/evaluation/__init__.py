"""Evaluation: metrics of ranked held-out items, protocols, confidence intervals and paired significance tests."""

from neuralcf.evaluation.metrics import coverage, hit_ratio, ndcg, novelty, recall, reciprocal_rank
from neuralcf.evaluation.protocols import Ranker, candidates_for, candidates_of, evaluate_candidates, evaluate_full
from neuralcf.evaluation.result import Evaluation
from neuralcf.evaluation.significance import Difference, Interval, compare, interval

__all__ = [
    "Difference",
    "Evaluation",
    "Interval",
    "Ranker",
    "candidates_for",
    "candidates_of",
    "compare",
    "coverage",
    "evaluate_candidates",
    "evaluate_full",
    "hit_ratio",
    "interval",
    "ndcg",
    "novelty",
    "recall",
    "reciprocal_rank",
]
