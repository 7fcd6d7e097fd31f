"""``extends``: what differs is laid over the named file."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from modelyard.config import Config, ConfigError, load_config, read_tree
from modelyard.execution import ExecutionConfig
from modelyard.store.inputs import find_input


class Line(Config):
    execution: ExecutionConfig = ExecutionConfig()


class Kept(Config):
    kind: Literal["kept"]
    weights: str
    steps: int = 0


class Named(Line):
    one: Annotated[Kept, Field(discriminator="kind")] | None = None
    title: str = ""


@pytest.mark.parametrize("text", ["12345678", "1234e567", "007", "0x10", "true"])
def test_override_of_text_by_what_toml_reads_as_a_number_is_the_text_as_it_was_written(tmp_path, text):
    (tmp_path / "a.toml").write_text('[one]\nkind = "kept"\nweights = "a"\n')
    read = load_config(Named, tmp_path / "a.toml", [f"one.weights={text}", "one.steps=3", f"title= {text}"])
    assert read.one == Kept(kind="kept", weights=text, steps=3)
    assert read.title == text
    with pytest.raises(ConfigError, match=r"a\.toml with one\.steps=x: one\.steps: Input should be a valid integer"):
        load_config(Named, tmp_path / "a.toml", [f"one.weights={text}", "one.steps=x"])
    (tmp_path / "a.toml").write_text("title = 3\n")
    with pytest.raises(ConfigError, match=r"title: Input should be a valid string"):
        load_config(Named, tmp_path / "a.toml")


def test_read_tree_extends_overrides_tables_key_by_key(tmp_path):
    (tmp_path / "base.toml").write_text('name = "a"\n[x]\none = 1\ntwo = 2\n')
    (tmp_path / "child.toml").write_text('extends = "base.toml"\n[x]\ntwo = 3\n')
    assert read_tree(tmp_path / "child.toml") == {"name": "a", "x": {"one": 1, "two": 3}}


@pytest.mark.parametrize("parent", ['"a.toml"', "7"])
def test_read_tree_extends_itself_or_no_file_is_refused(tmp_path, parent):
    (tmp_path / "a.toml").write_text(f"extends = {parent}\n")
    with pytest.raises(ConfigError, match=r"a\.toml: extends"):
        read_tree(tmp_path / "a.toml")


def test_read_tree_extends_a_list_of_which_the_later_lies_over_the_earlier(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "one.toml").write_text("[x]\na = 1\nb = 1\nc = 1\n")
    (tmp_path / "recipes" / "two.toml").write_text("[x]\nb = 2\nc = 2\n")
    (tmp_path / "child.toml").write_text('extends = ["recipes/one.toml", "recipes/two.toml"]\n[x]\nc = 3\n')
    assert read_tree(tmp_path / "child.toml") == {"x": {"a": 1, "b": 2, "c": 3}}


def test_read_tree_table_that_a_file_replaces_has_nothing_of_those_below(tmp_path):
    (tmp_path / "base.toml").write_text("[x]\na = 1\nb = 1\n[y]\na = 1\n")
    (tmp_path / "recipe.toml").write_text('replaces = ["x"]\n[x]\na = 2\n')
    (tmp_path / "child.toml").write_text('extends = ["base.toml", "recipe.toml"]\n[x]\nc = 3\n[y]\nb = 3\n')
    assert read_tree(tmp_path / "child.toml") == {"x": {"a": 2, "c": 3}, "y": {"a": 1, "b": 3}}
    (tmp_path / "grandchild.toml").write_text('extends = ["base.toml", "child.toml"]\n')
    assert read_tree(tmp_path / "grandchild.toml") == {"x": {"a": 2, "c": 3}, "y": {"a": 1, "b": 3}}
    (tmp_path / "without.toml").write_text('extends = "child.toml"\nreplaces = ["x"]\n')
    assert read_tree(tmp_path / "without.toml") == {"y": {"a": 1, "b": 3}}


def test_read_tree_table_inside_another_is_replaced_by_its_whole_name(tmp_path):
    (tmp_path / "base.toml").write_text("[x]\na = 1\n[x.b]\nc = 1\n[x.d]\nc = 1\n[y.b]\nc = 1\n")
    (tmp_path / "child.toml").write_text('extends = "base.toml"\nreplaces = ["x.b"]\n')
    assert read_tree(tmp_path / "child.toml") == {"x": {"a": 1, "d": {"c": 1}}, "y": {"b": {"c": 1}}}


@pytest.mark.parametrize("value", ['"x"', "[1]", "true"])
def test_read_tree_replaces_no_list_of_names_is_refused(tmp_path, value):
    (tmp_path / "a.toml").write_text(f"replaces = {value}\n")
    with pytest.raises(ConfigError, match=r"a\.toml: replaces: expected a list of names of tables"):
        read_tree(tmp_path / "a.toml")


def test_relative_path_starts_beside_the_config_then_beside_what_it_extends_then_at_the_inputs(tmp_path):
    for name in ("lines", "recipes", "inputs"):
        (tmp_path / name).mkdir()
    (tmp_path / "recipes" / "recipe.toml").write_text("")
    (tmp_path / "lines" / "line.toml").write_text(f'extends = "../recipes/recipe.toml"\n[execution]\ninputs = "{tmp_path}/inputs"\n')
    roots = load_config(Line, tmp_path / "lines" / "line.toml").execution.roots
    for name in ("inputs", "recipes", "lines"):  # each is looked into before the one above
        (tmp_path / name / "file.txt").write_text(name)
        assert find_input("file.txt", roots, "text").read_text() == name
    with pytest.raises(ValueError, match=r"text: .*inputs/none.txt: no such file nor beside the config"):
        find_input("none.txt", roots, "text")
