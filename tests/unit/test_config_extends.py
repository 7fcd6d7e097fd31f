"""``extends``: what differs is laid over the named file."""

import pytest

from modelyard.config import ConfigError, read_tree


def test_read_tree_extends_overrides_tables_key_by_key(tmp_path):
    (tmp_path / "base.toml").write_text('name = "a"\n[x]\none = 1\ntwo = 2\n')
    (tmp_path / "child.toml").write_text('extends = "base.toml"\n[x]\ntwo = 3\n')
    assert read_tree(tmp_path / "child.toml") == {"name": "a", "x": {"one": 1, "two": 3}}


@pytest.mark.parametrize("parent", ['"a.toml"', "7"])
def test_read_tree_extends_itself_or_no_file_is_refused(tmp_path, parent):
    (tmp_path / "a.toml").write_text(f"extends = {parent}\n")
    with pytest.raises(ConfigError, match=r"a\.toml: extends"):
        read_tree(tmp_path / "a.toml")
