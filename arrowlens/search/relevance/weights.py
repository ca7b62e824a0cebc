"""What ``training/fit_relevance.py`` found, and the models that it found it with; it writes this file."""

from __future__ import annotations

FITTED_WITH = {
    "vision": "858528353797ee0a9eb49f83c3165ba227a48f4517c542dffa9baa91da166880",
    "audio": "991c07194576c8db9c03babf302e2514009c04d07cab89cc7893c8d24d36961d",
}
WEIGHTS = {
    "text to image": (2.976, -0.729, -7.776),
    "text to audio": (3.365, -0.589, -9.477),
    "image to image": (2.296, -0.751, -4.347),
    "audio to audio": (3.09, -0.976, -9.388),
}
