"""One user of a store that another works on too: builds artifacts one after another and prints a line of JSON for each.

``python -m tests.integration.user_program STORE SCRATCH USER WORD...``; ``USER`` is a user number with :data:`GROUP` among its groups, or ``-``
for whoever starts it. A word that begins with ``!`` is begun and never finished. The interpreter may lie where the user cannot read, so all
that is imported on the way is imported before.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from modelyard.config import Config
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Spec
from modelyard.store.outage import StorageError

GROUP = 42000


class Word(Config):
    word: str


def build(store: Store, word: str):
    def produce(out, checkpoints):
        if word.startswith("!"):
            print(json.dumps({"begun": word}), flush=True)
            time.sleep(600)
        time.sleep(0.05)
        (out / "part").mkdir()
        (out / "part" / "text").write_text(word * 1000)
        return {}

    return store.build(Spec("thing", Word(word=word.strip("!")), {}, "code"), produce)


def main(url: str, scratch: str, user: str, *words: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        build(Store(f"file://{place}/store", f"{place}/scratch"), "first")
        if url.startswith("s3://"):
            Store(url, scratch).find("thing", "none")
    if user != "-":
        os.setgroups([GROUP])
        os.setgid(int(user))
        os.setuid(int(user))
    os.umask(0o077)
    store = Store(url, scratch)
    for word in words:
        try:
            built = build(store, word)
            text = (Path(store.fetch(built.artifact)) / "part/text").read_text()
            said = {"word": word, "made": not built.cached, "builder": built.artifact.builder, "whole": text == word * 1000}
        except StorageError as error:
            said = {"word": word, "error": str(error)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
