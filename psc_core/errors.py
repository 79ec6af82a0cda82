"""Every error that psc_core raises on purpose: what was given, what was expected, what to do.

Each class carries a stable ``code`` that pipelines store beside a failed input.
"""

from __future__ import annotations


class PscError(Exception):
    """Base of all errors raised on purpose by this project."""

    code = "error"


class InvalidImage(PscError):
    """The array is not an image this codec takes."""

    code = "invalid_image"


class UnknownProfile(PscError):
    """No profile of that name exists."""

    code = "unknown_profile"


class InvalidProfile(PscError):
    """A profile's field has a value that it cannot have."""

    code = "invalid_profile"


class PriorNotFound(PscError):
    """The named prior is neither bundled nor at that path."""

    code = "prior_not_found"


class InvalidPrior(PscError):
    """The prior was found but cannot be used, for instance because of a layer without an exact form."""

    code = "invalid_prior"


class InvalidCondition(PscError):
    """The prompt or class label is none that the prior, or a stream, can take."""

    code = "invalid_condition"


class OutOfMemory(PscError):
    """Not even one sample, or one canvas, fits into the device's memory."""

    code = "out_of_memory"


class StateGone(PscError):
    """A replay went on to its next tier: the state of the one before is no more."""

    code = "state_gone"


class StreamError(PscError):
    """Base of the errors about stored bytes."""

    code = "stream_error"


class NotAStream(StreamError):
    """The bytes do not begin like a PSC stream."""

    code = "not_a_stream"


class UnknownVersion(StreamError):
    """The stream was written by a later format."""

    code = "unknown_version"


class CorruptStream(StreamError):
    """A checksum does not match: bytes changed since they were written."""

    code = "corrupt_stream"


class CutStream(StreamError):
    """The bytes end before the stream does, and not at a cut point."""

    code = "cut_stream"


class WrongPrior(StreamError):
    """The stream was encoded with another prior than the one given."""

    code = "wrong_prior"


class WrongArithmetic(StreamError):
    """The stream was encoded with another arithmetic, or with float in another environment."""

    code = "wrong_arithmetic"


class StateMismatch(StreamError):
    """Checksums match but the decoder's own state does not: the replay differed from the encoder's."""

    code = "state_mismatch"


class TierOutOfRange(StreamError):
    """The stream does not hold the tier that was asked for."""

    code = "tier_out_of_range"
