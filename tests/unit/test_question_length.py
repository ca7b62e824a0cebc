"""How long a question may be: in Python, on the command line, and in the address of the page."""

from __future__ import annotations

import pytest

from arrowlens.cli import main
from arrowlens.errors import InputError, TextValidationError
from arrowlens.search.query import MAX_PARTS, MAX_TEXT, Query
from arrowlens.ui.search_state import Question


@pytest.mark.parametrize("name", ["text", "plus", "minus"])
def test_a_text_has_a_length(name):
    text = "x" * MAX_TEXT
    Query(**{name: text if name == "text" else (text,)})
    with pytest.raises(TextValidationError, match="the text has 10,001 characters; shorten it, 10,000 are allowed"):
        Query(**{name: f"{text}x" if name == "text" else (f"{text}x",)})


def test_a_question_has_so_many_parts():
    Query("x", plus=("x",) * (MAX_PARTS - 1))
    with pytest.raises(InputError, match="the question has 101 parts; leave out some, 100 are allowed"):
        Query("x", plus=("x",) * 60, minus=("y",) * 40)


def test_a_message_does_not_repeat_what_is_long():
    with pytest.raises(TextValidationError) as refused:
        Query(" " * 1_000_000)
    assert len(str(refused.value)) < 200


def test_the_command_says_so_in_a_line(tmp_path, capsys):
    from arrowlens import Library

    Library.open(tmp_path / "a.lens", models="demo").close()
    assert main(["search", "x" * 10_001, "--library", str(tmp_path / "a.lens")]) != 0
    assert capsys.readouterr().err.strip().endswith("the text has 10,001 characters; shorten it, 10,000 are allowed")


@pytest.mark.parametrize("params", [{"q": ["x" * 10_001]}, {"less": ["x" * 10_001]}, {"more": ["x"] * 101}])
def test_an_address_has_a_length(params):
    with pytest.raises(InputError, match=r"^(a text of )?the question has more than 10[0,]"):
        Question.from_params(params)
