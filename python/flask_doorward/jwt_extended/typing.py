"""Types of the arguments. Durations may be anything that can be added to a datetime."""

from datetime import timedelta
from typing import Literal

ExpiresDelta = Literal[False] | timedelta
Fresh = bool | float | timedelta
