"""The command line: commands, options and what they accept. ``2`` is argparse's own exit status for wrong usage."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import arrowlens
from arrowlens.addresses import is_bucket, scheme_of
from arrowlens.cli import commands, marks, mcp_server, models, searching
from arrowlens.cli.benchmark import benchmark
from arrowlens.cli.completion import completion
from arrowlens.cli.duplicates import duplicates
from arrowlens.conversion import FAMILIES
from arrowlens.modalities import MODALITIES, SOURCES
from arrowlens.search import KINDS, values

DEFAULT_LIBRARY = ".arrowlens"
LIBRARY_VARIABLE = "ARROWLENS_LIBRARY"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8501


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the command or option that may be meant."""

    def parse_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,  # noqa: ANN401 - as argparse
    ) -> argparse.Namespace:
        """Parse a command line; an option that the command does not have is its error, not that of the program."""
        options: argparse.Namespace
        options, others = self.parse_known_args(args, namespace)
        if others:
            command: Parser = getattr(options, "parser", self)
            unknown = next((other for other in others if other.startswith("-")), others[0])
            command.error(f"unknown argument {unknown!r}{_meant(unknown.partition('=')[0], command.option_names)}")
        return options

    @property
    def option_names(self) -> list[str]:
        """The names of its options."""
        return [name for action in self._actions for name in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Print one line and end with status 2."""
        end = "" if message.endswith("?") else ";"
        self.exit(2, f"{self.prog}: error: {message}{end} `{self.prog} --help` shows how it is used\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401 - as argparse
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            hint, all_of_them = _meant(str(value), choices), f"choose from {', '.join(choices)}"
            if not hint or len(choices) <= _FEW_CHOICES:
                hint = f"{hint} {all_of_them}" if hint else f"; {all_of_them}"
            raise argparse.ArgumentError(action, f"invalid choice {value!r}{hint}")


_FEW_CHOICES = 8  # that are named beside the nearest one


def _meant(given: str, names: Iterable[str]) -> str:
    """Return a question for what may be meant in place of a mistyped name; empty where nothing is near."""
    near = difflib.get_close_matches(given, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def build_parser() -> Parser:
    """The parser of the ``arrowlens`` command; a parsed command line carries the function to call as ``run``."""
    parser = Parser(
        prog="arrowlens",
        description="Find pictures, recordings and films by meaning, on your own machine.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"arrowlens {arrowlens.__version__}")
    parser.set_defaults(run=_help, parser=parser)
    adder = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_ingest(adder)
    _add_searches(adder)
    _add_duplicates(adder)
    _add_marks(adder)
    _add_upkeep(adder)
    _add_convert(adder)
    _add_models(adder)
    _add_evaluation(adder)
    _add_benchmark(adder)
    _add_ui(adder)
    _add_mcp(adder)
    _add_completion(adder)
    return parser


def _help(options: argparse.Namespace) -> int:
    options.parser.print_help()
    return 0


# Commands that show how each command is used, below its options.
_EXAMPLES = {
    "ingest": (
        "arrowlens ingest ~/Pictures ~/Music",
        "arrowlens ingest ~/Pictures --dry-run",
        "arrowlens ingest ~/Pictures --read-text",
        "arrowlens ingest ~/Pictures --watch",
    ),
    "search": (
        'arrowlens search "a red bicycle"',
        'arrowlens search "a dog" --minus "a person" --where \'width >= 1000\' -k 5',
        "arrowlens search '\"for your country\"' --in speech",
    ),
    "similar": ("arrowlens similar holiday.jpg -k 5",),
    "duplicates": (
        "arrowlens duplicates --kind identical --kind copy",
        "arrowlens duplicates --not-duplicate left.jpg right.jpg",
    ),
    "favourite": ("arrowlens favourite holiday.jpg", "arrowlens favourite --remove holiday.jpg"),
    "saved": ("arrowlens saved", "arrowlens saved --forget dogs"),
    "show": ("arrowlens show talks/monday.mp3",),
    "status": ("arrowlens status",),
    "skipped": ("arrowlens skipped",),
    "remove": ("arrowlens remove ~/Pictures/old",),
    "optimize": ("arrowlens optimize",),
    "doctor": ("arrowlens doctor", "arrowlens doctor --repair"),
    "convert": ("arrowlens convert clip openai/clip-vit-base-patch16 --output clip-b16",),
    "models": ("arrowlens models", "arrowlens models use base"),
    "use": ("arrowlens models use base",),
    "prepare": ("arrowlens models prepare", "arrowlens models prepare models/clip"),
    "eval": (
        "arrowlens eval ~/Pictures pairs.csv --models base",
        "arrowlens eval ~/Pictures pairs.csv --save-calibration",
    ),
    "benchmark": ("arrowlens benchmark --models base",),
    "ui": ("arrowlens ui --port 8502",),
    "mcp": ("arrowlens mcp --library photos.lens",),
    "completion": ("arrowlens completion bash",),
}

_Adder = argparse._SubParsersAction  # argparse gives the type no public name


def _add_ingest(adder: _Adder[Any]) -> None:
    command = _command(adder, "ingest", commands.ingest, "index folders of pictures, recordings and films")
    command.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="+",
        type=_place,
        help="a folder to index, with all folders below it; a single file; the address of a prefix in a bucket, "
        "such as s3://bucket/photos; or a manifest, a CSV or Parquet file with a column of addresses",
    )
    _library_options(command)
    command.add_argument(
        "--models",
        metavar="SET",
        help="models of a new library: a set of `arrowlens models` (base is the default), "
        "vision=DIR,audio=DIR,text=DIR, or both, as in base,audio=DIR",
    )
    command.add_argument(
        "--shards",
        metavar="N",
        type=_n_shards,
        help="divide a new library into so many parts, each with its own index: 2, 4, 8, ... up to 256; for more than "
        "some ten million files (default: one)",
    )
    command.add_argument("--workers", metavar="N", type=_positive, help="decoding workers (default: one a core)")
    command.add_argument(
        "--prune",
        action=argparse.BooleanOptionalAction,
        help="remove what is no longer on disk under these folders, or keep it (default: remove it, unless it is more "
        "than half of a folder's files and at least 20, or more than 1,000)",
    )
    command.add_argument(
        "--retry",
        action="store_true",
        help="try files again that could not be read, and films whose sound was left out",
    )
    command.add_argument(
        "--exact", action="store_true", help="decode pictures in full: slower, with barely different vectors"
    )
    command.add_argument("--dry-run", action="store_true", help="show what would be done, and change nothing")
    command.add_argument(
        "--price-per-hour",
        metavar="P",
        type=_amount,
        help="price of an hour of a machine like this one: --dry-run says what encoding would cost",
    )
    command.add_argument(
        "--watch",
        action="store_true",
        help="go on and do the same whenever something changes, until Ctrl-C (pip install 'arrowlens[watch]')",
    )
    command.add_argument(
        "--watch-every",
        metavar="MINUTES",
        type=_amount,
        help="how often --watch lists buckets and reads manifests, which tell of no changes (default: 10)",
    )
    texts = command.add_argument_group("words in media", "once everything is found by what it shows or sounds like")
    texts.add_argument(
        "--read-text",
        action="store_true",
        help="read what is written in pictures and films (pip install 'arrowlens[ocr]')",
    )
    texts.add_argument(
        "--transcribe",
        action="store_true",
        help="write down what is said in recordings and films (pip install 'arrowlens[speech]'); slow, --dry-run says "
        "how long",
    )
    texts.add_argument(
        "--speech-model",
        metavar="NAME|DIR",
        help="what transcribes: tiny, base, small, medium, large-v3, large-v3-turbo, or a folder (default: base)",
    )
    _cluster_options(command)
    _limit_options(command)
    _json_option(command)


def _cluster_options(command: argparse.ArgumentParser) -> None:
    cluster = command.add_argument_group("engine", "who decodes and encodes; the library is the same in the end")
    cluster.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: this machine; ray: the nodes of a Ray cluster (default: local)",
    )
    cluster.add_argument(
        "--address", metavar="ADDRESS", help="the cluster (default: $RAY_ADDRESS, else one that is started here)"
    )
    cluster.add_argument(
        "--concurrency",
        metavar="N",
        type=_positive,
        help="workers on the cluster, with equal shares of its CPUs (default: one a node, or one a GPU)",
    )
    cluster.add_argument("--num-gpus", metavar="G", type=_amount, help="GPUs of each worker, such as 1 or 0.5")


def _limit_options(command: argparse.ArgumentParser) -> None:
    limits = command.add_argument_group("limits", "a file beyond them is skipped")
    limits.add_argument("--max-megapixels", metavar="N", type=_amount, help="largest picture (default: 120)")
    limits.add_argument(
        "--max-hours",
        metavar="H",
        type=_amount,
        help="longest recording; of a longer film the sound is left out (default: 2)",
    )
    limits.add_argument(
        "--max-shots", metavar="N", type=_positive, help="shots of a film, evenly thinned (default: 200)"
    )
    limits.add_argument(
        "--max-file-size",
        metavar="SIZE",
        type=_byte_size,
        help="largest file, such as 500M (default: 2G, for a picture 512M, for a film 128G)",
    )
    limits.add_argument(
        "--time-limit", metavar="SECONDS", type=_amount, help="longest time to decode a file (default: 120)"
    )


def _add_searches(adder: _Adder[Any]) -> None:
    search = _command(
        adder, "search", searching.search, "find pictures and films, and recordings if the models can, by a text"
    )
    search.add_argument(
        "text",
        metavar="TEXT",
        nargs="*",
        type=_text,
        help="what to look for, in a language that the models know; without it, --where lists files, newest first",
    )
    _composition_options(search)
    _templates_option(search)
    search.add_argument(
        "--favourites", action="store_true", help="search among favourites only; without TEXT, list them"
    )
    kept = search.add_mutually_exclusive_group()
    kept.add_argument("--save", metavar="NAME", type=_text, help="keep the question under a name as well")
    kept.add_argument("--saved", metavar="NAME", type=_text, help="ask the question that was saved under a name")
    similar = _command(adder, "similar", searching.similar, "find what looks or sounds like a file")
    similar.add_argument("file", metavar="FILE", type=_path, help="a picture, recording or film, in the library or not")
    similar.add_argument(
        "--at", metavar="TIME", type=_moment, help="a moment of a film or recording in the library, such as 1m30s"
    )
    for command in (search, similar):
        _library_options(command)
        _replica_option(command)
        _view_options(command)
        printed = command.add_mutually_exclusive_group()
        _json_option(printed)
        printed.add_argument("--paths", action="store_true", help="print absolute paths only, one a line")
        command.add_argument(
            "-0", "--null", action="store_true", help="with --paths: end each path with a NUL, as `xargs -0` reads them"
        )
        command.add_argument(
            "--thumbnails",
            action="store_true",
            help="with --json: add a JPEG of each picture, and of the best moment of each film, in base64",
        )


def _templates_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--no-templates",
        dest="templates",
        action="store_false",
        help="ask for the names of things as they are, not in the sentences that the makers of CLIP and CLAP recommend",
    )


def _composition_options(command: argparse.ArgumentParser) -> None:
    asked = command.add_argument_group("what to look for", "each may be given several times")
    for name, meaning in (("--plus", "to look for as well"), ("--minus", "to keep away from")):
        asked.add_argument(name, metavar="TEXT", action="append", default=[], type=_text, help=f"a text {meaning}")
    for name, meaning in (("--like", "to come near"), ("--unlike", "to keep away from")):
        asked.add_argument(
            name,
            metavar="FILE",
            action="append",
            default=[],
            type=_file,
            help=f"a picture, recording or film {meaning}",
        )
    asked.add_argument(
        "--weight",
        metavar="PART=N",
        action="append",
        default=[],
        type=_weight,
        help="weight of one of these, by its text or file (default: 1, for --minus and --unlike 0.5)",
    )
    command.add_argument(
        "--modality",
        "--kind",
        choices=(*MODALITIES, "all"),
        default="all",
        help="image finds pictures only, audio recordings, video films (default: all; --kind is another name)",
    )
    command.add_argument(
        "--mode",
        choices=("auto", "vector", "keyword"),
        default="auto",
        help="vector compares meanings, keyword looks for the words (default: auto, both)",
    )
    command.add_argument(
        "--in",
        dest="sources",
        metavar="SOURCE,...",
        type=_sources,
        default=(),
        help=f"look for TEXT in texts of these sources only: {', '.join(SOURCES)}",
    )


def _view_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-k", dest="k", metavar="N", type=_positive, default=20, help="number of results (default: 20)"
    )
    command.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="a condition that files must satisfy, such as 'width >= 1000'; of several, all must hold",
    )
    start = command.add_mutually_exclusive_group()
    start.add_argument("--page", metavar="N", type=_positive, help="the N-th page of -k results (default: 1)")
    start.add_argument(
        "--offset", metavar="N", type=_count, default=0, help="number of results to pass over (default: 0)"
    )
    command.add_argument(
        "--sort",
        choices=("relevance", "date"),
        default="relevance",
        help="date puts the matches in order, at most the best 1,000, newest first (default: relevance)",
    )
    command.add_argument(
        "--group", choices=("folder", "day"), help="show the results by folder, or by the day that they were taken"
    )
    command.add_argument(
        "--all", dest="everything", action="store_true", help="show the nearest files too, which do not match"
    )
    command.add_argument("--collapse", action="store_true", help="show files that look or sound the same once")


def _add_duplicates(adder: _Adder[Any]) -> None:
    command = _command(adder, "duplicates", duplicates, "list files that are there twice, or nearly; deletes nothing")
    command.add_argument(
        "--kind",
        choices=KINDS,
        action="append",
        default=[],
        help="identical: the same bytes; copy: re-encoded or resized; near: nearly the same; several may be given "
        "(default: all)",
    )
    for option, meaning in (
        ("--not-duplicate", "say that two files are no duplicates of each other, so that they are not listed together"),
        ("--duplicate", "take --not-duplicate back"),
    ):
        command.add_argument(option, metavar=("FILE", "OTHER"), nargs=2, type=_place, help=meaning)
    command.add_argument("--all", action="store_true", help="print every group, not only the first 20; --json has all")
    _library_options(command)
    _json_option(command)


def _add_marks(adder: _Adder[Any]) -> None:
    favourite = _command(
        adder, "favourite", marks.favourite, "mark files as favourites, wherever their content lies, also during a run"
    )
    favourite.add_argument("files", metavar="FILE", nargs="+", type=_place, help="a file of the library")
    favourite.add_argument("--remove", action="store_true", help="take that back")
    saved = _command(adder, "saved", marks.saved, "list the questions that `arrowlens search --save NAME` kept")
    saved.add_argument("--forget", metavar="NAME", help="forget the question of that name")
    for command in (favourite, saved):
        _library_options(command)
        _json_option(command)


def _add_upkeep(adder: _Adder[Any]) -> None:
    show = _command(adder, "show", searching.show, "show what is known of a file, its texts with times")
    show.add_argument("file", metavar="FILE", type=Path, help="a file of the library")
    status = _command(adder, "status", commands.status, "show what the library holds, with which models")
    skipped = _command(adder, "skipped", commands.skipped, "list files that could not be read, and why")
    remove = _command(adder, "remove", commands.remove, "forget files or folders (the files themselves stay)")
    remove.add_argument(
        "paths", metavar="PATH", nargs="+", type=_place, help="a file, or a folder or prefix with all below it"
    )
    optimize = _command(adder, "optimize", commands.optimize, "compact the library's files")
    doctor = _command(adder, "doctor", commands.doctor, "check the library and say what to do about each problem")
    doctor.add_argument(
        "--vectors", metavar="N", type=_positive, default=50, help="stored vectors to search for (default: 50)"
    )
    doctor.add_argument(
        "--repair", action="store_true", help="first restore what is damaged, as far as possible, then check"
    )
    doctor.add_argument("--files", metavar="N", type=_positive, default=8, help="files to encode again (default: 8)")
    for command in (show, status, skipped, remove, optimize, doctor):
        _library_options(command)
        _json_option(command)


def _add_convert(adder: _Adder[Any]) -> None:
    command = _command(adder, "convert", commands.convert, "convert a Hugging Face checkpoint to a model directory")
    command.add_argument(
        "family",
        choices=tuple(family.command for family in FAMILIES),
        help=", ".join(f"{family.command} (encodes {', '.join(family.inputs)})" for family in FAMILIES),
    )
    command.add_argument("source", metavar="SOURCE", help="a Hugging Face id, or a folder with a checkpoint")
    command.add_argument("--output", metavar="DIR", type=_path, required=True, help="the model directory to write")
    command.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="float16",
        help="type of the weights (default: float16)",
    )
    command.add_argument(
        "--format",
        choices=("arrow", "parquet"),
        default="arrow",
        help="arrow is loaded without copying, parquet is for exchange (default: arrow)",
    )
    command.add_argument(
        "--no-verify", dest="verify", action="store_false", help="do not compare with the original model"
    )


def _add_models(adder: _Adder[Any]) -> None:
    command = _command(
        adder, "models", models.available, "list the model sets that are bundled, cached, or can be downloaded"
    )
    _json_option(command)
    commands_of_models = command.add_subparsers(title="commands", metavar="COMMAND")
    prepare = _command(
        commands_of_models,
        "prepare",
        models.prepare,
        "write the weights of models once more, in the type that this processor computes in, so that they load faster",
    )
    prepare.add_argument(
        "directories",
        metavar="DIR",
        nargs="*",
        type=_path,
        help="a model directory (default: each that was downloaded); `arrowlens convert` prepares what it converts, "
        "but not with `--format parquet`, and earlier versions did not",
    )
    use = _command(
        commands_of_models,
        "use",
        models.use,
        "encode a library again with other models; searches use the old ones until it is done",
    )
    use.add_argument(
        "models",
        metavar="SET",
        help="models to change to: a set of `arrowlens models`, roles alone, as in audio=DIR or audio=base, which "
        "leave the others as they are, or both, as in base,audio=DIR",
    )
    _library_options(use)
    use.add_argument("--workers", metavar="N", type=_positive, help="decoding workers (default: one a core)")
    _limit_options(use)
    _json_option(use)


def _add_evaluation(adder: _Adder[Any]) -> None:
    command = _command(adder, "eval", commands.evaluate, "measure how well models find your own captioned files")
    command.add_argument("folder", metavar="FOLDER", type=_path, help="paths in the list are relative to it")
    command.add_argument("pairs", metavar="PAIRS.csv", type=_path, help="a CSV file with the columns path and caption")
    command.add_argument(
        "--models",
        metavar="SET",
        help="models to measure: a set of `arrowlens models` (base is the default), or vision=DIR,audio=DIR",
    )
    command.add_argument(
        "--save-calibration",
        action="store_true",
        help="measure the models of the library (--library), and make its relevance by these files from now on",
    )
    _templates_option(command)
    _library_options(command)
    command.set_defaults(usual_library=command.get_default("library"), library=None)
    _json_option(command)


def _add_benchmark(adder: _Adder[Any]) -> None:
    command = _command(
        adder, "benchmark", benchmark, "measure how fast models are on this machine, and what bounds them"
    )
    command.add_argument(
        "--models",
        metavar="SET",
        default="demo",
        help="models to measure: a set of `arrowlens models` (demo is the default), or vision=DIR,audio=DIR",
    )
    command.add_argument(
        "--seconds", metavar="S", type=_amount, default=2.0, help="to repeat each thing (default: 2; some ten things)"
    )
    _model_options(command)
    _json_option(command)


def _add_ui(adder: _Adder[Any]) -> None:
    command = _command(adder, "ui", commands.ui, "search in the browser")
    _library_options(command)
    _replica_option(command)
    command.add_argument("--host", default=DEFAULT_HOST, help=f"address to listen on (default: {DEFAULT_HOST})")
    command.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help=f"port to listen on (default: {DEFAULT_PORT})"
    )
    command.add_argument(
        "--allowed-host",
        metavar="NAME",
        action="append",
        default=[],
        type=_host_name,
        help="a name that browsers reach this machine by, besides the address; may be given several times",
    )
    command.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy passes requests on: believe its X-Forwarded-For, X-Forwarded-Host and X-Forwarded-Proto",
    )
    password = command.add_argument_group(
        "password", "for other addresses than this machine's own"
    ).add_mutually_exclusive_group()
    password.add_argument(
        "--password-file", metavar="FILE", type=_path, help="ask for the password that --set-password put there"
    )
    password.add_argument(
        "--set-password", metavar="FILE", type=_path, help="ask for a new password now, keep its hash in FILE, and end"
    )
    password.add_argument("--no-auth", action="store_true", help="let everybody in who reaches the address")


def _add_mcp(adder: _Adder[Any]) -> None:
    command = _command(
        adder,
        "mcp",
        mcp_server.serve,
        "let assistants on this machine search a library (Model Context Protocol, over standard input and output); "
        "read-only (pip install 'arrowlens[mcp]')",
    )
    _library_options(command)
    _replica_option(command)


def _add_completion(adder: _Adder[Any]) -> None:
    command = _command(adder, "completion", completion, "print a script that completes commands and options in a shell")
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell that is to run it")
    command.set_defaults(build_parser=build_parser)


def _command(adder: _Adder[Any], name: str, run: commands.Command, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = adder.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n".join(("examples:", *(f"  {example}" for example in _EXAMPLES[name]))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run, parser=command, wrong_usage=command.error)
    return command


def _library_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--library",
        metavar="LIB",
        type=_library,
        default=_library(os.environ.get(LIBRARY_VARIABLE) or DEFAULT_LIBRARY),
        help=f"the library: a folder, or s3://BUCKET/PREFIX (default: ${LIBRARY_VARIABLE}, or {DEFAULT_LIBRARY} here)",
    )
    command.add_argument(
        "--storage-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=_storage_option,
        help="how to reach a library in a bucket, such as endpoint=http://localhost:9000, over the AWS_... variables; "
        "several may be given (put keys into the variables: other users see the command line)",
    )
    _model_options(command)


def _replica_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--no-replica",
        dest="replica",
        action="store_false",
        help="search a library in a bucket where it is, without copying what searches need into the cache folder",
    )


def _model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", help="where models run: cpu, cuda, mps, ... (default: the best there is)")
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="numbers that models compute with (default: auto, the fastest that loses nothing)",
    )


def _json_option(command: argparse._ActionsContainer) -> None:
    command.add_argument("--json", action="store_true", help="one JSON object on stdout, everything else on stderr")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _n_shards(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 256 or number.bit_count() != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a power of two from 1 to 256")
    return number


def _moment(text: str) -> float:
    """Seconds from the start of a file: 90, 1m30s or 1:30."""
    try:
        return values.seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time such as 90, 1m30s or 1:30") from None


def _path(text: str) -> Path:
    if scheme_of(text) is not None:
        raise argparse.ArgumentTypeError(f"{text!r} is not on this machine; name a file or folder here")
    return Path(text)


def _place(text: str) -> Path | str:
    return text if is_bucket(text) else _path(text)


def _file(text: str) -> str:
    _path(text)
    return text  # as it was typed: weights name it so


def _library(text: str) -> Path | str:
    return Path(text) if scheme_of(text) is None else text


def _storage_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):  # the text may hold a key: it is not shown
        raise argparse.ArgumentTypeError("a storage option is KEY=VALUE, such as endpoint=http://localhost:9000")
    return name, value


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return amount


def _byte_size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", text, re.IGNORECASE | re.ASCII)
    n_bytes = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if n_bytes < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500M or 2G")
    return n_bytes


def _sources(text: str) -> tuple[str, ...]:
    sources = tuple(filter(None, (part.strip().lower() for part in text.split(","))))
    if not sources or not set(sources) <= {*SOURCES}:
        raise argparse.ArgumentTypeError(f"{text!r} is not one or several of {', '.join(SOURCES)}, with commas")
    return sources


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a host, such as photos.example.org")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _weight(text: str) -> tuple[str, float]:
    part, _, number = text.rpartition("=")
    try:
        return part, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not PART=N, for example 'a dog=0.5'") from None


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty text finds nothing")
    return text
