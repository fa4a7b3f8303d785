"""Take secrets out of text and fields before they leave the process.

Two rules work together. By **key**: the value of a field, header or parameter with a telling
name is replaced whole. By **value**: credentials are recognised inside any text (URLs' user
info and query, authorization schemes, cookies, known token shapes, e-mail, public IP
addresses) and so are the values of secret environment variables, literally.

Queries of URLs work by an allow-list, because nobody knows all the names YouTube gives its
tokens. Everything here runs in time linear in the text, and the text is capped first.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import is_
from typing import Any, Final
from urllib.parse import unquote

MASK: Final = "[REDACTED]"
FAILED: Final = "[REDACTION_FAILED]"
# Longest text looked at, in characters; the rest is cut off (and could hide nothing).
MAX_TEXT: Final = 16_384
# What a cut may have split: dropped as well, because half a token matches no pattern.
_CUT_MARGIN: Final = 512
_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 200


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names whose value is always a secret. Compared in lower case with `-`, `.` and `:` as `_`.
_EXACT_KEYS: Final = _words("""
    auth bearer consent cookie_header cookie_jar dsid hsid sid ssid apisid sapisidhash login_info
    ysc visitor_info1_live visitordata visitorid visitor_id potoken pot sig lsig signaturecipher
    s_cipher key jwt session sessionid session_id ssn credit_card ip ip_address client_ip
    remote_addr remote_address client_address network_peer_address net_peer_ip net_sock_peer_addr
    x_forwarded_for x_real_ip forwarded via_proxy proxy_url proxy_user proxy_username proxy_pass
    proxies upstream_proxy proxy_server proxy_config storage_state x_goog_visitor_id
    x_goog_authuser x_goog_pageid mysql_pwd pgpassword env environ headers request_headers
    response_headers html body request_body response_body
""")
# A name that is one of these or ends in one (as a whole word) is secret too: `youtube_api_key`,
# `http.request.header.cookie`, `__Secure-3PSID`.
_KEY_ENDINGS: Final = _words("""
    password passwd pwd passphrase secret token api_key apikey access_key private_key secret_key
    authorization cookie cookies credential credentials psid psidts psidcc sapisid csrf xsrf
    signature visitor_data webhook_url dsn
""")
_NOT_SECRET: Final = frozenset({"proxy_used", "po_token_required", "token_count"})

# Attributes that hold a query without its question mark.
_QUERY_KEYS: Final = frozenset({"url.query", "http.query", "query_string"})

# The parameters of a URL that may be read; all others are masked.
_ALLOWED_PARAMETERS: Final = _words("""
    v lang translate fmt itag format hl gl tlang kind hours stage window page limit step start end
    range t list index fields alt prettyprint
