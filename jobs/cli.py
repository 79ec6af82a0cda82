"""`psc`: finds a verb's file when it is called, and turns every error into one line and an exit status."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec

import click

from jobs import VERBS

_HELP = {
    "plan": "List a source and freeze what compressing it will do.",
    "compress": "A folder, bucket, tar, zip or Parquet of images -> a dataset.",
    "decompress": "A dataset or a .psc file -> pictures.",
    "truncate": "A dataset -> the same at a lower rate. No model, no GPU.",
    "retry": "The failed inputs of a dataset again.",
    "extend": "A dataset -> the same at a higher rate, from its source.",
    "clean": "Remove what killed jobs left in a dataset.",
    "submit": "Any of these as a job on a Ray cluster.",
    "export": "Images of a dataset -> single .psc files.",
    "info": "What a .psc file or a dataset is.",
    "status": "How far a dataset is, and what failed.",
    "verify": "Check every byte of a dataset.",
    "query": "Ask a dataset in SQL.",
    "report": "A dataset as one HTML page: figures, failures, pictures.",
    "models": "The models that are at hand: kind, size, hashes.",
    "doctor": "What this machine has, and what to do about what is missing.",
    "demo": "Sample photographs compressed, truncated, decoded, drawn.",
    "bench": "Measure: rate and distortion, exactness.",
    "train-prior": "Train a small prior on a folder of images.",
    "calibrate-prior": "How far a prior's samples spread against their true error.",
}
_SECTIONS = {
    "Compress and decompress": ["plan", "compress", "retry", "decompress", "truncate", "extend", "export", "submit"],
    "Look and check": ["info", "status", "verify", "query", "report", "models", "clean", "doctor"],
    "Try and measure": ["demo", "bench", "train-prior", "calibrate-prior"],
}
_MODULES = {name: name for name in VERBS} | {
    "demo": "demo",
    "train-prior": "train_prior",
    "calibrate-prior": "calibrate_prior",
}
_BENCHES = {
    "rd": ("bench_rd", "Rate and distortion beside JPEG, WebP, AVIF, HEIC."),
    "exact": ("bench_exact", "Exactness over threads, batches, instruction sets and kernels."),
    "speed": ("bench_speed", "Exact arithmetic beside float; seconds, calls, memory."),
    "scale": ("bench_scale", "Seconds, memory and seams from small images to many canvases."),
    "seams": ("bench_seams", "Whether canvas borders show, and what cutting an image costs."),
    "latent": ("bench_latent", "Stable Diffusion's networks at full size, exact beside float."),
}
_EXIT_STATUS = (
    "0 all well; 1 some inputs failed, or it broke off; 2 nothing done: wrong use, or refused; 130 stopped by Ctrl-C "
    "after draining. --resume goes on."
)


def _there(module: str) -> bool:
    return find_spec(f"jobs.{module}") is not None


class _Lazy(click.Group):
    """A group whose commands are modules with a ``command``, imported when called; absent files are not
    listed.
    """

    def __init__(self, modules: dict[str, str], helps: dict[str, str], **options) -> None:
        super().__init__(**options)
        self._modules, self._helps = modules, helps

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, module in self._modules.items() if _there(module)] + list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self._modules.get(cmd_name)
        if module is None:
            return self.commands.get(cmd_name)
        return import_module(f"jobs.{module}").command if _there(module) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Written from the table and not from the commands: help must not import them.
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._helps.get(name, "")) for name in self.list_commands(ctx)])


class _Psc(_Lazy):
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        there = set(self.list_commands(ctx))
        for title, names in _SECTIONS.items():
            rows = [(name, self._helps[name]) for name in names if name in there]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # --help and --version are known; with them this would not fit a screen.
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit status"):
            formatter.write_text(_EXIT_STATUS)
        with formatter.section("Example"):
            formatter.write_text("psc compress photos/ archive/ --size 256")
            formatter.write_text("psc decompress archive/ pictures/ --bpp 0.2")


@click.command(
    cls=_Psc,
    modules=_MODULES,
    helps=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="psc-archive", prog_name="psc")
def psc() -> None:
    """Archives of images as progressive streams, coded by posterior sampling with a diffusion model.

    A DATASET is a folder of Parquet files, one row an image and one column a tier. Sources and datasets are
    paths or URLs (s3://bucket/prefix). `psc COMMAND --help` shows a command's options with an example.
    """


_BENCH_HELP = {name: text for name, (_, text) in _BENCHES.items()}
if any(_there(module) for module, _ in _BENCHES.values()):
    psc.add_command(
        _Lazy(
            {name: module for name, (module, _) in _BENCHES.items()},
            _BENCH_HELP,
            name="bench",
            help="Measure: figures as JSON and plots in results/.",
        )
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    _wait_asleep()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = psc.main(given, prog_name="psc", standalone_mode=False)
    except Exception as error:
        code = _report(error, "--json" in given)
    except KeyboardInterrupt as error:
        code = _stopped(error, "--json" in given)
    sys.stdout.flush()
    raise SystemExit(code if isinstance(code, int) else 0)


def _wait_asleep() -> None:
    """Threads between two parallel loops soon sleep: spinning for milliseconds, as libgomp has it, they take the cores
    from each other wherever others work there too (measured: twice to ten times the seconds).

    Read when torch is loaded, which is later.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "10000"


def _report(error: Exception, as_json: bool) -> int:
    from pipeline.errors import JobFailed
    from pipeline.stores.reach import error_code, refusal
    from psc_core.errors import PscError

    if os.environ.get("PSC_DEBUG"):
        import traceback

        traceback.print_exc()
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        return _stopped(error.__cause__, as_json)
    if isinstance(error, click.UsageError):
        kind, said = "usage", f"{error.format_message()} (see {_path_of(error)} --help)"
    elif isinstance(error, click.ClickException):
        kind, said = "usage", error.format_message()
    elif isinstance(error, PscError):
        kind, said = error.code, str(error)
    elif isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    elif (refused := refusal("a store" if error_code(error) else "a file", error)) is not None:
        kind, said = refused.code, str(refused)
    else:
        kind, said = type(error).__name__, f"{type(error).__name__}: {error} (PSC_DEBUG=1 shows where)"
    _say(kind, " ".join(said.split()), as_json)
    return 1 if isinstance(error, JobFailed) else 2


def _stopped(error: BaseException | None, as_json: bool) -> int:
    """By Ctrl-C; what interrupts may say what is left."""
    _say("stopped", f"stopped: {error}" if str(error or "") else "stopped", as_json)
    return 130


def _say(kind: str, said: str, as_json: bool) -> None:
    click.echo(f"psc: {said}", err=True)
    if as_json:
        click.echo(json.dumps({"error": kind, "message": said}))


def _path_of(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx is not None else "psc"


if __name__ == "__main__":
    main()
