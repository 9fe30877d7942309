"""The service of `neuralcf serve` for another server, such as gunicorn with several workers: see gunicorn.conf.py."""

import os

import neuralcf
from neuralcf.serving.http.app import Settings, make_app

recommender = neuralcf.Recommender.load(os.environ["NEURALCF_MODEL"], threads=1)  # a worker for each core
settings = Settings(api_key=os.environ.get("NEURALCF_API_KEY"), admin=False)  # a request reaches one worker alone
app = make_app(recommender, settings)
