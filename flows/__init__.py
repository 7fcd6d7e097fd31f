"""Order and gates of the line; run it with ``python -m flows.pipeline CONFIG``."""
