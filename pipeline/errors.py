"""Errors of the pipeline. Those of a single input become its row's ``status``; the others refuse the whole
job.
"""

from __future__ import annotations

from psc_core.errors import PscError


class Refused(PscError):
    """Nothing was done, and nothing was written: the request cannot be carried out as it stands."""

    code = "refused"


class SourceNotFound(Refused):
    """The source of images is not there, or holds no file."""

    code = "source_not_found"


class NotADataset(Refused):
    """The path holds no committed PSC dataset."""

    code = "not_a_dataset"


class AlreadyADataset(Refused):
    """The target holds a dataset or other files already."""

    code = "already_a_dataset"


class PlanDiffers(Refused):
    """The target was planned with other parameters; the differing fields are named."""

    code = "plan_differs"


class TargetNotWritable(Refused):
    """The target cannot be written."""

    code = "target_not_writable"


class BadRequest(Refused):
    """An argument, or two together, make no sense."""

    code = "bad_request"


class UnknownIds(Refused):
    """Some image ids that were asked for are not in the dataset."""

    code = "unknown_ids"


class JobFailed(PscError):
    """The job stopped before its end; what was committed stays, and ``--resume`` goes on from there."""

    code = "job_failed"

    @classmethod
    def of(cls, error: PscError) -> JobFailed:
        """What ended the job, by its own name."""
        failed = cls(str(error))
        failed.code = error.code
        return failed


class Unfit(JobFailed):
    """A worker cannot encode anything any more, whatever the image: its device or its libraries fail."""

    code = "unfit"


class CorruptPart(PscError):
    """A part of a dataset is not what its marker says."""

    code = "corrupt_part"


class InputError(PscError):
    """Base of the errors of one input; ``code`` is its row's status."""

    code = "input_error"


class InputMissing(InputError):
    """The input was listed, but is not there any more."""

    code = "not_found"


class InputForbidden(InputError):
    """The input may not be read."""

    code = "permission_denied"


class InputUnreadable(InputError):
    """Reading the input failed, also when tried again."""

    code = "io_error"


class InputChanged(InputError):
    """The input is not the one that was planned."""

    code = "source_changed"


class CannotUnpack(InputError):
    """The container, or this member of it, does not unpack: damaged, encrypted, or of a kind that is not read here."""

    code = "cannot_unpack"


class TooManyBytes(InputError):
    """The input is larger than the cap on bytes."""

    code = "too_many_bytes"


class TooManyPixels(InputError):
    """The image's header declares more pixels than the cap."""

    code = "too_many_pixels"


class EmptyInput(InputError):
    """The input has no bytes."""

    code = "empty_file"


class UnknownFormat(InputError):
    """The bytes begin like no image format that is read here."""

    code = "unknown_format"


class TruncatedImage(InputError):
    """The image ends before its pixels do."""

    code = "truncated_image"


class BrokenImage(InputError):
    """The image's header is readable, its pixels are not."""

    code = "broken_image"


class Crashed(InputError):
    """Encoding the input ended its process, each time."""

    code = "crashed"
