"""The command line as documented; wrong usage ends with status 2 before anything is opened."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from arrowlens.cli import commands, main, models, searching
from arrowlens.cli.duplicates import duplicates
from arrowlens.cli.parser import build_parser

DOCUMENTED = {
    "ingest FOLDER FOLDER2 --library DIR --models demo --workers 2 --no-prune --json": commands.ingest,
    "ingest FOLDER --retry --exact --max-megapixels 60 --max-hours 0.5 --max-file-size 2G": commands.ingest,
    "ingest FOLDER --time-limit 30 --dry-run --json": commands.ingest,
    "search TEXT --library DIR -k 20 --json": searching.search,
    "search TEXT --plus TEXT2 --minus TEXT3 --like FILE --weight TEXT2=0.5 --modality image": searching.search,
    "search --unlike FILE --kind audio --mode vector": searching.search,
    "search --like FILE --where width>=1000 --where kind=image --sort date --page 2": searching.search,
    "search TEXT --offset 40 --group folder --collapse": searching.search,
    "similar FILE --where width>=1000 --sort relevance --offset 0 --group day --collapse": searching.similar,
    "similar FILE --library DIR -k 20 --json": searching.similar,
    "duplicates --library DIR --kind identical --kind copy --kind near --json": duplicates,
    "status --library DIR --json": commands.status,
    "skipped --library DIR --json": commands.skipped,
    "remove PATH PATH2 --library DIR --json": commands.remove,
    "optimize --library DIR --json": commands.optimize,
    "doctor --library DIR --vectors 100 --files 20 --json": commands.doctor,
    "convert clip SOURCE --output DIR --dtype float16 --format arrow --no-verify": commands.convert,
    "convert whisper SOURCE --output DIR --dtype bfloat16 --format parquet": commands.convert,
    "convert text SOURCE --output DIR --dtype float32": commands.convert,
    "models --json": models.available,
    "models use vision=A,audio=B --library DIR --workers 2 --max-megapixels 300 --device cpu --json": models.use,
    "ui --library DIR --host 127.0.0.1 --port 8501": commands.ui,
    "ui --host 0.0.0.0 --password-file FILE --allowed-host a.example --allowed-host 192.0.2.7": commands.ui,
    "ui --host 0.0.0.0 --no-auth": commands.ui,
    "ui --password-file FILE --behind-proxy": commands.ui,
    "ui --set-password FILE": commands.ui,
}


@pytest.mark.parametrize("line", DOCUMENTED)
def test_documented_commands_parse(line):
    assert build_parser().parse_args(line.split()).run is DOCUMENTED[line]


@pytest.mark.parametrize(
    "command", ["ingest F", "search T", "similar F", "duplicates", "status", "skipped", "remove P", "optimize", "ui"]
)
def test_common_options_of_everything_that_opens_a_library(command):
    options = build_parser().parse_args([*command.split(), "--device", "cpu", "--precision", "float32"])
    assert (options.device, options.precision) == ("cpu", "float32")


def test_defaults():
    options = build_parser().parse_args(["search", "x"])
    assert (options.k, options.json, options.device, options.precision) == (20, False, None, "auto")
    options = build_parser().parse_args(["ingest", "x"])
    assert (options.models, options.workers, options.prune) == (None, None, None)
    options = build_parser().parse_args(["ui"])
    assert (options.host, options.port) == ("127.0.0.1", 8501)
    assert (options.allowed_host, options.password_file, options.no_auth) == ([], None, False)
    assert not options.behind_proxy
    options = build_parser().parse_args(["convert", "clip", "x", "--output", "y"])
    assert (options.dtype, options.format, options.verify) == ("float16", "arrow", True)


def test_the_library_is_the_option_then_the_variable_then_here(monkeypatch):
    monkeypatch.delenv("ARROWLENS_LIBRARY", raising=False)
    assert build_parser().parse_args(["status"]).library == Path(".arrowlens")
    monkeypatch.setenv("ARROWLENS_LIBRARY", "/elsewhere")
    assert build_parser().parse_args(["status"]).library == Path("/elsewhere")
    assert build_parser().parse_args(["status", "--library", "/given"]).library == Path("/given")


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "search x --page 0",
        "search x --page 2 --offset 20",
        "search x --offset -1",
        "search x --weight x",
        "search x --weight x=y",
        "search x --kind film",
        "search x --mode fuzzy",
        "search x --sort name",
        "search x --group camera",
        "search x --minus",
        "search x -k 0",
        "search x -k -3",
        "search x -k many",
        "search x -k 2.5",
        "similar",
        "ingest",
        "ingest x --workers 0",
        "ingest x --max-megapixels 0",
        "ingest x --max-hours nan",
        "ingest x --max-hours many",
        "ingest x --time-limit inf",
        "ingest x --max-file-size 2X",
        "ingest x --max-file-size 0",
        "ingest x --max-file-size -1",
        "ingest x --max-file-size ٣",
        "remove",
        "status --precision double",
        "status --lib x",
        "convert clip x",
        "convert vision x --output y",
        "convert clip x --output y --dtype int8",
        "ui --port 0",
        "ui --port 70000",
        "ui --allowed-host http://a.example",
        "ui --no-auth --password-file FILE",
    ],
)
def test_wrong_usage_ends_with_2(line, capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(line.split())
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (message,) = captured.err.splitlines()
    assert message.startswith("arrowlens")
    assert message.endswith(" --help` shows how it is used")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("seach x", "arrowlens: error: argument COMMAND: invalid choice 'seach'; did you mean 'search'?"),
        ("models uze base", "arrowlens models: error: argument COMMAND: invalid choice 'uze'; did you mean 'use'?"),
        ("search x --modlity=image", "search: error: unknown argument '--modlity=image'; did you mean '--modality'?"),
        ("search x --mode vectr", "argument --mode: invalid choice 'vectr'; did you mean 'vector'?"),
        ("search x --sort alphabetically", "invalid choice 'alphabetically'; choose from relevance, date;"),
        ("status --xyz", "arrowlens status: error: unknown argument '--xyz'; `arrowlens status --help`"),
    ],
)
def test_what_may_be_meant_is_asked(line, meant, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(line.split())
    assert meant in capsys.readouterr().err


def test_the_bare_command_shows_its_help(capsys):
    assert main([]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (build_parser().format_help(), "")
    done = subprocess.run([sys.executable, "-m", "arrowlens", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("arrowlens ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_commands_options_and_files(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in ("duplicates", "--modality", "ingest"))
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        ask = f"{script}\nCOMP_WORDS=(arrowlens sim); COMP_CWORD=1; _shtab_arrowlens; echo ${{COMPREPLY[*]}}"
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["similar"]
        files = [
            line for line in script.splitlines() if "_shtab_compgen_files" in line or "_shtab_compgen_file" in line
        ]
        takers = " ".join(files)
        assert all(name in takers for name in ("ingest_pos_0", "duplicates___not_duplicate", "similar_pos_0")), takers


def test_a_search_for_nothing_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["search"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main(["search", "--where", "width >= 1000", "--collapse"])
    assert ended.value.code == 2
    assert "--collapse goes with something to look for" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["search", "-k", "3"])
    assert ended.value.code == 2
    assert "say what to look for" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["search x", "similar x.jpg"])
def test_a_mistyped_condition_is_one_line(command, capsys):
    assert main([*command.split(), "--where", "colour = red", "--library", "/missing"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("arrowlens: 'colour' is no column to filter by; there are path, name, folder, modality")


def test_parts_keep_their_order_and_weights():
    line = ["search", "a", "cat", "--plus", "b", "--plus", "c d", "--weight", "a=b=0.5", "--weight", "c d=2"]
    options = build_parser().parse_args(line)
    assert (options.text, options.plus, options.weight) == (["a", "cat"], ["b", "c d"], [("a=b", 0.5), ("c d", 2.0)])


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_text_is_wrong_usage(text, capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["search", text])
    assert ended.value.code == 2
    assert "an empty text finds nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("1", 1), ("800", 800), ("2k", 2048), ("500M", 500 << 20), ("1.5 GB", 3 << 29), ("1TiB", 1 << 40)],
)
def test_sizes_of_files(text, n_bytes):
    assert build_parser().parse_args(["ingest", "x", "--max-file-size", text]).max_file_size == n_bytes


def parsers(parser, name="arrowlens"):
    """A parser and those of its commands, by name."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, its in action.choices.items():
                yield from parsers(its, f"{name} {command}")


def test_the_help_of_prepare_says_which_models_need_it():
    text = " ".join(dict(parsers(build_parser()))["arrowlens models prepare"].format_help().split())
    assert "`arrowlens convert` prepares what it converts, but not with `--format parquet`, and earlier" in text


@pytest.mark.parametrize(("name", "command"), list(parsers(build_parser())))
def test_every_option_has_a_help_text_and_every_command_an_example(name, command):
    without = [action for action in command._actions if not action.help and action.metavar != "COMMAND"]
    assert [action.dest for action in without] == []
    if name != "arrowlens":
        examples = [line.strip() for line in command.epilog.splitlines()[1:]]
        assert examples
        for example in examples:
            assert example.startswith(name)
            build_parser().parse_args(shlex.split(example)[1:])
