"""The session of a local Spark for tests."""

import os
import sys

SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "1g",
}


def session(builder, more=()):
    """Return a session of a builder, with the settings of all tests and more."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    for key, value in {**SETTINGS, **dict(more)}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
