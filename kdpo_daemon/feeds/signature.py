"""Who sent a post, and when: an HMAC over its key, its time and its body.

The headers and what is signed are those of Standard Webhooks (standardwebhooks.com), whose
libraries can sign for us.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from datetime import datetime

from kdpo_daemon.errors import RefusedError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
#: Seconds between the sender's clock and ours; an older post may be a replay.
WINDOW_S = 300
# Without a full stop: it stands between the parts that are signed.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")


def delivery_key(headers: Mapping[str, str], body: bytes, secret: bytes, now: datetime) -> str:
    """Give the idempotency key of a post.

    Raises:
        RefusedError: naming the header that is missing, or that is not right.

    """
    key = _header(headers, ID, _KEY, "give a new one for each post, of up to 100 A-Z a-z 0-9 _ -")
    sent = _header(headers, TIMESTAMP, re.compile(r"[0-9]{1,12}"), "give seconds since 1970")
    given = headers.get(SIGNATURE, "")
    if not given:
        raise _refused(SIGNATURE, "is missing", "give v1,BASE64 as docs/feeds.md says")
    wanted = hmac.digest(secret, f"{key}.{sent}.".encode() + body, "sha256")
    # each is compared, so that time tells nothing
    right = [hmac.compare_digest(wanted, one) for one in _signatures(given)]
    if not any(right):
        hint = "sign `id.timestamp.body`, the body as it is sent, with the key of this feed"
        raise _refused(SIGNATURE, "does not match, or there is no such feed", hint)
    if abs(now.timestamp() - int(sent)) > WINDOW_S:
        hint = f"sign when you send, with a clock that is right; it is {now:%Y-%m-%dT%H:%M:%SZ}"
        raise _refused(TIMESTAMP, f"is more than {WINDOW_S} s away from now", hint)
    return key


def _header(headers: Mapping[str, str], name: str, form: re.Pattern[str], hint: str) -> str:
    value = headers.get(name, "")
    if not form.fullmatch(value):
        raise _refused(name, "cannot be used" if value else "is missing", hint)
    return value


def _signatures(header: str) -> list[bytes]:
    """Give the signatures of version 1: while a key is replaced there may be two."""
    found = []
    for one in header.split():
        version, _, text = one.partition(",")
        try:
            found += [base64.b64decode(text, validate=True)] if version == "v1" else []
        except (binascii.Error, ValueError):
            continue
    return found


def _refused(name: str, why: str, hint: str) -> RefusedError:
    return RefusedError(f"{name} {why}", hint=hint, field=name)
