"""Ray: one cluster, one way to run a stage on ranks, one way to run table functions on workers."""

import os
import sys


def is_on_this_machine() -> bool:
    """Whether the whole cluster is this machine: ``RAY_ADDRESS`` names none, or one on loopback."""
    address = os.environ.get("RAY_ADDRESS", "")
    return sys.platform == "linux" and (not address or address.rpartition(":")[0] in ("127.0.0.1", "localhost"))


# Where all of a cluster is on one machine nothing but loopback needs to be open. Ray has this switch for macOS and
# Windows, whose firewalls would ask, and obeys it here too; without it a loopback address becomes the machine's own.
# Ray reads it once, when it is imported, so it is set before anything of this package imports Ray (and left alone on a
# worker, which knows nothing of the driver's RAY_ADDRESS).
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
if "ray" not in sys.modules and is_on_this_machine():
    for key, value in LOOPBACK.items():
        os.environ.setdefault(key, value)
