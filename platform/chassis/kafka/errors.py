"""What ends a transactional producer: another one has its name, or it cannot tell how its last transaction ended."""


class Fenced(Exception):
    """Another process has taken this one's place: it must end, and may start anew."""


class Unsure(Fenced):
    """Nobody has this one's place, but it cannot tell how its last transaction ended: it must start anew, which finds out."""
