"""What ``training/fit_relevance.py`` found, and the models that it found it with; it writes this file."""

from __future__ import annotations

FITTED_WITH = {
    "clip": "858528353797ee0a9eb49f83c3165ba227a48f4517c542dffa9baa91da166880",
    "audio": "7a2258adc90086083d5bdbc4d1f3f240eb9038ec9ed24c711e152a6940a3fbe7",
}
WEIGHTS = {
    "text to image": (2.976, -0.729, -7.776),
    "text to audio": (3.252, -0.594, -9.097),
    "image to image": (2.296, -0.751, -4.347),
    "audio to audio": (3.178, -0.963, -9.785),
}
