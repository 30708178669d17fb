"""What a credential looks like, for values that nobody registered: a Vault token, a JWT, an ``Authorization`` header.

Called by `voicekeys.telemetry.redaction` for each log line. A rule's expression only runs on a line that holds one of
its triggers: a substring test costs a tenth of a microsecond, an expression ten. Fingerprints and digests (32 hex
digits) match no rule on purpose, so that two lines about the same key can be told to be so.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MASK = "[redacted]"

# Quotes as they show in plain text, in JSON, and in JSON inside JSON.
_QUOTE = r"""(?:b?\\*["'])?"""  # b: the repr of bytes
_STEMS = (
    *("api_key", "api_secret", "auth_token", "access_token", "refresh_token", "id_token", "client_token"),
    *(
        "client_secret",
        "secret_id",
        "private_key",
        "wrapping_token",
        "password",
        "passwd",
        "passphrase",
        "x_vault_token",
    ),
)
_SPELLINGS = tuple(dict.fromkeys(stem.replace("_", joint) for stem in _STEMS for joint in ("_", "-", "")))


class Rule(NamedTuple):
    """One shape of a credential.

    Args:
        name: for tests and the docs.
        triggers: lower-case substrings, one of which a line must hold.
        expression: what is replaced; named groups stay readable, in front of the mask.
        insensitive: triggers are looked for in the lower-cased line.
    """

    name: str
    triggers: tuple[str, ...]
    expression: re.Pattern[str]
    insensitive: bool = False

    def clean(self, line: str) -> str:
        """Replace every match by the mask; what the named groups hold stays in front of it."""
        return self.expression.sub(_masked, line)


def _masked(match: re.Match[str]) -> str:
    return "".join(text for text in match.groupdict().values() if text) + MASK


RULES = (
    # https://developer.hashicorp.com/vault/docs/concepts/tokens#token-prefixes; "s." is the form before Vault 1.10.
    Rule("vault token", ("hvs.", "hvb.", "hvr."), re.compile(r"hv[sbr]\.[A-Za-z0-9_-]{8,}")),
    Rule("old vault token", ("s.", "b."), re.compile(r"(?<![A-Za-z0-9_])[sb]\.[A-Za-z0-9]{24}(?![A-Za-z0-9])")),
    # RFC 7519: the header is a JSON object, so its base64url text begins with eyJ ('{"').
    Rule(
        "jwt",
        ("eyj",),
        re.compile(r"eyJ[A-Za-z0-9_-]{5,1024}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"),
        insensitive=True,
    ),
    Rule(
        "authorization header",
        ("authorization",),
        re.compile(
            rf"(?P<keep>(?:proxy-)?authorization{_QUOTE}\s*[:=,]\s*{_QUOTE}\s*)"
            r"""(?:(?:bearer|basic|token|digest|apikey|negotiate)\s+)?[^\s"'\\,;}}]+""",
            re.IGNORECASE,
        ),
        insensitive=True,
    ),
    Rule(
        "bearer token",
        ("bearer ",),
        re.compile(r"(?P<keep>bearer\s+)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE),
        insensitive=True,
    ),
    Rule(
        "named field",
        _SPELLINGS,
        re.compile(
            rf"(?P<keep>(?:{'|'.join(_SPELLINGS)}){_QUOTE}\s*)"
            r"""(?:(?P<quoted>[:=]\s*b?\\*["'])[^"'\\]+|(?P<bare>=)[^\s"'\\,;&]+)""",
            re.IGNORECASE,
        ),
        insensitive=True,
    ),
    Rule("password in a URL", ("://",), re.compile(r"(?P<keep>://[^/\s:@\"']{0,256}:)[^/\s@\"']{1,512}(?=@)")),
    Rule(
        "private key block",
        ("private key-----",),
        re.compile(
            r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----"
            r"(?:\\+[nrt]|[A-Za-z0-9+/=\s:,]|-(?!----))*"
            r"(?:-----END [A-Z ]{0,32}PRIVATE KEY-----)?"
        ),
        insensitive=True,
    ),
    # OpenAI, Anthropic, Stripe, ElevenLabs, Cartesia: sk-…, sk_…, sk_live_…, pk is public but close.
    Rule("sk key", ("sk-", "sk_"), re.compile(r"(?<![A-Za-z0-9])sk[-_](?=[A-Za-z_-]{0,64}[0-9A-Z])[A-Za-z0-9_-]{16,}")),
    Rule("twilio api key", ("SK",), re.compile(r"(?<![A-Za-z0-9])SK[0-9a-f]{32}(?![A-Za-z0-9])")),
    Rule("google api key", ("AIza",), re.compile(r"AIza[A-Za-z0-9_-]{35}")),
    Rule("aws access key", ("AKIA", "ASIA"), re.compile(r"(?<![A-Z0-9])A[KS]IA[A-Z0-9]{16}(?![A-Z0-9])")),
    Rule(
        "github token",
        ("ghp_", "gho_", "ghs_", "ghu_", "github_pat_"),
        re.compile(r"(?:gh[posu]_|github_pat_)[A-Za-z0-9_]{20,}"),
    ),
    Rule("slack token", ("xox",), re.compile(r"xox[abposr]-[A-Za-z0-9-]{10,}")),
)


def clean(line: str) -> str:
    """Mask everything in one line that looks like a credential."""
    lowered = line.lower()
    for rule in RULES:
        text = lowered if rule.insensitive else line
        for trigger in rule.triggers:
            if trigger in text:
                line = rule.clean(line)
                break
    return line