""")
_HARMLESS_PARAMETER: Final = re.compile(r"[\w.,:%+-]{0,64}")

_TEXT_KEYS: Final = (
    r"(?:[\w.-]{0,40}[_.-])?(?:password|passwd|pwd|passphrase|secret|token|api[_-]?key|apikey"
    r"|access[_-]?key|private[_-]?key|credentials?|signature|sapisid|apisid|[13]?psid(?:ts|cc)?"
    r"|csrf|xsrf|jwt)"
    r"|auth|lsig|sig|pot|hsid|ssid|sid|login_info|visitor_?(?:data|id)|visitor_info1_live|ysc"
    r"|session(?:_?id)?|po_?token|proxy_(?:user|pass)|user:pass|ssn"
)
_HEADER_KEYS: Final = (
    r"set-cookie|cookie|proxy-authorization|authorization|x-forwarded-for|x-real-ip|x-api-key"
    r"|x-goog-visitor-id|x-goog-authuser|x-youtube-identity-token"
)
# An optional quote, also escaped as in JSON inside a string.
_QUOTE: Final = r"\\{0,20}[\"']"

_USERINFO: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,20}://)[^\s/@\"'<>]{1,512}@")
_BARE_PROXY: Final = re.compile(
    r"(?<![\w/])[\w.~%+-]{1,128}:[^\s:/@\"'<>]{1,256}@(?=[\w.-]{1,255})"
)
_PARAMETER: Final = re.compile(
    r"([?&;#]|%3[Ff]|%26)([\w.\-\[\]~]{1,64})(=|%3[Dd])((?:(?!%26)[^\s&;#\"'<>\\])*)"
)
_PATH_SIGNED: Final = re.compile(r"(/videoplayback)/[^\s\"'<>?]+")
_HEADER: Final = re.compile(
    rf"\b({_HEADER_KEYS})({_QUOTE})?(\s{{0,4}}[:=,]\s{{0,4}})"
    rf"(?:(\\{{0,20}}\")[^\"\r\n]*\"?|(\\{{0,20}}')[^'\r\n]*'?|\[[^\]\r\n]*\]?|[^\r\n\"']*)"
    # Lines that continue it (RFC 9112, 5.2), but no frames of a stack.
    r"(?:\r?\n[ \t]+(?![ \t]|File \")[^\r\n]*){0,8}",
    re.IGNORECASE,
)
_ASSIGNMENT: Final = re.compile(
    rf"(?<![A-Za-z0-9])({_TEXT_KEYS})({_QUOTE})?(\s{{0,4}}[:=]\s{{0,4}})"
    rf"(?!\[REDACTED\])(?:({_QUOTE})(?:(?!\4)[^\r\n])+(\4)?|[^\s,;&\"'{{}}()\[\]<>]+)",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(
    r"\b((?i:Bearer|Basic|Digest|SAPISIDHASH|SAPISID[13]PHASH))(?:\s{1,4}|%20|\+)"
    # At least a digit, a capital or padding: "basic understanding" is no credential.
    r"(?=[a-z.~+/:%-]{0,512}[0-9A-Z=_])[\w\-.~+/=:%]{6,}"
)
# Characters of ASCII, which names and separators are made of.
_JSON_ESCAPE: Final = re.compile(r"\\{1,8}u00([2-7][0-9a-fA-F])")
_MOST_ENCODINGS: Final = 4
_OPTION: Final = re.compile(
    r"(--(?:[a-z-]{0,30}-)?(?:password|passwd|token|secret|key|username|proxy|cookies|header))"
    r"(\s{1,4})[^\s-][^\s]*"
)
_SHAPES: Final = re.compile(
    r"eyJ[\w-]{8,}(?:\.[\w-]*){1,4}"  # JWT, also cut short
    r"|AIza[\w-]{30,}"  # Google API key
    r"|ya29\.[\w.-]{10,}|1//0[\w-]{20,}"  # Google OAuth
    r"|(?:gh[pousr]|github_pat|glpat|xox[abprs]|sk|rk|pypi|npm|hf|whsec)[_-][\w-]{16,}"
    r"|A[KS]IA[0-9A-Z]{16}"  # AWS
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,30}KEY-----)?"
)
# A long run of mixed letters and digits: PO tokens, visitor data, signatures. Hex of one
# case (trace ids, checksums) stays.
_RUN: Final = re.compile(r"[A-Za-z0-9_=-]{36,}(?:%3D)*")
_EMAIL: Final = re.compile(r"[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}")
_IPV4: Final = re.compile(r"(?<![\w.])(?<!\w/)\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
_IPV6: Final = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{1,4}(?![\w:])")

# Text without any of these has nothing to find; most log values end here.
_GATE: Final = re.compile(
    r"[:=@%?&]|--|eyJ|AIza|ya29|1//0|[\w-]{20}|\d\.\d|(?i:bearer|basic|cookie|hash) "
)

# The longest text that is worth remembering: longer ones are rarely seen twice. Most fields and
# span names say the same few words, and YouTube's player has one address.
_SHORT: Final = 128

# Secret values known word for word, such as those of this process's environment. There are only
# ever more of them, so their number says what has been looked for.
_literals: Final[set[str]] = set()


def text_of(value: Any) -> str:
    """`str(value)`, or what it is of where its own text raises."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} without a text>"


def register_secrets(*values: str) -> None:
    """Mask these values wherever they turn up from now on. Ones under 6 characters are ignored."""
    _literals.update(value for value in values if len(value) >= 6)


@lru_cache(1)
def _known(_: int) -> re.Pattern[str]:
    """What finds so many literals."""
    longest_first = sorted(map(re.escape, tuple(_literals)), key=len, reverse=True)
    return re.compile("|".join(longest_first))


def register_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Register the value of every environment variable whose name is a secret's."""
    found: list[str] = []
    for name, value in environ.items():
        if name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("HEADERS"):
            for entry in map(str.strip, value.split(",")):  # the SDK repeats what it cannot read
                given = entry.partition("=")[2].strip() or entry
                found += entry, given, unquote(given)
        elif is_secret_key(name):
            found.append(value)
        elif "://" in value and "@" in value and (match := _USERINFO.search(value)):
            user, _, password = match.group(0).split("://", 1)[1][:-1].partition(":")
            found.append(password or user)
    register_secrets(*found)


@lru_cache(4096)
def is_secret_key(key: str) -> bool:
    """Whether the value under this name is a secret whatever it looks like."""
    # camelCase and SCREAMING-Kebab alike: visitorData, X-Goog-Visitor-Id.
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key[:256])
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if name in _NOT_SECRET:
        return False
    name = name.rpartition("header_")[2]
    return (
        name in _EXACT_KEYS
        or name.replace("_", "") in _EXACT_KEYS
        or any(f"_{name}".endswith(f"_{ending}") for ending in _KEY_ENDINGS)
        or name.startswith("secure_")
    )


def redact_text(text: str) -> str:
    """The text with every recognised secret replaced by `MASK`."""
    return _remembered(text, len(_literals)) if len(text) <= _SHORT else _redact_all(text)


