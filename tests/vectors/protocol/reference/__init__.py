"""A second implementation of docs/protocol.md, written from that page and the
RFCs it names. It makes the vectors; it is neither fast nor constant in time,
and no key that matters should come near it."""


class Refused(Exception):
    """A check of the protocol failed; the argument is the check's name."""


def check(holds, name):
    """Refuses under this name what does not hold."""
    if not holds:
        raise Refused(name)
