# ruff: noqa: RUF001 (letters of many scripts are what this file is about)
"""What the rules must know of each language: its scripts, how long its words are, and the words without which
no prose of it gets by.

Gopher (Rae et al. 2021, A1.1) asks for two of eight English words; each other language has a list of its own,
of the words that its prose repeats most and a menu or a keyword list does not hold. Where words stand between
spaces they are looked for as words; Korean particles as ends of words; where no spaces are written, as
characters in a row, two or more of them, so that the same characters in another order do not hold them. The
marks that end a sentence are those of every script at once: none of them means anything else in another.
Notices of scripts, cookies and terms of use are known in eight languages; English ones are looked for in every
other language too, whose pages carry them untranslated. Left out: languages that are not in the table, which a
config is refused for, dialects, and the notices of the other languages.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, NamedTuple

TERMINAL = (".", "!", "?", '"', "'", "\u201d", "\u2026", *"。！？｡」』।॥؟۔።։៕။፧")
"""What a line of prose ends with."""
_SENTENCE_ENDS = (
    re.compile(r"[.!?][\"'\u201d)\]]*(?=\s|$)"),
    re.compile(r"[。！？｡।॥؟۔።։៕။፧]+"),
    re.compile(r"[\u0e00-\u0eff](?=\s|$)"),
)
"""One sentence's end; Thai and Lao end theirs with a space. ASCII text has only the first."""
_SPACE_ENDS = re.compile(r"[\u0e00-\u0eff]$")
_IDEOGRAPHIC = re.compile(r"[\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]")
_SOUTHEAST = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


def ends_sentence(line: str) -> bool:
    """Whether a stripped line ends as prose does."""
    return line.endswith(TERMINAL) or (not line.isascii() and _SPACE_ENDS.search(line) is not None)


def sentences(text: str) -> int:
    """How many sentences end in a text."""
    return sum(len(end.findall(text)) for end in (_SENTENCE_ENDS[:1] if text.isascii() else _SENTENCE_ENDS))


def line_words(line: str) -> int:
    """Words of a line by its spaces, and by its characters where none are written: two ideographs or kana are
    one, four characters of Thai, Lao, Burmese and Khmer.
    """
    spaced = line.count(" ") + 1
    return spaced if line.isascii() else spaced + len(_IDEOGRAPHIC.findall(line)) // 2 + len(_SOUTHEAST.findall(line)) // 4


class Language(NamedTuple):
    """One language's rules."""

    scripts: frozenset[str]
    """Its scripts, by the names of :mod:`modelyard.data.filters.scripts`."""
    stop: tuple[str, ...]
    """Its stop words, case folded."""
    found_as: Literal["words", "ends", "characters"] = "words"
    """Where they are looked for: whole words, ends of words, anywhere in the text."""
    word: float = 5.0
    """Typical mean word length in characters (English: 4.7, counted as 5): bounds on word length are scaled by it.
    Where no spaces are written, the characters that :mod:`modelyard.data.filters.words` counts as one word."""

    @property
    def scale(self) -> float:
        """What bounds on the mean word length are multiplied by."""
        return self.word / 5.0


def _of(scripts: str, stop: str, word: float = 5.0, found_as: Literal["words", "ends", "characters"] = "words") -> Language:
    return Language(frozenset(scripts.split()), tuple(stop.split()), found_as, word)


