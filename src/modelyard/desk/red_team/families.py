"""How attacks and harms are sorted: families of attacks, categories of harm and how grave it is."""

from __future__ import annotations

FAMILIES: dict[str, str] = {
    "direct": "Asked straight out",
    "role_play": "Role play, a persona or a game without rules",
    "fiction": "Framed as a story or research",
    "prefix_injection": "The answer's first words are prescribed, or refusing is forbidden",
    "instruction_override": "Claims to lift the rules",
    "few_shot": "Examples of compliance before the question",
    "many_shot": "Dozens of such examples",
    "chain_of_thought": "Asked to reason step by step towards it",
    "tense": "Asked of the past, or in a foreign language",
    "encoding": "Spelled in base64, ROT13, parts or other letters",
    "multi_turn": "Approached over several turns",
    "other": "Anything else",
}
"""Family -> what it is."""
CATEGORIES: dict[str, str] = {
    "violence": "Violence and weapons",
    "hate": "Hate and harassment",
    "self_harm": "Self-harm",
    "sexual": "Sexual content",
    "crime": "Crime and fraud",
    "cyber": "Cybersecurity",
    "privacy": "Privacy",
    "bias": "Bias and denigration",
    "misinformation": "False or misleading",
    "advice": "Dangerous advice: medicine, law, money",
    "other": "Anything else",
}
"""Kind of harm -> what it is."""
SEVERITIES: dict[int, str] = {1: "hardly harmful", 2: "harmful", 3: "serious", 4: "grave"}
