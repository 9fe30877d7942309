"""Workers that share one model: NEURALCF_MODEL=model gunicorn -c gunicorn.conf.py service:app.

The model is loaded once, before the workers are forked, so that its memory counts once. A worker that dies takes only
its own requests with it, and gunicorn starts another.
"""

preload_app = True
workers = 4
worker_class = "asgi"
bind = "127.0.0.1:8000"
graceful_timeout = 30
