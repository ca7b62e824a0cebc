"""The model families: one table that conversion, model sets, the command line and the provider read.

A new family is one encoder file here, one rename table in ``arrowlens.conversion`` and one row of ``FAMILIES``. Classes
and modules are named by strings and imported on first use, so that listing the families needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from arrowlens.errors import ModelLoadError
from arrowlens.modalities import AUDIO_WINDOWS, SAMPLE_RATE, Windows


@dataclass(frozen=True)
class ModelFamily:
    """A kind of model that Arrowlens converts and runs.

    Attributes:
        name: in the header of a model directory.
        command: the word after ``arrowlens convert``.
        role: what a model of the family is used for in a model set.
        inputs: what it encodes: image, audio, text.
        encoders: the encoder's ``module:class`` for each role that the model can take.
        converter: the module of ``arrowlens.conversion`` with the rename table (see ``conversion.family.Converter``).
        verified: what the family's vectors were compared with in our tests, for people.
        is_read_in_the_middle: whether libraries read the output of the middle layer instead of the last one's.
        sample_rate: of the recordings that it encodes, in Hz; None where it encodes none.
        windows: how libraries cut recordings for it.
        language: the only one that texts for its published models are in; None for several, and where it takes none.
        templates: what the name of a thing is put into when it is asked for, "{}" standing for it: those of which the
            makers published that they find better. None for a family that they do not help.
    """

    name: str
    command: str
    role: str
    inputs: tuple[str, ...]
    encoders: Mapping[str, str]
    converter: str
    verified: str
    is_read_in_the_middle: bool = False
    sample_rate: int | None = None
    windows: Windows = AUDIO_WINDOWS
    language: str | None = None
    templates: tuple[str, ...] = ()

    @property
    def takes_text(self) -> bool:
        """Whether it encodes texts, into the space of all that it encodes."""
        return "text" in self.inputs

    def encoder(self, role: str | None = None) -> Any:  # noqa: ANN401 - each family's own class
        """The encoder class for a role, by default the family's own role. Imports torch."""
        module, name = self.encoders[role or self.role].split(":")
        return getattr(import_module(module), name)


FAMILIES = (
    ModelFamily(
        name="clip",
        command="clip",
        role="vision",
        inputs=("image", "text"),
        encoders={
            "vision": "arrowlens.encoders.clip:CLIPEngine",
            "pooled_vision": "arrowlens.encoders.vision:VisionEncoder",  # not projected, only when asked for
        },
        converter="arrowlens.conversion.clip",
        verified="random weights against transformers' CLIPModel, also from OpenCLIP's files",
        language="English",
        templates=(  # the seven of OpenAI's "Prompt Engineering for ImageNet" that do as well as its eighty
            "itap of a {}.",
            "a bad photo of the {}.",
            "a origami {}.",
            "a photo of the large {}.",
            "a {} in a video game.",
            "art of the {}.",
            "a photo of the small {}.",
        ),
    ),
    ModelFamily(
        name="siglip",
        command="siglip",
        role="vision",
        inputs=("image", "text"),
        encoders={"vision": "arrowlens.encoders.siglip:SiglipEngine"},
        converter="arrowlens.conversion.siglip",
        verified="random weights against transformers' SiglipModel, also from OpenCLIP's files",
    ),
    ModelFamily(
        name="whisper",
        command="whisper",
        role="audio",
        inputs=("audio",),
        encoders={"audio": "arrowlens.encoders.audio:AudioEncoder"},
        converter="arrowlens.conversion.whisper",
        verified="whisper-base's own weights and random ones against transformers' WhisperModel",
        is_read_in_the_middle=True,
        sample_rate=SAMPLE_RATE,
    ),
    ModelFamily(
        name="clap",
        command="clap",
        role="audio",
        inputs=("audio", "text"),
        encoders={"audio": "arrowlens.encoders.clap:ClapEncoder"},
        converter="arrowlens.conversion.clap",
        verified="random weights against transformers' ClapModel",
        language="English",
        sample_rate=48_000,
        windows=Windows(10.0, 5.0, is_maximum=True),
        templates=("This is a sound of {}.",),  # LAION's own for zero-shot classification
    ),
    ModelFamily(
        name="bert",
        command="text",
        role="text",
        inputs=("text",),
        encoders={"text": "arrowlens.encoders.text:TextEncoder"},
        converter="arrowlens.conversion.bert",
        verified="MiniLM's own weights and random ones against transformers' BertModel",
    ),
)
FAMILY_NAMES = tuple(family.name for family in FAMILIES)
COMMANDS = tuple(family.command for family in FAMILIES)
ROLES = tuple(dict.fromkeys(family.role for family in FAMILIES))  # of model sets, without the roles only when asked
ENCODER_ROLES = tuple(dict.fromkeys([*ROLES, *(role for family in FAMILIES for role in family.encoders)]))


def family_named(name: str) -> ModelFamily:
    """The family with that name in model headers.

    Raises:
        KeyError: there is none.
    """
    return {family.name: family for family in FAMILIES}[name]


def family_for(role: str, name: str, path: Path) -> ModelFamily:
    """The family of a model directory, if its models can take a role.

    Args:
        role: one of ``ENCODER_ROLES``.
        name: the family in the directory's header.
        path: the directory, for the message.

    Raises:
        ModelLoadError: they cannot; the message says which families can.
    """
    family = family_named(name)
    if role not in family.encoders:
        commands = " or ".join(f"'arrowlens convert {other.command}'" for other in FAMILIES if role in other.encoders)
        raise ModelLoadError(f"{role}={path} holds a {name} model; {role} needs one made by {commands}")
    return family
