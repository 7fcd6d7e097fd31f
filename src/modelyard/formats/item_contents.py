"""What HELM and OpenCompass asked, item by item, as a hash: two files whose item of one name is two questions must not be compared.

HELM's scores name an instance only; its text and references stand in ``scenario_state.json`` of the same folder. OpenCompass's details hold the
prompt, or else ``predictions/`` beside ``results/`` does; it is the rendered prompt, so another template of messages is another question there.
Where neither file is at hand nothing is known, and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.config import digest
from modelyard.formats import json_file

PROMPT = ("prompt", "origin_prompt")
LABEL = "label: "
"""Begins the keys of OpenCompass's predictions by likelihood, one an option."""


def of_helm(stats: Path) -> dict[tuple[str, str], str]:
    """(instance id, name of its perturbation or "") -> hash of its text and references. Raises ValueError naming a file that is none."""
    path = next((one for name in ("scenario_state.json", "scenario_state.json.gz") if (one := stats.with_name(name)).is_file()), None)
    if path is None:
        return {}
    states = json_file.table(path, "request_states")["request_states"]
    found: dict[tuple[str, str], str] = {}
    for place, state in enumerate(states if isinstance(states, list) else [states], 1):
        instance = state.get("instance") if isinstance(state, dict) else None
        if not isinstance(instance, dict) or "input" not in instance or not isinstance(instance.get("references"), list):
            raise ValueError(f"{path}: request state {place}: no instance with input and references")
        references = [(text_in(one.get("output")), one.get("tags")) for one in instance["references"] if isinstance(one, dict)]
        key = str(instance.get("id")), perturbed(instance.get("perturbation"))
        found.setdefault(key, digest([text_in(instance["input"]), references]))
    return found


def perturbed(perturbation: Any) -> str:
    """The name of a perturbation; "" for none."""
    return str(perturbation.get("name")) if isinstance(perturbation, dict) else ""


def text_in(value: Any) -> Any:
    """The text of HELM's ``Input`` and ``Output``, which were plain strings before 0.3."""
    return value.get("text") if isinstance(value, dict) else value


def of_opencompass(results: Path) -> dict[str, str]:
    """Number of an item -> hash of its prompt, of the predictions beside ``results/{model}/{dataset}.json``; empty where there are none."""
    path = results.parent.parent.parent / "predictions" / results.parent.name / results.name
    if results.parent.parent.name != "results" or not path.is_file():
        return {}
    return {key: hashed for key, row in json_file.table(path).items() if isinstance(row, dict) and (hashed := of_prompt(row))}


def of_prompt(row: Mapping[str, Any]) -> str:
    """Hash of the prompt of a row of details or predictions; "" without one. Messages count by their roles and texts."""
    prompt: Any = next((row[key] for key in PROMPT if row.get(key)), None)
    if prompt is None:  # by likelihood: what stood in the place of each option
        options = {key: value.get("testing input") for key, value in row.items() if key.startswith(LABEL) and isinstance(value, dict)}
        prompt = options if any(options.values()) else None
    return "" if prompt is None else digest(prompt)
