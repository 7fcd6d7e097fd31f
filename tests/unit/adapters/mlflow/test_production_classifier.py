"""Which content classifier a release is compared with: what serves, or what this very release replaced."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from modelyard.adapters.mlflow.registry import Registry


def test_classifier_to_compare_with_is_productions_or_of_what_this_release_replaced(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client, registry = MlflowClient(uri), Registry(uri, "m")
    client.create_registered_model("m")
    for policy, opponent, classifier in (("policy/a", "none", "content_classifier/1"), ("policy/b", "policy/a", "content_classifier/2")):
        replaced = {"opponent": opponent, "opponent_classifier": "content_classifier/1" if opponent != "none" else "none"}
        client.create_model_version("m", str(tmp_path), tags={"policy": policy, "content_classifier": classifier, **replaced})
    assert registry.classifier("policy/c", "content_classifier/3") == "", "nothing serves"
    client.set_registered_model_alias("m", "production", "2")
    assert registry.classifier("policy/c", "content_classifier/3") == "content_classifier/2"
    assert registry.classifier("policy/c", "") == "content_classifier/2", "a release without one is compared too"
    assert registry.classifier("policy/b", "content_classifier/2") == "content_classifier/1", "judged again as it was judged then"
    assert registry.classifier("policy/b", "content_classifier/3") == "content_classifier/2", "the same policy with another classifier"
    client.set_registered_model_alias("m", "production", "1")
    assert registry.classifier("policy/a", "content_classifier/1") == "", "it was the first"
