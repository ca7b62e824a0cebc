"""What ``training/fit_relevance.py`` found, and the models that it found it with; it writes this file."""

from __future__ import annotations

FITTED_WITH = {
    "clip": "858528353797ee0a9eb49f83c3165ba227a48f4517c542dffa9baa91da166880",
    "audio": "312372b04ff0e5496bcf2a4df7b16681afecdd7d92509d20a19f3f454db584fb",
}
WEIGHTS = {
    "text to image": (2.976, -0.729, -7.776),
    "text to audio": (2.977, -0.734, -7.198),
    "image to image": (2.296, -0.751, -4.347),
    "audio to audio": (3.948, -0.659, -9.22),
}