LANGUAGES = {
    "en": _of("LATIN", "the be to of and that have with"),
    "de": _of("LATIN", "der die und in das den von zu ist nicht mit ein", 5.5),
    "nl": _of("LATIN", "de het een van en in is dat op te niet met"),
    "sv": _of("LATIN", "och att det en som på är av för med inte den"),
    "da": _of("LATIN", "og at det en er på som af til med ikke den"),
    "no": _of("LATIN", "og at det en er på som av til med ikke den"),
    "is": _of("LATIN", "og að er sem það við um en ekki var til"),
    "af": _of("LATIN", "die en van in is het nie dat om vir te"),
    "fr": _of("LATIN", "de la le et les des est que en un une pas"),
    "es": _of("LATIN", "de la que el en los se un no por una con"),
    "pt": _of("LATIN", "de que do da em um para não uma os com no"),
    "it": _of("LATIN", "di il la che un per in non del una con"),
    "ca": _of("LATIN", "de la que el en un per és no una els amb"),
    "gl": _of("LATIN", "de que do da en un para non unha os con"),
    "ro": _of("LATIN", "de și în la cu pe nu este un din că"),
    "pl": _of("LATIN", "na nie się do to że jest jak za od ale przez", 5.5),
    "cs": _of("LATIN", "na se je že to do ne ale jako si by pro"),
    "sk": _of("LATIN", "na sa je že to do nie ale ako si by pre"),
    "sl": _of("LATIN", "in je se na da za ki so ne pa bi kot"),
    "hr": _of("LATIN", "je se na da za su od koji ne kao ali će"),
    "lv": _of("LATIN", "un ir ar no uz par kas ka to nav vai", 5.5),
    "lt": _of("LATIN", "ir kad iš yra su tai bet ar ne kaip", 5.5),
    "et": _of("LATIN", "ja on ei et ka kui see oli või ning", 6.0),
    "fi": _of("LATIN", "ja on ei se että oli mutta kun myös hän tai", 6.5),
    "hu": _of("LATIN", "az és hogy nem is egy van meg csak de ez", 5.5),
    "tr": _of("LATIN", "ve bir bu için de da ile çok olarak ne gibi", 6.0),
    "id": _of("LATIN", "yang dan di dengan untuk dari ini itu dalam tidak pada", 5.5),
    "ms": _of("LATIN", "yang dan di dengan untuk dari ini itu dalam tidak pada", 5.5),
    "tl": _of("LATIN", "ang ng sa na mga at ay ko ka hindi", 4.5),
    "vi": _of("LATIN", "và của là có không được cho một các trong với những", 3.3),
    "sw": _of("LATIN", "ya na wa kwa ni katika la za hii kama cha"),
    "eu": _of("LATIN", "eta da ez bat du dira ere zen baina izan", 6.0),
    "ru": _of("CYRILLIC", "не на что по как это из для когда все его от", 5.5),
    "uk": _of("CYRILLIC", "не на що та до як це за від або для", 5.5),
    "bg": _of("CYRILLIC", "на да се не за от по това си като са"),
    "sr": _of("CYRILLIC LATIN", "је да се на су за од не као који je da se na su za od ne kao koji"),
    "el": _of("GREEK", "και το να του η της με που την από για δεν"),
    "he": _of("HEBREW", "את של על לא זה הוא עם אני כי גם או היא", 4.5),
    "ar": _of("ARABIC", "من في على إلى أن لا عن هذا التي مع ما أو", 4.5),
    "fa": _of("ARABIC", "به در از که این را با است برای آن یک", 4.0),
    "ur": _of("ARABIC", "کے میں کی ہے اور سے کا کو اس نے پر یہ", 4.0),
    "hi": _of("DEVANAGARI", "के में की है और से का को पर ने यह नहीं", 4.0),
    "mr": _of("DEVANAGARI", "आणि आहे या हे ते तर मी नाही एक की"),
    "ne": _of("DEVANAGARI", "को मा पनि यो हो लागि भएको गर्न यस छन्"),
    "bn": _of("BENGALI", "এবং করে এই না থেকে একটি তার সে জন্য কি যে"),
    "gu": _of("GUJARATI", "છે અને આ માટે તે એક પર નથી કે હતી", 4.5),
    "pa": _of("GURMUKHI", "ਦੇ ਵਿੱਚ ਦੀ ਹੈ ਅਤੇ ਨੂੰ ਦਾ ਤੋਂ ਨੇ ਇਹ", 4.0),
    "ta": _of("TAMIL", "ஒரு என்று மற்றும் இந்த அவர் என்ற அது என இது ஆகும் அந்த", 7.5),
    "te": _of("TELUGU", "మరియు ఒక కాని ఎన్ని ఉంది అతను తన నుండి అయితే ఉన్నాయి ఆమె", 7.0),
    "kn": _of("KANNADA", "ಮತ್ತು ಒಂದು ಎಂದು ನಾನು ಅವರು ಇದು ಅಥವಾ ಅದು ಅವನು", 7.0),
    "ml": _of("MALAYALAM", "ഒരു എന്ന നിന്ന് എന്നാൽ അല്ലെങ്കിൽ അത് ഞാൻ ആണ് ഇത്", 8.5),
    "ka": _of("GEORGIAN", "და არ რომ ეს ის არის იყო რა თუ მაგრამ", 6.5),
    "hy": _of("ARMENIAN", "որ են մի չի համար հետ նրա այդ այս որը", 6.0),
    "ko": _of(
        "HANGUL HAN", "니다 한다 이다 했다 는다 하는 있는 에서 으로 하고 에게 까지 부터 지만 세요 는데 면서 해서 들을 들은", 3.0, "ends"
    ),
    "ja": _of(
        "KANA HAN",
        "です ます した から こと では には この という ている ました ません について ください ための である とき ながら それ だった",
        2.0,
        "characters",
    ),
    "zh": _of(
        "HAN",
        "一个 这个 我们 他们 没有 可以 什么 因为 所以 如果 但是 自己 就是 不是 还是 已经 或者 以及 需要 使用 必须 之后 多少 每个 那么 由于 "
        "其中 他的 她的 您的 不能 一個 這個 我們 他們 沒有 什麼 因為 還是 已經 必須 之後 每個 那麼 由於",
        2.0,
        "characters",
    ),
    "th": _of("THAI", "ที่ และ ของ เป็น ได้ ไม่ การ ให้ จาก นี้ ต้อง หรือ คุณ เท่าไหร่ ทั้งหมด", 4.0, "characters"),
    "lo": _of("LAO", "ທີ່ ແລະ ໃນ ຂອງ ເປັນ ໄດ້ ບໍ່ ວ່າ ມີ ການ ຈະ ໃຫ້", 4.0, "characters"),
    "km": _of("KHMER", "និង នៅ ក្នុង ដែល បាន ជា មាន នេះ មិន ដោយ របស់ ការ", 4.0, "characters"),
    "my": _of("MYANMAR", "သည် တွင် နှင့် ကို များ မှ ဖြစ် ရှိ တယ် သော အတွက် ပါ", 4.0, "characters"),
}
"""ISO 639-1 code -> its rules."""


