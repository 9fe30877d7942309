"""Serving: models in external ids."""
