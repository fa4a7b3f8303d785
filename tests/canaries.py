"""Secrets of every kind the service can meet, each with a value that occurs nowhere else.

`build(n)` makes the n-th canary: letters and digits, recognisable by `PREFIX`, so that one
search over all sinks finds whatever leaked.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

PREFIX: Final = "kNaRy"


def build(number: int) -> str:
    """The canary with this number; no canary is part of another."""
    return f"{PREFIX}{number:03d}zQ"


# Each form is text in which {c} stands for the canary. The kinds are those of the research:
# URLs, query parameters, headers, cookies, proxies, keys, tokens, encodings.
FORMS: Final = (
    # URLs
    "GET https://user:{c}@example.org/path failed",
    "proxy http://{c}:x@203.0.113.9:8080 refused",
    "socks5://customer-{c}:pw@gate.example.net:7000",
    "tried user:{c}@gate.example.net:7000",
    "https://www.youtube.com/api/timedtext?v=dQw4w9WgXcQ&signature={c}&lang=en",
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ&pot={c}",
    "https://rr3---sn-4g5e6nez.googlevideo.com/videoplayback?expire=1&sig={c}&itag=251",
    "https://rr3---sn-4g5e6nez.googlevideo.com/videoplayback/expire/1/lsig/{c}/file.m4a",
    "/youtubei/v1/player?key={c}&prettyPrint=false",
    "/api/transcripts/dQw4w9WgXcQ?lang=en&token={c}",
    "/callback#access_token={c}",
    "https://example.org/?v={c}%2Fnot-a-video-id-because-far-too-long-to-be-one-of-those-at-all",
    "Max retries exceeded with url: /watch?ei={c} (Caused by timeout)",
    "url=https%3A%2F%2Fexample.org%2F%3Fapi_key%3D{c}%26v%3D1",
    "next=%2Fhome%3Ftoken%3D{c}",
    # headers
    "Authorization: Bearer {c}",
    "authorization: Basic {c}==",
    "Proxy-Authorization: Basic {c}==",
    "Authorization: SAPISIDHASH 1700000000_{c}",
    "{{'Authorization': 'Bearer {c}', 'Accept': '*/*'}}",
    '{{"X-Api-Key": "{c}"}}',
    "X-Goog-Visitor-Id: {c}",
    "X-Youtube-Identity-Token: {c}",
    "X-Forwarded-For: {c}, 10.0.0.1",
    "sent header cookie: SID={c}; HSID=b",
    "Cookie: CONSENT=YES+cb; __Secure-3PSID={c}",
    "Set-Cookie: LOGIN_INFO={c}; Path=/; HttpOnly",
    "headers=[('Cookie', 'VISITOR_INFO1_LIVE={c}')]",
    "<RequestsCookieJar[<Cookie SID={c} for .youtube.com/>]>",
    "token Bearer%20{c}",
    # assignments in text, JSON, JSON in a string, Python
    "password={c}",
    "password: {c}",
    'password = "{c}"',
    "YOUTUBE_API_KEY={c}",
    "PROXY_PASSWORD='{c}'",
    '{{"access_token": "{c}", "expires": 1}}',
    '{{"refresh_token":"{c}"}}',
    '"{{\\"client_secret\\": \\"{c}\\"}}"',
    '\\\\"visitorData\\\\":\\\\"{c}\\\\"',
    '"poToken": "{c}"',
    "po_token={c}",
    "SAPISID={c}",
    "sapisid: {c}",
    "session_id={c}",
    "csrf_token={c}",
    "secret: {c}",
    "private_key={c}",
    "dict(passwd='{c}')",
    "--password {c} is not shown, --token={c} neither",
    "api-key: {c}",
    "credentials={c}",
    "visitor_data={c}",
    # shapes that need no name
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI{c}.c2lnbmF0dXJl",
    "AIzaSyA0123456789{c}0123456789abc",
    "ya29.a0Af{c}xyz",
    "1//0e0123456789{c}abcdef",
    "ghp_0123456789abcdef{c}0123456789",
    "xoxb-0123456789-0123{c}",
    "sk-0123456789abcdef{c}",
    "MnQ0x9{c}AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA01",
    "Cgt{c}0a1b2c3d4e5f6g7h8i9j0kLMNOPQRSTU",
    "someone.{c}@example.org wrote",
    "someone.{c}%40example.org",
    "-----BEGIN PRIVATE KEY-----\nMII{c}\n-----END PRIVATE KEY-----",
    # folded over lines, escaped as in JSON, encoded twice and more
    "Authorization: Basic\r\n {c}",
    "Cookie: a=b;\n\tSID={c};\n  HSID={c}",
    '{{"pass\\u0077ord": "{c}"}}',
    "https://a.example/?x=1\\u0026sig\\u003d{c}",
    "password%253D{c}",
    "next=https%25253A%25252F%25252Fu%25253A{c}%252540host",
    "%2562earer token%3A {c}",
)

# Names under which a value is secret whatever it looks like.
KEYS: Final = (
    "password",
    "proxy_password",
    "proxyPassword",
    "PROXY-PASSWORD",
    "authorization",
    "http.request.header.cookie",
    "http.request.header.authorization",
    "http.response.header.set_cookie",
    "http.request.header.x_goog_visitor_id",
    "cookie",
    "cookies",
    "api_key",
    "apiKey",
    "youtube_api_key",
    "YOUTUBE_API_KEY",
    "access_token",
    "refreshToken",
    "id_token",
    "client_secret",
    "session_id",
    "sapisid",
    "SAPISID",
    "__Secure-3PSID",
    "__Secure-1PSIDTS",
    "LOGIN_INFO",
    "visitor_data",
    "visitorData",
    "po_token",
    "poToken",
    "pot",
    "sig",
    "lsig",
    "signature",
    "signatureCipher",
    "x_forwarded_for",
    "client.address",
    "network.peer.address",
    "proxy_url",
    "proxies",
    "storage_state",
    "headers",
    "env",
    "webhook_url",
)


def url_encoded(text: str) -> str:
    """As inside another URL's parameter."""
    return quote(text, safe="")
