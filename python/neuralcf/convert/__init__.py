"""Models of other libraries, converted to ours, and ours to vectors.

A model whose score is a dot product with biases becomes a GMF, an NCF model a GMF, MLP or NeuMF, with the scores of the
library. Nothing is unpickled unless `trust=True`. Each function takes a file or a model in memory, and gives a
`Converted`, whose `save` writes a model directory.
"""

from collections.abc import Callable
from typing import Final

from neuralcf.convert.converted import Converted
from neuralcf.convert.cornac import from_cornac
from neuralcf.convert.dot_products import DotProduct, to_dot_product
from neuralcf.convert.implicit import from_implicit
from neuralcf.convert.librecommender import from_librecommender
from neuralcf.convert.lightfm import from_lightfm
from neuralcf.convert.recbole import from_recbole
from neuralcf.convert.recommenders import from_recommenders
from neuralcf.convert.spark_als import from_spark_als
from neuralcf.convert.state_dict import from_state_dict
from neuralcf.convert.surprise import from_surprise
from neuralcf.convert.vectors import from_vectors

__all__ = [
    "LIBRARIES",
    "Converted",
    "DotProduct",
    "from_cornac",
    "from_implicit",
    "from_librecommender",
    "from_lightfm",
    "from_recbole",
    "from_recommenders",
    "from_spark_als",
    "from_state_dict",
    "from_surprise",
    "from_vectors",
    "to_dot_product",
]

LIBRARIES: Final[dict[str, Callable[..., Converted]]] = {
    "implicit": from_implicit,
    "spark-als": from_spark_als,
    "lightfm": from_lightfm,
    "recbole": from_recbole,
    "cornac": from_cornac,
    "librecommender": from_librecommender,
    "surprise": from_surprise,
    "recommenders": from_recommenders,
    "vectors": from_vectors,
    "weights": from_state_dict,
}
"""The functions by the names that `neuralcf convert --from` takes."""
