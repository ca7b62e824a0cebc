"""Synthetic animals and speech: a function of the dice and the seconds for each kind."""

from __future__ import annotations

import io
import subprocess

import numpy as np
import soundfile
import soxr
from waves import (
    RATE,
    Dice,
    Wave,
    band,
    clock,
    curve,
    fade,
    formants,
    hold,
    noise,
    oscillate,
    place,
    regular,
    samples,
    slow,
    struck,
)

LANGUAGES = ("en-gb", "en-us", "de", "fr", "es", "it", "pt", "nl", "sv", "pl", "cs", "tr", "fi", "ro", "hu", "el")
VOICES = ("m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f3", "f4", "croak", "whisper")
SENTENCES = (
    "good morning, how are you today", "the train leaves at seven in the evening", "please close the window",
    "we walked along the river until it was dark", "one two three four five six seven", "the weather will be fine",
    "could you tell me the way to the station", "she bought apples, bread and a bottle of milk",
    "nobody knows what happened that night", "my brother lives in a small house by the sea",
    "la casa es grande y el jardin es verde", "das ist eine gute idee, meine freunde",
    "je voudrais une tasse de cafe", "domani andiamo tutti al mare", "remember to call me back tomorrow",
    "there are many kinds of birds in the forest",
)  # fmt: skip


def birdsong(dice: Dice, seconds: float) -> Wave:
    """Phrases of fast, high glides."""
    base, spread, length = dice.log(2000, 4800), dice(0.1, 0.45), dice(0.04, 0.16)
    phrase = [(float(dice.rng.uniform(-1, 1)), float(dice.rng.uniform(-1, 1))) for _ in range(int(dice(3, 9)))]
    times, start = [], float(dice.rng.random() * 0.3)
    while start < seconds:
        times.append(start)
        start += len(phrase) * length * 1.25 + dice(0.2, 0.9)
    wave = np.zeros(samples(seconds))
    for start in times:
        for number, (a, b) in enumerate(phrase):
            count = samples(length)
            note = oscillate(base * 2 ** (spread * curve((a, b, a * 0.5), count)), count) * np.hanning(count)
            wave += place(len(wave), [start + number * length * 1.25], lambda n=note: n)  # type: ignore[misc]
    return wave


def frogs(dice: Dice, seconds: float) -> Wave:
    """Croaks: trains of low, resonant pulses."""
    resonance, pulses, length = dice(450, 1300), dice(18, 45), dice(0.2, 0.5)

    def croak() -> Wave:
        count = samples(length)
        ticks = np.arange(0, length, 1 / (pulses * dice.jitter(0.05))).tolist()
        modes = [(resonance, 1, 0.008), (resonance * 2.1, 0.4, 0.006)]
        return place(count, ticks, lambda: struck(samples(0.05), modes)) * np.hanning(count)

    return place(samples(seconds), regular(dice, seconds, length + dice(0.15, 0.7), 0.3), croak)


def crickets(dice: Dice, seconds: float) -> Wave:
    """Very high chirps, pulsed."""
    count, pitch, rate, pulses = samples(seconds), dice(3800, 6000), dice(1.5, 3.5), dice(25, 50)
    gate = (np.sin(2 * np.pi * rate * clock(count) + dice.rng.random() * 6) > dice(-0.3, 0.4)).astype(float)
    pulse = np.maximum(0, np.sin(2 * np.pi * pulses * clock(count)))
    return oscillate(pitch, count) * pulse * np.convolve(gate, np.ones(160) / 160, "same") + 0.02 * band(
        dice, count, 3000, 7500
    )


def bee(dice: Dice, seconds: float) -> Wave:
    """A buzz that drifts in pitch and strength."""
    count, pitch = samples(seconds), dice(160, 420)
    bend = pitch * slow(dice, count, 4, 0.92, 1.08)
    buzz = oscillate(bend, count, [k**-0.5 for k in range(1, 20)])
    return formants(buzz, ((900, 500), (2600, 900))) * slow(dice, count, 2, 0.25, 1)


