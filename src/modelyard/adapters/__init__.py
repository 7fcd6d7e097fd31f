"""The outside world: Ray, MLflow, Great Expectations, the terminal, servers."""

import os

# MLflow reads these when it is imported, which nothing outside this package does: no reports to its makers, no line of links after every run.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
