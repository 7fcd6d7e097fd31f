"""MLflow: every run and artifact recorded, and the registry of released models."""

import os

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of a download, before the one line that a command says