def dog(dice: Dice, seconds: float) -> Wave:
    """Barks."""
    pitch, length, gap = dice.log(200, 650), dice(0.1, 0.22), dice(0.3, 0.8)

    def bark() -> Wave:
        count = samples(length * dice.jitter(0.15))
        bend = pitch * curve((0.7, 1.35, 1.0, 0.6), count) * dice.jitter(0.06)
        voice = oscillate(bend, count, [k**-0.5 for k in range(1, 18)])
        rough = voice * (1 + 0.5 * band(dice, count, 30, 120, 1)) + 0.4 * band(dice, count, 500, 3500, 1)
        return formants(rough, ((pitch * 2.6, 250), (1500, 400), (2600, 500))) * fade(count, 0.015, length * 0.5)

    return place(samples(seconds), regular(dice, seconds, gap, 0.3), bark)


def cat(dice: Dice, seconds: float) -> Wave:
    """Meows: a voice that rises, opens and falls."""
    pitch, length = dice.log(380, 750), dice(0.5, 1.0)

    def meow() -> Wave:
        count = samples(length * dice.jitter(0.15))
        bend = pitch * curve((0.85, 1.2, 1.25, 1.1, 0.75), count)
        voice = oscillate(bend, count, [k**-0.8 for k in range(1, 14)])
        closed, opened = (formants(voice, peaks) for peaks in (((700, 200), (2600, 500)), ((1400, 350), (2300, 500))))
        mouth = curve((0, 0.6, 1, 0.6, 0), count)
        return (closed * (1 - mouth) + opened * mouth) * hold(count, 0.12)

    return place(samples(seconds), regular(dice, seconds, length + dice(0.4, 1.1), 0.2), meow)


def cow(dice: Dice, seconds: float) -> Wave:
    """Moos: long and low."""
    pitch, length = dice(85, 170), dice(1.0, 1.9)

    def moo() -> Wave:
        count = samples(length)
        bend = pitch * curve((0.8, 1.0, 1.12, 1.1, 0.85), count)
        voice = oscillate(bend, count, [k**-0.6 for k in range(1, 30)])
        return formants(voice, ((320, 120), (750, 200), (2200, 400))) * hold(count, 0.2)

    return place(samples(seconds), regular(dice, seconds, length + dice(0.3, 0.8), 0.2), moo)


def owl(dice: Dice, seconds: float) -> Wave:
    """Soft hoots: hoo, hoo-hoo."""
    pitch, call = dice(280, 480), dice.pick(((0, 0.6, 0.85), (0, 0.45), (0, 0.35, 0.6, 1.0), (0, 0.3, 0.9), (0,)))

    def hoot() -> Wave:
        count = samples(0.28)
        return (
            oscillate(pitch * curve((0.95, 1.05, 0.97), count), count, (1, 0.12)) + 0.02 * band(dice, count, 200, 900)
        ) * np.hanning(count)

    starts = regular(dice, seconds, max(call) + dice(0.8, 1.6), 0.1)
    return place(samples(seconds), [start + step for start in starts for step in call], hoot)


def speech(dice: Dice, seconds: float) -> Wave:
    """espeak-ng reading, in many voices and languages; some of both are kept for the evaluation.

    Raises:
        FileNotFoundError: espeak-ng is not installed.
        subprocess.CalledProcessError: espeak-ng failed.
    """
    voice = f"{dice.pick(LANGUAGES)}+{dice.pick(VOICES)}"
    settings = ["-v", voice, "-s", str(round(dice(120, 210))), "-p", str(round(dice(20, 80)))]
    text = ". ".join(dice.pick(SENTENCES) for _ in range(1 + int(seconds / 2)))
    done = subprocess.run(["espeak-ng", *settings, "--stdout", text], capture_output=True, check=True)
    wave, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float64")
    wave = np.asarray(soxr.resample(wave, rate, RATE), dtype=np.float64)
    start = int(dice.rng.random() * max(1, len(wave) - samples(seconds)))
    return wave[start : start + samples(seconds)] + 1e-4 * noise(
        dice, min(samples(seconds), len(wave) - start), np.ones_like
    )
