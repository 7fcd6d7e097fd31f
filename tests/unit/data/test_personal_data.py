"""Personal data on planted text: what is redacted, and what only looks like it and stays."""

import pytest

from modelyard.data.filters import pii
from modelyard.data.filters.pii import PiiConfig

CONFIG = PiiConfig(kinds=["email", "ip", "card", "national_id", "phone"], region="US")
PLANTED = {
    "email": ["john.doe+news@mail.example.co.uk", "A_B@x.org"],
    "ip": ["8.8.8.8", "2001:4860:4860::8888"],
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
    ],
    "phone": ["+1 650-253-0000", "(650) 253-0000", "+44 20 7031 3000", "650.253.0000"],
}
STAYS = [
    "user@localhost", "@mention", "a @ b.com", "1.2.3", "192.168.0.1", "127.0.0.1", "version 999.1.2.3", "4111 1111 1111 1112", "0000 0000 0000 0000",
    "078-05-11211", "12345678A", "44051401358", "111.444.777-36", "2024-01-02", "3.14159265358979", "12:30:45", "std::vector<int>", "555-1234",
    "100-200-300", "GB82 WEST 1234 5698 7654 33", "11010519491231002Y",
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


def test_kinds_that_are_not_asked_for_stay():
    only_mail = PiiConfig(kinds=["email"], region="US")
    assert pii.redact("a@b.org 8.8.8.8", only_mail).text == "[EMAIL] 8.8.8.8"
