"""What key-bearing types share: they can't be pickled or copied by accident into a queue, a cache or a crash report."""

from typing import NoReturn


class Unpicklable:
    """Refuses pickling and copying. Secret fields are kept out of repr by `field(repr=False)`."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and is not pickled")