class Notices(NamedTuple):
    """What a web page says to its visitors and no prose does, in lower case."""

    page: tuple[str, ...]
    """Phrases of pages that are little else: scripts are off, terms of use, cookie policy."""
    line: tuple[str, ...]
    """Phrases of lines about terms, privacy and cookies."""


_NOTICES = {
    "en": Notices(
        ("lorem ipsum", "enable javascript", "terms of use", "cookie policy"),
        ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"),
    ),
    "de": Notices(
        ("javascript aktivieren", "aktivieren sie javascript", "nutzungsbedingungen", "cookie-richtlinie"),
        ("nutzungsbedingungen", "datenschutzerklärung", "cookie-richtlinie", "verwendet cookies", "verwenden cookies", "nutzt cookies",
         "verwendung von cookies", "einsatz von cookies"),
    ),
    "es": Notices(
        ("active javascript", "activar javascript", "habilite javascript", "habilitar javascript", "términos de uso", "condiciones de uso",
         "política de cookies"),
        ("términos de uso", "condiciones de uso", "política de privacidad", "política de cookies", "utiliza cookies", "utilizamos cookies",
         "usa cookies", "usamos cookies", "uso de cookies"),
    ),
    "fr": Notices(
        ("activer javascript", "activez javascript", "conditions d'utilisation", "conditions d’utilisation", "politique de cookies",
         "politique relative aux cookies"),
        ("conditions d'utilisation", "conditions d’utilisation", "politique de confidentialité", "politique de cookies",
         "politique relative aux cookies", "utilise des cookies", "utilisons des cookies", "utilisation de cookies", "utilisation des cookies"),
    ),
    "ja": Notices(
        ("javascriptを有効", "利用規約", "cookieポリシー", "クッキーポリシー"),
        ("利用規約", "プライバシーポリシー", "cookieポリシー", "クッキーポリシー", "cookieを使用", "cookieを利用", "クッキーを使用",
         "クッキーを利用"),
    ),
    "ko": Notices(
        ("javascript를 활성화", "자바스크립트를 활성화", "이용약관", "이용 약관", "쿠키 정책"),
        ("이용약관", "이용 약관", "개인정보처리방침", "개인정보 처리방침", "쿠키 정책", "쿠키를 사용", "쿠키 사용"),
    ),
    "zh": Notices(
        ("启用javascript", "启用 javascript", "啟用javascript", "啟用 javascript", "使用条款", "使用條款", "cookie政策", "cookie 政策"),
        ("使用条款", "使用條款", "隐私政策", "隱私政策", "隐私权政策", "隱私權政策", "cookie政策", "cookie 政策", "使用cookie", "使用 cookie"),
    ),
    "hi": Notices(
        ("javascript सक्षम", "जावास्क्रिप्ट सक्षम", "उपयोग की शर्तें", "कुकी नीति"),
        ("उपयोग की शर्तें", "गोपनीयता नीति", "कुकी नीति", "कुकी का उपयोग", "कुकीज़ का उपयोग"),
    ),
}  # fmt: skip


@cache
def notices(language: str) -> Notices:
    """The notices that a text of a language is searched for: its own, where they are known, and the English ones."""
    english, own = _NOTICES["en"], _NOTICES.get(language, Notices((), ()))
    return english if language == "en" else Notices(english.page + own.page, english.line + own.line)
