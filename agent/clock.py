"""Whether the kernel believes the wall clock (adjtimex(2)). Standard library only."""

import ctypes

_TIME_ERROR = 5
_STA_UNSYNC = 0x40


class _Timex(ctypes.Structure):
    """The head of struct timex (adjtimex(2)), and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def clock_synchronised() -> bool:
    """True while a time service disciplines the wall clock; False too where the kernel may not be asked."""
    timex = _Timex()  # modes 0: only read
    state: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    return 0 <= state < _TIME_ERROR and not timex.status & _STA_UNSYNC
