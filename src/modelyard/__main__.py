"""``python -m modelyard``: the same as ``modelyard``."""

import sys

from modelyard.commands.app import main

if __name__ == "__main__":
    sys.exit(main())
