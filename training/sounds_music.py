"""Synthetic instruments, bells, signals and alarms: a function of the dice and the seconds for each kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
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
    oscillate,
    place,
    plucked,
    regular,
    samples,
    slow,
    struck,
)

SCALE = (0, 2, 4, 5, 7, 9, 11, 12, 14, 16)


def _melody(
    dice: Dice, seconds: float, gap: float, note: Callable[[float, float], Wave], low: float, high: float
) -> Wave:
    """Notes of a scale one after the other: `note(frequency, seconds)`."""
    root = dice.log(low, high)
    lengths = [gap * float(dice.rng.choice((0.5, 1, 1, 2))) for _ in range(int(seconds / gap * 2) + 1)]
    wave, time = np.zeros(samples(seconds)), 0.0
    for length in lengths:
        start = int(time * RATE)
        if start >= len(wave):
            break
        played = note(root * 2 ** (float(dice.rng.choice(SCALE)) / 12), length)[: len(wave) - start]
        wave[start : start + len(played)] += played
        time += length
    return wave


def tone(dice: Dice, seconds: float) -> Wave:
    """A steady sine."""
    count = samples(seconds)
    return oscillate(dice.log(150, 4000), count) * hold(count)


def organ(dice: Dice, seconds: float) -> Wave:
    """A held chord of rich tones."""
    count, root = samples(seconds), dice.log(90, 350)
    chord = dice.pick(((0, 4, 7), (0, 3, 7), (0, 5, 9), (0, 4, 7, 11), (0, 7, 12), (0, 3, 8)))
    stops = [1, dice(0.3, 0.9), dice(0.2, 0.6), dice(0.2, 0.6), 0.1, dice(0.1, 0.4), 0.05, 0.2]
    return sum((oscillate(root * 2 ** (step / 12), count, stops) for step in chord), np.zeros(count)) * hold(
        count, 0.08
    )


def _sweep(dice: Dice, seconds: float, rising: bool) -> Wave:
    low, octaves = dice.log(120, 700), dice(1.2, 3.2)
    length = dice(0.7, 2.5)
    ends = (0.0, octaves) if rising else (octaves, 0.0)

    def once() -> Wave:
        count = samples(length)
        return oscillate(low * 2 ** curve(ends, count), count, (1, 0.2)) * hold(count)

    return place(samples(seconds), regular(dice, seconds, length + 0.25), once)


def rising_sweep(dice: Dice, seconds: float) -> Wave:
    """Tones going up."""
    return _sweep(dice, seconds, True)


def falling_sweep(dice: Dice, seconds: float) -> Wave:
    """Tones going down."""
    return _sweep(dice, seconds, False)


def church_bell(dice: Dice, seconds: float) -> Wave:
    """A large bell tolling."""
    root, decay = dice.log(130, 420), dice(1.0, 3.0)
    ratios = (0.5, 1.0, 1.19, 1.5, 2.0, 2.74, 3.0, 3.76, 4.07)
    modes = [(root * r * dice.jitter(0.01), 1 / (1 + 0.4 * i), decay / (0.6 + 0.4 * i)) for i, r in enumerate(ratios)]
    return place(samples(seconds), regular(dice, seconds, dice(0.9, 2.2), 0.05), lambda: struck(samples(4.0), modes))


def doorbell(dice: Dice, seconds: float) -> Wave:
    """Ding dong."""
    high, drop, gap = dice.log(550, 900), dice(0.74, 0.86), dice(0.35, 0.7)
    wave = np.zeros(samples(seconds))
    for time in regular(dice, seconds, gap + dice(1.2, 2.2)):
        for delay, frequency in ((0.0, high), (gap, high * drop)):
            modes = [(frequency, 1, 0.6), (frequency * 2.01, 0.3, 0.3), (frequency * 4.1, 0.15, 0.1)]
            wave += place(len(wave), [time + delay], lambda modes=modes: struck(samples(2.0), modes))  # type: ignore[misc]
    return wave


def bicycle_bell(dice: Dice, seconds: float) -> Wave:
    """A small bell rung quickly."""
    root, rate, decay = dice.log(1800, 3300), dice(9, 18), dice(0.15, 0.4)
    modes = [(root, 1, decay), (root * 1.51, 0.6, decay * 0.7), (root * 2.1, 0.4, decay * 0.5)]
    burst = dice(0.4, 0.9)
    times = [
        start + k / rate for start in regular(dice, seconds, burst + dice(0.4, 1.0)) for k in range(int(burst * rate))
    ]
    return place(samples(seconds), times, lambda: dice.jitter(0.4) * struck(samples(0.8), modes))


def guitar(dice: Dice, seconds: float) -> Wave:
    """Plucked strings, one by one or in chords."""
    damping = dice(0.991, 0.998)
    if dice.chance(0.4):
        root = dice.log(80, 200)
        chord = [
            root * 2 ** (step / 12) for step in dice.pick(((0, 7, 12, 16), (0, 7, 12, 15), (0, 5, 9, 12), (0, 4, 9)))
        ]

        def strum() -> Wave:
            wave = np.zeros(samples(2.0))
            for number, frequency in enumerate(chord):
                wave += place(len(wave), [0.02 * number], lambda f=frequency: plucked(dice, f, 2.0, damping))  # type: ignore[misc]
            return wave

        return place(samples(seconds), regular(dice, seconds, dice(0.4, 1.1), 0.05), strum)
    return _melody(dice, seconds, dice(0.2, 0.5), lambda f, _: plucked(dice, f, 1.5, damping), 80, 260)


def piano(dice: Dice, seconds: float) -> Wave:
    """Struck strings."""
    bright = dice(0.35, 0.65)

    def note(frequency: float, length: float) -> Wave:
        stretch = 0.0004
        modes = [
            (frequency * k * np.sqrt(1 + stretch * k * k), bright ** (k - 1), 1.1 / (1 + 0.5 * k)) for k in range(1, 9)
        ]
        thump = 0.15 * band(dice, samples(0.04), 80, 900) * fade(samples(0.04), 0.001, 0.01)
        wave = struck(samples(max(0.6, length * 1.8)), modes, 0.004)
        wave[: len(thump)] += thump
        return wave

    return _melody(dice, seconds, dice(0.2, 0.5), note, 130, 520)


def flute(dice: Dice, seconds: float) -> Wave:
    """Breathy, nearly pure tones with vibrato."""
    vibrato, breath = dice(4, 6.5), dice(0.03, 0.12)

    def note(frequency: float, length: float) -> Wave:
        count = samples(length * 0.95)
        bend = frequency * (1 + 0.008 * np.sin(2 * np.pi * vibrato * clock(count)))
        air = band(dice, count, frequency * 0.9, frequency * 2.5) * breath
        return (oscillate(bend, count, (1, 0.25, 0.1, 0.03)) + air) * hold(count, 0.05)

    return _melody(dice, seconds, dice(0.3, 0.8), note, 400, 800)


def violin(dice: Dice, seconds: float) -> Wave:
    """Bowed strings: saw-like tones with vibrato and body resonances."""
    vibrato, slope = dice(4.5, 7), dice(0.7, 1.1)
    partials = [k**-slope for k in range(1, 18)]

    def note(frequency: float, length: float) -> Wave:
        count = samples(length)
        bend = frequency * (1 + 0.012 * np.sin(2 * np.pi * vibrato * clock(count)))
        bow = 0.03 * band(dice, count, 1500, 6000)
        return (oscillate(bend, count, partials) + bow) * hold(count, 0.09)

    wave = _melody(dice, seconds, dice(0.4, 1.0), note, 110, 420)
    return formants(wave, ((290, 120), (480, 150), (1000, 300), (2600, 700)))


def trumpet(dice: Dice, seconds: float) -> Wave:
    """Brass: many partials that grow with the attack."""
    bright = dice(0.72, 0.9)

    def note(frequency: float, length: float) -> Wave:
        count = samples(length * 0.9)
        dull = oscillate(frequency, count, [0.5 ** (k - 1) for k in range(1, 10)])
        sharp = oscillate(frequency, count, [bright ** (k - 1) for k in range(1, 14)])
        grown = np.minimum(1, clock(count) / 0.12)
        return np.asarray((dull * (1 - grown) + sharp * grown) * hold(count, 0.03))

    return formants(_melody(dice, seconds, dice(0.2, 0.6), note, 180, 400), ((1200, 500), (2400, 900)))


def xylophone(dice: Dice, seconds: float) -> Wave:
    """Struck bars: short, with partials at 4 and 10 times the pitch, or at 3 and 6."""
    decay, ratios = dice(0.12, 0.45), dice.pick(((1, 3.98, 10.1), (1, 3.0, 6.1), (1, 2.76, 5.4), (1, 4.2, 9.0)))

    def note(frequency: float, _: float) -> Wave:
        modes = [(frequency * r, 1 / (1 + i), decay / (1 + i)) for i, r in enumerate(ratios)]
        return struck(samples(decay * 4), modes, 0.001)

    return _melody(dice, seconds, dice(0.15, 0.35), note, 500, 1100)


def choir(dice: Dice, seconds: float) -> Wave:
    """Several voices on a vowel."""
    count, root = samples(seconds), dice.log(110, 330)
    vowel = dice.pick(((700, 1150, 2600), (400, 800, 2600), (300, 2200, 2900), (550, 1800, 2500), (640, 1200, 2400)))
    steps = dice.pick(((0,), (0, 4, 7), (0, 7), (0, 3, 7), (0, 12), (0, 5)))
    partials = [k**-0.9 for k in range(1, 25)]
    wave = np.zeros(count)
    for step in steps * 2:
        bend = 1 + 0.012 * np.sin(2 * np.pi * dice(4.5, 6.5) * clock(count) + dice.rng.random() * 6)
        drift = slow(dice, count, 1.5, 0.995, 1.005)
        wave += oscillate(root * 2 ** (step / 12) * bend * drift, count, partials)
    return formants(wave, [(peak, 90) for peak in vowel]) * hold(count, 0.2)


def drums(dice: Dice, seconds: float) -> Wave:
    """A beat of kick, snare and hi-hat."""
    beat, low, tight = dice(0.28, 0.6), dice(45, 85), dice(0.05, 0.14)

    def kick() -> Wave:
        count = samples(0.35)
        return 1.2 * oscillate(low * (1 + 2 * np.exp(-clock(count) / 0.03)), count) * fade(count, 0.002, 0.12)

    def snare() -> Wave:
        count = samples(0.25)
        return 0.4 * band(dice, count, 600, 6500) * fade(count, 0.001, tight) + 0.4 * struck(count, [(190, 1, 0.06)])

    def hat() -> Wave:
        count = samples(0.1)
        return 0.2 * band(dice, count, 5000, 8000) * fade(count, 0.001, 0.025)

    count, start = samples(seconds), float(dice.rng.random() * 0.2)
    beats = np.arange(start, seconds, beat)
    wave = place(count, beats[::2].tolist(), kick) + place(count, beats[1::2].tolist(), snare)
    return wave + place(count, np.arange(start, seconds, beat / 2).tolist(), hat)


def _beeps(dice: Dice, seconds: float, frequency: float, on: float, off: float, partials: tuple[float, ...]) -> Wave:
    def beep() -> Wave:
        count = samples(on)
        return oscillate(frequency, count, partials) * hold(count, 0.004)

    return place(samples(seconds), regular(dice, seconds, on + off), beep)


def fire_alarm(dice: Dice, seconds: float) -> Wave:
    """Loud high three-beep patterns or a fast warble, rich in partials."""
    frequency = dice.log(2300, 3600)
    count = samples(seconds)
    if dice.chance(0.5):
        warble = frequency * (1 + dice(0.05, 0.12) * np.sign(np.sin(2 * np.pi * dice(6, 14) * clock(count))))
        return oscillate(warble, count, (1, 0, 0.3)) * hold(count)
    pattern = [start + 0.65 * k for start in regular(dice, seconds, 2.9) for k in range(3)]
    return place(count, pattern, lambda: oscillate(frequency, samples(0.5), (1, 0.4, 0.2)) * hold(samples(0.5)))


def alarm_clock(dice: Dice, seconds: float) -> Wave:
    """Groups of short beeps."""
    frequency, on = dice.log(850, 2100), dice(0.05, 0.1)
    group = dice.pick((4, 3, 2, 4))
    times = [start + 2 * on * k for start in regular(dice, seconds, dice(0.7, 1.2)) for k in range(group)]
    return place(
        samples(seconds),
        times,
        lambda: oscillate(frequency, samples(on), (1, 0, 0.4, 0, 0.2)) * hold(samples(on), 0.004),
    )


def telephone(dice: Dice, seconds: float) -> Wave:
    """An electric bell or a warbling ringer, on and off."""
    on, off, rate = dice(0.8, 1.6), dice(0.6, 1.6), dice(16, 28)
    first, ratio, bell = dice.log(700, 1400), dice(1.15, 1.4), dice.chance(0.5)

    def ring() -> Wave:
        count = samples(on)
        if bell:
            modes = [(first * 1.4, 1, 0.2), (first * 1.4 * ratio, 0.8, 0.2), (first * 3.9, 0.4, 0.1)]
            return place(count, np.arange(0, on, 1 / rate).tolist(), lambda: struck(samples(0.25), modes))
        swap = first * np.where(np.sin(2 * np.pi * rate * 0.7 * clock(count)) > 0, 1, ratio)
        return oscillate(swap, count, (1, 0.3, 0.2)) * hold(count)

    return place(samples(seconds), regular(dice, seconds, on + off), ring)


def dial_tone(dice: Dice, seconds: float) -> Wave:
    """Two low tones together, steady or interrupted."""
    low, ratio, gap = dice(330, 450), dice(1.2, 1.34), dice(0.2, 0.55)
    on = gap if dice.chance(0.7) else seconds

    def pair() -> Wave:
        count = samples(on)
        return (oscillate(low, count) + oscillate(low * ratio, count)) * hold(count, 0.008)

    return place(samples(seconds), regular(dice, seconds, on + gap), pair)


def morse_code(dice: Dice, seconds: float) -> Wave:
    """Dots and dashes."""
    frequency, dot = dice.log(450, 1000), dice(0.05, 0.1)
    wave, time = np.zeros(samples(seconds)), float(dice.rng.random() * 0.2)
    while time < seconds:
        length = dot * float(dice.rng.choice((1, 3)))
        wave += place(len(wave), [time], lambda n=length: oscillate(frequency, samples(n)) * hold(samples(n), 0.005))  # type: ignore[misc]
        time += length + dot * float(dice.rng.choice((1, 1, 1, 3, 7)))
    return wave


def whistle(dice: Dice, seconds: float) -> Wave:
    """Someone whistling: pure tones that slide."""
    glide = dice(0.02, 0.08)

    def note(frequency: float, length: float) -> Wave:
        count = samples(length * 0.93)
        bend = frequency * (1 + glide * np.exp(-clock(count) / 0.05) * dice.pick((-1, 1)))
        return (oscillate(bend, count) + 0.02 * band(dice, count, 1000, 5000)) * hold(count, 0.03)

    return _melody(dice, seconds, dice(0.2, 0.5), note, 900, 1500)


def laser(dice: Dice, seconds: float) -> Wave:
    """The falling zaps and square blips of a video game."""
    top, octaves, length = dice.log(1500, 5000), dice(2, 4), dice(0.08, 0.3)
    square = (1, 0, 0.33, 0, 0.2, 0, 0.14)

    def zap() -> Wave:
        count = samples(length)
        return oscillate(top * dice.jitter(0.3) * 2 ** (-octaves * curve((0, 1), count)), count, square) * hold(
            count, 0.005
        )

    return place(samples(seconds), regular(dice, seconds, dice(0.18, 0.6), 0.5), zap)


def police_siren(dice: Dice, seconds: float) -> Wave:
    """A wail or a yelp: up and down without end."""
    count, rate = samples(seconds), dice.log(0.25, 4.5)
    low, ratio = dice(500, 800), dice(1.8, 2.4)
    swing = 0.5 - 0.5 * np.cos(2 * np.pi * rate * clock(count) + dice.rng.random() * 6)
    return oscillate(low * ratio**swing, count, (1, 0.5, 0.4, 0.2, 0.15)) * hold(count)


def ambulance(dice: Dice, seconds: float) -> Wave:
    """Two tones by turns."""
    count, low, ratio, rate = samples(seconds), dice(380, 620), dice(1.22, 1.42), dice(0.7, 2.2)
    upper = np.sin(2 * np.pi * rate / 2 * clock(count) * 2 + dice.rng.random() * 6) > 0
    return oscillate(np.where(upper, low * ratio, low), count, (1, 0.7, 0.5, 0.35, 0.2)) * hold(count)


def car_horn(dice: Dice, seconds: float) -> Wave:
    """Two reedy tones, in honks."""
    low, ratio, length = dice(300, 460), dice(1.18, 1.3), dice(0.2, 0.9)
    partials = [k**-0.6 for k in range(1, 14)]

    def honk() -> Wave:
        count = samples(length * dice.jitter(0.4))
        return (oscillate(low, count, partials) + oscillate(low * ratio, count, partials)) * hold(count, 0.02)

    return place(samples(seconds), regular(dice, seconds, length + dice(0.3, 0.9), 0.3), honk)


def ship_horn(dice: Dice, seconds: float) -> Wave:
    """A very low, long horn."""
    count, low = samples(seconds), dice(65, 130)
    partials = [k**-0.8 for k in range(1, 16)]
    length = dice(1.5, 3.5)

    def blast() -> Wave:
        n = samples(length)
        return (
            oscillate(low, n, partials) + 0.6 * oscillate(low * 1.51, n, partials) + 0.1 * band(dice, n, 100, 900)
        ) * hold(n, 0.2)

    return place(count, regular(dice, seconds, length + 0.6), blast)
