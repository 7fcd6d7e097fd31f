"""Mail and IP addresses in text, and what only looks like them: files, accounts of repositories, releases of programs."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator

Place = tuple[int, int]

_NAME = "0-9A-Za-z\u00c0-\u024f"
_HOST = rf"(?:[{_NAME}](?:[{_NAME}-]{{0,61}}[{_NAME}])?\.)+([A-Za-z]{{2,24}})(?![0-9A-Za-z_])"
_DOMAINS = {sign: re.compile(sign + _HOST) for sign in ("@", "\uff20")}
_LOCAL = re.compile(rf"[{_NAME}][{_NAME}._%+-]*\Z")
_LONGEST_LOCAL = 64
_SERVICES = frozenset({"git", "hg", "svn", "cvs", "gitea", "gitlab"})
"""Accounts that repositories are fetched by (``git@github.com``), which are nobody's."""
_FILES = frozenset((
    "png", "jpg", "jpeg", "jpe", "gif", "svg", "webp", "bmp", "ico", "icns", "tif", "tiff", "heic", "avif",
    "psd", "pdf", "eps", "js", "mjs", "ts", "jsx", "tsx", "css", "scss", "less", "html", "htm", "xml",
    "xsl", "json", "yml", "yaml", "toml", "ini", "cfg", "conf", "txt", "text", "log", "csv", "tsv", "tar",
    "gz", "tgz", "bz", "xz", "zst", "rar", "jar", "war", "whl", "egg", "deb", "rpm", "exe", "dll", "dylib",
    "bin", "iso", "img", "dmg", "php", "asp", "aspx", "jsp", "java", "class", "kt", "rb", "go", "cs", "cpp",
    "hpp", "hxx", "vue", "svelte", "sql", "db", "sqlite", "ttf", "otf", "woff", "eot", "wav", "mpeg", "avi",
    "mkv", "webm", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt",
))  # fmt: skip
"""Ends of file names (``icon@2x.png``), none of which is a top-level domain."""
_SCALE = re.compile(r"[@\uff20]\d+(?:\.\d+)?x\.")

_IP4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)", re.ASCII)
_IP6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|:)(?::?[0-9A-Fa-f]{1,4})*(?![\w:])", re.ASCII)
_LONGEST = 48
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_VERSION = re.compile(
    r"(?:\b(?:v|ver|vers|version|versión|versão|versione|versionen|release|rev|revision|build|update|section|chapter|rfc)"
    r"|верси[яию]|बिल्ड|संस्करण|バージョン|ヴァージョン|版本|버전|판)[\s.:=\"'(]*$|[0-9A-Za-z_][-_]$|(?:[=~<>!]=|[~^])\s*[\"']?$",
    re.IGNORECASE,
)


def emails(text: str) -> Iterator[Place]:
    """(start, end) of mail addresses."""
    for sign, domain in _DOMAINS.items():
        if sign in text:
            yield from _emails(text, domain)


def _emails(text: str, domain: re.Pattern[str]) -> Iterator[Place]:
    for match in domain.finditer(text):
        local = _LOCAL.search(text, max(0, match.start() - _LONGEST_LOCAL), match.start())
        if local is None or local.group().lower() in _SERVICES or _SCALE.match(match.group()):
            continue
        if match.group(1).lower() not in _FILES:
            yield local.start(), match.end()


def ip4(text: str) -> Iterator[Place]:
    """(start, end) of public addresses of version 4, versions of programs among them (:func:`is_version`)."""
    return (match.span() for match in _IP4.finditer(text) if _is_public(match.group()))


def ip6(text: str) -> Iterator[Place]:
    """IPv6 addresses around two colons of which the second is at most four hexadecimal digits from the first."""
    end = 0
    for match in _COLONS.finditer(text):
        if match.start() < end:
            continue
        begin = max(0, match.start() - 6)
        if found := _IP6.search(text, begin, match.start() + _LONGEST):
            end = found.end()
            if _is_public(found.group()):
                yield found.span()


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def is_version(text: str, start: int, end: int) -> bool:
    """Whether four numbers are a release rather than an address: what stands before says so, or zeros that hosts have not."""
    first, second, _, last = unicodedata.normalize("NFKC", text[start:end]).split(".")
    zeros = int(first) < 32 and "0" in (second, last)
    return zeros or _VERSION.search(text, max(0, start - 24), start) is not None
