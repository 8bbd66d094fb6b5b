"""Credentials in addresses, hidden wherever an address is shown."""

import re

_USER_INFO = re.compile(r"(?<=://)[^\s/]*@")
_SECRET_VALUE = re.compile(r"(?i)([?&;][^=\s&;]*(?:password|passwd|pwd|token|secret|key)[^=\s&;]*=)[^\s&;]*")
HIDDEN = "***"


def masked(text: str) -> str:
    """`text` with user, password and secret query values of every address in it replaced by `***`."""
    return _SECRET_VALUE.sub(rf"\g<1>{HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", text))
