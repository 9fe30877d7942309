"""Recommend items from a saved model, without torch: python examples/recommend.py MODEL USER."""

import sys

import neuralcf

recommender = neuralcf.Recommender.load(sys.argv[1])
user = int(sys.argv[2]) if recommender.user_ids.kind == "int64" else sys.argv[2]
best = recommender.recommend(user, k=10)
for item, score in zip(best.ids[: best.counts], best.scores, strict=False):
    print(f"{score:.4f}  {item}")