def _redact_all(text: str, _: int = 0) -> str:
    """Also what stands in it percent-encoded (again and again) or as JSON writes it.

    Text that hides nothing stays as it is written.
    """
    text = plain = _redact(text)
    for _ in range(_MOST_ENCODINGS if "%" in text or "\\u" in text else 0):
        before = plain
        plain = unquote(_JSON_ESCAPE.sub(lambda match: chr(int(match[1], 16)), plain))
        if plain == before:
            break
        masked = _redact(plain)
        if masked != plain:
            text = plain = masked
    return text


_remembered: Final = lru_cache(4096)(_redact_all)


def _redact(text: str) -> str:
    if len(text) > MAX_TEXT:
        text = _cut(text)
    if _literals:
        text = _known(len(_literals)).sub(MASK, text)
    if not _GATE.search(text):
        return text
    # A word is found far sooner than a pattern. Not beyond ASCII, where "ſ" can be an "s".
    has = text.lower().__contains__ if text.isascii() else bool
    if has("cookie") or has("authorization") or has("x-"):
        text = _HEADER.sub(rf"\1\2\3\4\5{MASK}\4\5", text)
    if "@" in text:
        text = _USERINFO.sub(r"\1" + MASK + "@", text)
        text = _BARE_PROXY.sub(MASK, text)
        text = _EMAIL.sub(MASK, text)
    text = _PARAMETER.sub(_mask_parameter, text)
    text = _PATH_SIGNED.sub(r"\1/" + MASK, text)
    if has("bearer") or has("basic") or has("digest") or has("sapisid"):
        text = _SCHEME.sub(r"\1 " + MASK, text)
    text = _OPTION.sub(r"\1\2" + MASK, text)
    if ":" in text or "=" in text:
        text = _ASSIGNMENT.sub(rf"\1\2\3\4{MASK}\5", text)
    text = _SHAPES.sub(MASK, text)
    text = _RUN.sub(_mask_run, text)
    if text.count(".") >= 3:
        text = _IPV4.sub(_mask_address, text)
    if text.count(":") >= 3:
        text = _IPV6.sub(_mask_address, text)
    return text


def redact_value(value: Any, depth: int = 0) -> Any:
    """The value with secrets inside it masked: text, mappings and lists, six levels deep.

    Returns the same object when nothing had to change.
    """
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth >= _MAX_DEPTH:
        return MASK
    if isinstance(value, (bytes, bytearray)):
        return redact_text(bytes(value[:MAX_TEXT]).decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return redact_mapping(value, depth)
    if isinstance(value, (Sequence, set, frozenset)):
        items = list(value)[:_MAX_ITEMS]
        clean = [redact_value(item, depth + 1) for item in items]
        return value if len(items) == len(value) and all(map(is_, clean, items)) else clean
    return redact_text(text_of(value))


def redact_mapping(fields: Mapping[Any, Any], depth: int = 0) -> Mapping[Any, Any]:
    """The mapping with secret keys' values and secrets inside values masked; itself if clean."""
    changed: dict[Any, Any] = {}
    for key, value in fields.items():
        if value is None or value is True or value is False:
            continue
        if is_secret_key(key if isinstance(key, str) else text_of(key)):
            clean: Any = MASK
        elif isinstance(value, str):
            clean = redact_text(f"?{value}")[1:] if key in _QUERY_KEYS else redact_text(value)
        elif (kind := type(value)) is float or kind is int:
            continue
        else:
            clean = redact_value(value, depth + 1)
        if clean != value if isinstance(value, str) else clean is not value:
            changed[key] = clean
    return {**fields, **changed} if changed else fields


def count_masks(value: Any) -> int:
    """How many masks a redacted value holds."""
    if isinstance(value, str):
        return value.count(MASK)
    if isinstance(value, Mapping):
        value = list(value.values())
    return sum(map(count_masks, value)) if isinstance(value, (list, tuple)) else 0


def _cut(text: str) -> str:
    head = text[:MAX_TEXT]
    floor = MAX_TEXT - _CUT_MARGIN
    space = max(head.rfind(" ", floor), head.rfind("\n", floor))
    return head[: space if space > 0 else floor] + " …[cut]"


def _mask_parameter(match: re.Match[str]) -> str:
    separator, key, equals, value = match.groups()
    if not value or (key.lower() in _ALLOWED_PARAMETERS and _HARMLESS_PARAMETER.fullmatch(value)):
        return match.group(0)
    return f"{separator}{key}{equals}{MASK}"


def _mask_run(match: re.Match[str]) -> str:
    run = match.group(0)
    mixed = any(map(str.isdigit, run)) and any(map(str.isupper, run)) and any(map(str.islower, run))
    return MASK if mixed else run


def _mask_address(match: re.Match[str]) -> str:
    try:
        address = ipaddress.ip_address(match.group(0))
    except ValueError:
        return match.group(0)
    return match.group(0) if address.is_loopback or address.is_unspecified else MASK
