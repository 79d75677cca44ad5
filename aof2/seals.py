"""Acknowledgements of seals: whoever asks for one holds it, the coordinator resolves it."""

from __future__ import annotations

from dataclasses import dataclass

from aof2.errors import RolloverFailed


@dataclass(frozen=True, slots=True)
class SealAck:
    """The acknowledgement of one segment's seal; it goes with `Rollover`.

    Attributes:
        seals: Of the stream.
        segment: Whose seal it is.
    """

    seals: Seals
    segment: int

    def resolve(self) -> None:
        """The seal is durable, and so are those of all segments before."""
        self.seals.sealed = max(self.seals.sealed, self.segment)
        self.seals.error = None

    def fail(self, error: BaseException) -> None:
        """This attempt failed: whoever waits for this seal or for a later one is told so."""
        self.seals.error = error

    @property
    def acked(self) -> bool:
        """Whether the seal is durable."""
        return self.seals.sealed >= self.segment

    def check(self) -> bool:
        """Whether the seal is durable; asked by those who wait for it.

        Raises:
            RolloverFailed: the newest attempt failed; another one follows by itself.
        """
        if self.acked:
            return True
        error = self.seals.error
        if error is not None and not self.acked:
            raise RolloverFailed(
                f"the segment could not be sealed ({error}); its records are intact, it is "
                "tried again",
                stream=self.seals.stream,
                segment=self.segment,
            ) from error
        return False


class Seals:
    """What is known of a stream's seals. They are made in order, so one number tells all.

    Attributes:
        stream: Its name.
        sealed: The newest segment whose seal is durable.
        error: What ended the newest attempt; None after one that succeeded.

    Example:
        >>> seals = Seals("orders", sealed=3)
        >>> ack = seals.ack(4)
        >>> ack.check(), ack.resolve(), ack.check()
        (False, None, True)
    """

    def __init__(self, stream: str, sealed: int = 0) -> None:
        self.stream = stream
        self.sealed = sealed
        self.error: BaseException | None = None

    def ack(self, segment: int) -> SealAck:
        """The acknowledgement of a segment's seal."""
        return SealAck(self, segment)
