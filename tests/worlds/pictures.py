"""A user's directory with pictures of one plain colour, a question about each, and a line that learns to see them at its smallest size."""

import json
from pathlib import Path

import numpy as np

from modelyard.formats.images import data_url, of_pixels
from modelyard.store.file_hash import sha256_file

ROOT = Path(__file__).parents[2]
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
QUESTION = "what colour is it?"
CONFIG = """
extends = "{tiny}"
replaces = ["evals", "release", "sft.repeat"]
name = "pictures"

[corpus.sources]                # the corpus of smallest.toml
movie = {{ megabytes = 0.21 }}
amazon = {{ megabytes = 0.055 }}
nyt = {{ megabytes = 0.08 }}
rated_tweets = {{ megabytes = 0.06 }}
shakespeare = {{ megabytes = 0 }}
tweets = {{ megabytes = 0.1 }}
dialogs = {{ megabytes = 0.06 }}
docstrings = {{ megabytes = 0.1, packages = ["python"] }}
code = {{ megabytes = 0.1, packages = ["python"] }}

[held_out]
openings = 60
last_word = 40
held_out_text = 60
review_demonstrations = 40

[feedback]
images = []

[[feedback.files]]
name = "shown"
path = "shown.jsonl"
sha256 = "{shown}"
licence = "CC0-1.0"
shape = "messages"

[tokens]
vocab_size = 512
seq_len = 48
train_tokens = 60_000
tokenizer_megabytes = 0.3

[forecast]
compute_share = 0.8
noise_floor = 0.02
rungs = [
    {{ layers = 1, hidden = 8, steps = 8, seeds = 1 }},
    {{ layers = 1, hidden = 16, steps = 18, seeds = 1 }},
    {{ layers = 1, hidden = 24, steps = 29, seeds = 1 }},
    {{ layers = 2, hidden = 24, steps = 39, seeds = 1 }},
]

[base]
steps = 60
batch = 16
micro_batch = 16
model = {{ layers = 2, hidden = 32, ffn_hidden = 64, seq_len = 48, vocab_size = 512, tie_embeddings = true, init_std = 0.02 }}
optimizer = {{ lr = 5e-3, warmup_steps = 5 }}

[projector]
epochs = 1.0
batch = 8
micro_batch = 8
share_images = 1
vision = {{ tile = 16, patch = 8, layers = 1, hidden = 16, heads = 2, ffn_hidden = 32 }}

[sft]
epochs = 4.0
batch = 8
micro_batch = 8
pretraining_share = 0.125
average = "token"
share_images = 1
optimizer = {{ lr = 5e-3, warmup_steps = 5 }}

[evals]
seed = 0
validation_rows = 64
calibration_positions = 2
calibration_rows = 64

[evals.benchmarks]
last_word = {{ max_new_tokens = 4 }}
held_out_text = {{}}
toxicity = {{ max_new_tokens = 12 }}

[evals.benchmarks.colours]
file = "asked.jsonl"
images = "picture"
prompt = "{{image}}\\n{{question}}"
chat = true
max_new_tokens = 6
stops = ["\\n"]

[evals.benchmarks.colours_blank]
file = "asked.jsonl"
images = "picture"
prompt = "{{image}}\\n{{question}}"
chat = true
blank = true
max_new_tokens = 6
stops = ["\\n"]

[release]
min_items = 30
max_contaminated = 0.2
forecast_tolerance = 0.5
alpha = 0.05
tolerance = 0.1
max_alignment_tax = 0.9
calibration = ["next_token"]
max_calibration_error = 0.5
max_calibration_increase = 0.5
min_win_rate = 0.5
max_kl = 1.0
first = true
seed = 0

[release.set_aside]
content_classifier = "nobody labelled texts"
preference = "nobody compared answers about pictures"

[release.limits]
held_out_text = {{ tolerance = 5.0, max_alignment_tax = 5.0 }}
toxicity = {{ tolerance = 0.2 }}

[execution]
checkpoint_every = 20
log_every = 5
"""


def picture(colour: str, generator: np.random.Generator) -> str:
    """A picture of a colour with some noise, as a data URL."""
    pixels = np.asarray(COLOURS[colour]) + generator.integers(-30, 31, (16, 16, 3))
    return data_url(of_pixels(pixels.clip(0, 255).astype(np.uint8)).png)


def write(root: Path, shown: int = 160, asked: int = 60) -> Path:
    """Fill ``root``; the config's file. Everything is named relative to it."""
    generator = np.random.default_rng(0)
    names = list(COLOURS)
    talks = []
    for number in range(shown):
        colour = names[number % 2]
        content = [{"type": "image_url", "image_url": {"url": picture(colour, generator)}}, {"type": "text", "text": f"\n{QUESTION}"}]
        talks.append({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": colour}]})
    rows = [
        {"picture": picture(names[number % 2], generator), "question": QUESTION, "answer": names[number % 2]} for number in range(asked)
    ]
    for name, lines in (("shown", talks), ("asked", rows)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    config = root / "line.toml"
    tiny = ROOT / "configs" / "pipeline" / "tiny-images.toml"
    config.write_text(CONFIG.format(tiny=tiny, shown=sha256_file(root / "shown.jsonl")))
    return config
