# ruff: noqa: RUF001
"""Personal data on planted text: what is redacted, and what only looks like it and stays."""

import phonenumbers
import pytest
from phonenumbers import SUPPORTED_REGIONS, PhoneNumberFormat, PhoneNumberType

from bench import personal_data
from modelyard.data.filters import phones, pii
from modelyard.data.filters.pii import PiiConfig

CONFIG = PiiConfig(kinds=["email", "ip", "card", "national_id", "phone"], region="US")
PLANTED = {
    "email": ["john.doe+news@mail.example.co.uk", "A_B@x.org"],
    "ip": ["8.8.8.8", "2001:4860:4860::8888", "93.184.0.7"],
    "card": ["4111 1111 1111 1111", "5500-0000-0000-0004", "340000000000009", "6011000000000004"],
    "national_id": [
        "078-05-1121",  # US
        "900101-1234568",  # KR, check digit by hand below
        "11010519491231002X",  # CN, the standard's own example
        "111.444.777-35",  # BR
        "12345678Z",  # ES
        "RCCMNL83S18D969H",  # IT
        "44051401359",  # PL
        "GB82 WEST 1234 5698 7654 32",  # IBAN
        "123-456-782",  # CA
        "756.9217.0769.85",  # CH
        "131052-308T",  # FI
        "BOXW310820HNERXN09",  # MX
    ],
    "phone": ["+1 650-253-0000", "(650) 253-0000", "+44 20 7031 3000", "650.253.0000"],
}
STAYS = [
    "user@localhost", "@mention", "a @ b.com", "1.2.3", "192.168.0.1", "127.0.0.1", "version 999.1.2.3", "4111 1111 1111 1112", "0000 0000 0000 0000",
    "078-05-11211", "12345678A", "44051401358", "111.444.777-36", "2024-01-02", "3.14159265358979", "12:30:45", "std::vector<int>", "555-1234",
    "100-200-300", "GB82 WEST 1234 5698 7654 33", "11010519491231002Y",
    "1.84.1.0", "version 8.8.4.4", "numpy==8.8.4.4", "boost-8.8.4.4", "icon@2x.png", "git@github.com", "code@main.js", "f(-2147483646)",
    "pp. 573-583. 2020", "4539 1488 0343 6468", "202411271234",
    "1.84729301e+02, 0.83729463+0.28473625j, -10", "2.50232379629182 - 0.760939574180767", "2015-03-07 12:32:17",
    "506890195205174974",  # stdnum.cn.ric raises KeyError on it
]  # fmt: skip


def _korean():
    digits = "900101123456"
    check = (11 - sum(int(d) * w for d, w in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True)) % 11) % 10
    return f"{digits[:6]}-{digits[6:]}{check}"


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PLANTED.items() for text in texts])
def test_personal_data_is_redacted_by_its_type(kind, text):
    text = _korean() if text.startswith("900101") else text
    redacted = pii.redact(f"Write to {text}, or not.", CONFIG)
    assert redacted.text == f"Write to [{kind.upper()}], or not."
    assert redacted.found == {kind: 1}


@pytest.mark.parametrize("text", STAYS)
def test_what_only_looks_like_personal_data_stays(text):
    assert pii.redact(f"See {text} there.", CONFIG) == (f"See {text} there.", {})


BESIDE = [
    ("メールはtaro@example.co.jpまで。", "メールは[EMAIL]まで。"),
    ("邮箱test@example.com请联系", "邮箱[EMAIL]请联系"),
    ("電話は090-1234-5678です。", "電話は[PHONE]です。"),
    ("電話は０９０－１２３４－５６７８です。", "電話は[PHONE]です。"),
    ("電話(03)3201-3331", "電話[PHONE]"),
    ("手机13800138000联系", "手机[PHONE]联系"),
    ("전화는 010-1234-5678입니다", "전화는 [PHONE]입니다"),
    ("サーバーは8.8.8.8です", "サーバーは[IP]です"),
    ("地址2001:4860:4860::8888可用", "地址[IP]可用"),
    ("カード番号は4111-1111-1111-1111です", "カード番号は[CARD]です"),
    ("マイナンバーは6214 9832 0257です", "マイナンバーは[NATIONAL_ID]です"),
    ("マイナンバーは621498320257です", "マイナンバーは[NATIONAL_ID]です"),
    ("주민등록번호는 900101-1234568입니다", "주민등록번호는 [NATIONAL_ID]입니다"),
    ("身份证11010519491231002X号", "身份证[NATIONAL_ID]号"),
]


@pytest.mark.parametrize(("text", "redacted"), BESIDE)
def test_personal_data_beside_letters_without_spaces_is_redacted(text, redacted):
    assert pii.redact(text, CONFIG).text == redacted


@pytest.mark.parametrize("kind", [PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.TOLL_FREE])
def test_no_countrys_number_is_taken_for_something_that_is_no_phone(kind):
    """libphonenumber is asked wherever it would find one of its own examples."""
    asked = 0
    for region in sorted(SUPPORTED_REGIONS):
        if (number := phonenumbers.example_number_for_type(region, kind)) is None:
            continue
        text = f"Call {phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)}, please."
        if list(phones._found(text, region, international=False)):
            assert phones._holds_one("".join(filter(str.isdigit, text)), region), (region, text)
            asked += 1
    assert asked > 50


def test_number_that_only_another_countrys_plan_has_stays():
    assert pii.redact("マイナンバーは6214 9832 0258です。バージョン8.8.4.4", CONFIG).found == {}
    assert pii.redact("Call 030 12345678 today, please.", CONFIG, "en").found == {}
    assert pii.redact("The file is numbered 621498320257 here.", CONFIG, "en").found == {}
    columns = "0.1234 2.50 (columns): 10.0  2.0  11.0; doi:10.1007/978-3-540-31856-9; 192.168.1.1, 192.0.2.0/24"
    assert pii.redact(columns, CONFIG.model_copy(update={"kinds": ["phone"]})).found == {}
    belgian = CONFIG.model_copy(update={"kinds": ["phone"], "region": "BE"})
    assert pii.redact("Bel ons op 03.227.12.88 a.u.b.", belgian, "en").found == {"phone": 1}


@pytest.mark.parametrize("language", ["de", "und"])
def test_region_follows_the_declared_or_the_detected_language(language):
    text = "Bitte rufen Sie uns am Montag unter 030 12345678 an, wir sind von neun bis zwölf Uhr da."
    assert pii.redact(text, CONFIG, language).found == {"phone": 1}
    own = CONFIG.model_copy(update={"regions": {"de": "US"}})
    assert pii.redact(text, own, language).found == {}


def test_recall_and_precision_on_planted_data_in_eight_languages():
    for language, kind, (right, wrong, planted) in personal_data.measured(each=12, seed=3):
        assert right >= 0.9 * planted, (language, kind)
        assert wrong <= 0.1 * planted, (language, kind)


def test_kinds_that_are_not_asked_for_stay():
    only_mail = PiiConfig(kinds=["email"], region="US")
    assert pii.redact("a@b.org 8.8.8.8", only_mail).text == "[EMAIL] 8.8.8.8"


@pytest.mark.parametrize("changed", [{"region": "UK"}, {"regions": {"de": "Germany"}}])
def test_region_without_a_numbering_plan_is_refused(changed):
    with pytest.raises(ValueError, match=r"regions?(\.de)?: '(UK|Germany)' is no country of ISO 3166"):
        PiiConfig.model_validate({**CONFIG.model_dump(), **changed})
