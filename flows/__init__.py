"""Order and gates of the line; run it with ``modelyard run CONFIG``."""
