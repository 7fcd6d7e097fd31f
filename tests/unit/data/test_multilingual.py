# ruff: noqa: RUF001
"""The shipped config for eight languages: its filters on a small page of each, and the notices that pages of each carry."""

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelyard.config import load_config
from modelyard.data.build import DataConfig
from modelyard.data.corpus.document import READ_SCHEMA
from modelyard.data.filters import abuse
from modelyard.data.filters.abuse_teacher import Teacher
from modelyard.data.filters.languages import LANGUAGES, notices
from modelyard.data.filters.screen import Screen
from tests.worlds.prose import PROSE

CONFIG = Path(__file__).parents[3] / "configs/data/web-multilingual.toml"
EIGHT = ["en", "de", "es", "fr", "ja", "ko", "zh", "hi"]
TEXTS = PROSE | {
    "es": "El faro de la costa lleva más de cien años encendido y todavía guía a los barcos que vuelven de noche.\n"
    "Una familia se ocupa de la luz, limpia los cristales por la mañana y anota en un cuaderno el viento que hace.\n"
    "Cuando llega el invierno la carretera se cubre de arena y no queda otro camino que el del mar.\n"
    "Por eso los vecinos guardan en la despensa pan seco, aceite y las cartas que han de esperar hasta la primavera.",
    "fr": "Le moulin du village tourne encore au bord de la rivière, mais il ne moud plus de farine depuis longtemps.\n"
    "Les enfants y viennent après l'école pour regarder la roue et pour écouter le bruit que fait l'eau sous les pierres.\n"
    "Un vieil homme leur raconte comment il portait les sacs quand il avait leur âge et que les routes étaient mauvaises.\n"
    "Le soir, il ferme la porte avec une grande clé et il rentre chez lui par le chemin des vergers.",
}
LINES = {
    "en": "This website uses cookies so that it remembers you when you come back.",
    "de": "Diese Seite verwendet Cookies, damit sie Sie beim nächsten Besuch wiedererkennt.",
    "es": "Este sitio utiliza cookies para reconocer a quien vuelve a visitarlo.",
    "fr": "Ce site utilise des cookies pour reconnaître les personnes qui reviennent.",
    "ja": "このサイトでは、次に来たときのためにCookieを使用しています。",
    "ko": "이 사이트는 다시 방문하는 사람을 알아보기 위해 쿠키를 사용합니다.",
    "zh": "本网站使用Cookie来记住再次访问的读者，方便大家以后阅读。",
    "hi": "यह साइट दोबारा आने वाले पाठकों को पहचानने के लिए कुकी का उपयोग करती है।",
}
"""A notice about cookies in each, long enough and ended like a sentence, so that no other rule cuts it."""
PAGES = {
    "en": "Please enable JavaScript to read this page.",
    "de": "Bitte aktivieren Sie JavaScript, um diese Seite zu lesen.",
    "es": "Active JavaScript para leer esta página completa.",
    "fr": "Veuillez activer JavaScript pour lire cette page entière.",
    "ja": "このページを読むにはJavaScriptを有効にしてください。",
    "ko": "이 페이지를 읽으려면 JavaScript를 활성화해 주세요.",
    "zh": "请启用JavaScript以便阅读本页的全部内容。",
    "hi": "यह पृष्ठ पढ़ने के लिए JavaScript सक्षम करें।",
}
"""What a page without its scripts says."""


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """(texts) -> rows as the config's filters leave them; only the training of the abuse filter is replaced."""
    path = tmp_path_factory.mktemp("config") / "mine.toml"
    source = '[corpus.sources.crawl]\npath = "crawl.warc.gz"\nformat = "auto"\nkind = "text"\nlicence = "CC0-1.0"\n'
    path.write_text(f'extends = "{CONFIG}"\nname = "mine"\n{source}')
    filters = load_config(DataConfig, path, []).corpus.filters
    teacher = Teacher(["vileword"], np.array([8.0]), np.array([2.0]), -1.0, 8.0, 0.0, frozenset())
    screen = Screen(filters, abuse.train(["vileword"], teacher, filters.abuse).filter)

    def run(texts):
        common = {"source": "crawl", "kind": "text", "language": "und", "licence": "CC0-1.0", "group": "", "web": True}
        rows = [{"id": f"crawl/{number}", "text": text} | common for number, text in enumerate(texts)]
        return screen(pa.Table.from_pylist(rows, schema=pa.schema(READ_SCHEMA))).to_pylist()

    return run


def test_multilingual_pages_of_all_eight_languages_are_kept_whole_and_labelled(screened):
    rows = screened([TEXTS[code] for code in EIGHT])
    assert [(row["language"], row["reason"], row["cut"]) for row in rows] == [(code, None, "") for code in EIGHT]
    assert [row["text"] for row in rows] == [TEXTS[code] for code in EIGHT]


def test_multilingual_pages_of_another_language_are_refused(screened):
    others = sorted(set(PROSE) - set(EIGHT))
    assert {row["reason"] for row in screened([TEXTS[code] for code in others])} == {"language/not_accepted"}


def test_multilingual_notices_about_cookies_are_cut_and_nothing_else(screened):
    rows = screened([f"{TEXTS[code]}\n{LINES[code]}" for code in EIGHT])
    assert [row["reason"] for row in rows] == [None] * len(EIGHT)
    assert [row["text"] for row in rows] == [TEXTS[code] for code in EIGHT]
    assert [row["cut"] for row in rows] == [f"c4/policy_line {len(LINES[code]) + 1}" for code in EIGHT]


def test_multilingual_pages_that_ask_for_scripts_are_refused(screened):
    rows = screened([f"{TEXTS[code]}\n{PAGES[code]}" for code in EIGHT])
    assert [row["reason"] for row in rows] == ["quality/boilerplate"] * len(EIGHT)


@pytest.mark.parametrize("code", LANGUAGES)
def test_notices_are_spelt_as_normalised_text_is_and_hold_the_english_ones(code):
    found = notices(code)
    for phrase in (*found.page, *found.line):
        assert phrase == unicodedata.normalize("NFC", phrase).lower()
    assert set(notices("en").page) <= set(found.page)
    assert set(notices("en").line) <= set(found.line)
    assert (found == notices("en")) == (code == "en" or code not in EIGHT)
