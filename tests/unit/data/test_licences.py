"""Which licences are permissive: expressions by their operands, other text by its words, and the packages that the configs name."""

import tomllib
from pathlib import Path

import pytest

from modelyard.data.corpus.document import DataError
from modelyard.data.sources import installation
from modelyard.data.sources.licences import is_permissive

SOURCES = tomllib.loads((Path(__file__).parents[3] / "configs/recipes/sources.toml").read_text())["corpus"]["sources"]


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "bsd-3-clause",
        "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
        "GPL-2.0-only OR MIT",
        "MIT AND (GPL-3.0-or-later OR Apache-2.0 WITH LLVM-exception)",
        "BSD License",
        "3-Clause BSD License",
        "Apache 2.0 License",
        "Python Software Foundation License",
        "ISC License (ISCL)",
        "BSD License, Apache Software License",
    ],
)
def test_permissive_licences_are_read(licence):
    assert is_permissive(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "Limited licence",
        "Permitted for members",
        "GPL-3.0-only AND MIT",
        "(MIT OR ISC) AND GPL-3.0-only",
        "BSD-Protection",
        "MPL-2.0 AND (Apache-2.0 OR MIT)",
        "GNU Lesser General Public License v2 or later (LGPLv2+), MIT License",
        "Apache Software License, Other/Proprietary License",
        "MIT, free for non-commercial use",
        "unknown",
    ],
)
def test_other_licences_are_not(licence):
    assert not is_permissive(licence)


def test_installed_packages_that_the_configs_name_are_read_and_one_of_another_licence_is_not():
    for source in SOURCES.values():
        assert list(installation.versions(source.get("packages", []))) == source.get("packages", [])
    with pytest.raises(DataError, match=r"^source installation: package tqdm has licence 'MPL-2.0 AND MIT'; read are only PSF, Python"):
        installation.versions(["tqdm"])
