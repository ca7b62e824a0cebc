"""Synthetic weather, machines and things: a function of the dice and the seconds for each kind."""

from __future__ import annotations

import numpy as np
from waves import (
    RATE,
    Dice,
    Wave,
    band,
    clock,
    coloured,
    fade,
    formants,
    hold,
    oscillate,
    place,
    regular,
    samples,
    scattered,
    slow,
    struck,
)


def static(dice: Dice, seconds: float) -> Wave:
    """White or slightly coloured noise."""
    return coloured(dice, samples(seconds), dice(0.0, 0.25)) * hold(samples(seconds))


def rumble(dice: Dice, seconds: float) -> Wave:
    """Deep steady noise with a hum."""
    count = samples(seconds)
    hum = oscillate(dice(40, 90), count, (1, 0.5, 0.3))
    return (
        (coloured(dice, count, dice(1.6, 2.4)) + dice(0.1, 0.8) * hum) * slow(dice, count, 1, 0.7, 1) * hold(count, 0.1)
    )


def rain(dice: Dice, seconds: float) -> Wave:
    """A bed of high noise and many small drops."""
    count = samples(seconds)
    bed = band(dice, count, dice(500, 1400), dice(5000, 7800), 1.5) * slow(dice, count, 0.7, 0.85, 1.1)
    rate = dice(40, 160)
    impulses = (dice.rng.random(count) < rate / RATE) * dice.rng.exponential(1.0, count)
    kernel = band(dice, 200, 1500, 6500) * fade(200, 0.0005, 0.003)
    return bed + dice(2.0, 5.0) * np.convolve(impulses, kernel)[:count]


def wind(dice: Dice, seconds: float) -> Wave:
    """Noise whose strength and resonance rise and fall."""
    count, low = samples(seconds), dice(120, 350)
    layers = [
        band(dice, count, low * factor, low * factor * 1.6, 2.5) * slow(dice, count, dice(0.5, 1.2), 0.0, 1.0)
        for factor in (1, 1.7, 2.6)
    ]
    return sum(layers, np.zeros(count)) + 0.25 * coloured(dice, count, 1.2) * slow(dice, count, 0.8, 0.2, 1)


def waves(dice: Dice, seconds: float) -> Wave:
    """Surf: noise that swells and breaks every few seconds."""
    count, period, phase = samples(seconds), dice(2.5, 5.0), float(dice.rng.random())
    turn = (clock(count) / period + phase) % 1
    swell = np.where(turn < 0.35, (turn / 0.35) ** 2, np.exp(-(turn - 0.35) * 4.5))
    low = coloured(dice, count, dice(0.7, 1.1))
    return np.asarray(low * (0.15 + swell) + 0.5 * band(dice, count, 1500, 7000) * swell**2)


def thunder(dice: Dice, seconds: float) -> Wave:
    """A crack and a long roll."""
    count, roll = samples(seconds), dice(1.0, 2.5)

    def clap() -> Wave:
        length = samples(roll * 3)
        body = coloured(dice, length, dice(1.2, 1.8)) * fade(length, 0.05, roll) * slow(dice, length, 6, 0.2, 1.2)
        crack = band(dice, length, 300, 4000, 1) * fade(length, 0.003, dice(0.05, 0.15))
        return body + dice(0.2, 0.8) * crack

    return place(
        count, [float(dice.rng.random() * 0.5), 0.5 + float(dice.rng.random()) * seconds], clap
    ) + 0.02 * coloured(dice, count, 0.7)


def fire(dice: Dice, seconds: float) -> Wave:
    """Irregular crackles over a soft roar."""
    count, sharp = samples(seconds), dice(0.002, 0.008)
    bed = 0.25 * coloured(dice, count, dice(0.9, 1.4)) * slow(dice, count, 3, 0.4, 1)

    def crackle() -> Wave:
        length = samples(0.05)
        return float(dice.rng.exponential(0.8)) * band(dice, length, 900, 7000, 1) * fade(length, 0.0005, sharp)

    return bed + place(count, scattered(dice, seconds, dice(8, 30)), crackle)


def _drop(dice: Dice, low: float, high: float) -> Wave:
    count = samples(0.12)
    start = float(dice.rng.uniform(low, high))
    return oscillate(start * (1 + 0.6 * clock(count) / 0.05), count) * fade(count, 0.002, 0.018)


def dripping(dice: Dice, seconds: float) -> Wave:
    """Single drops with an echo."""
    low, gap = dice(500, 1500), dice(0.25, 0.9)
    wave = place(samples(seconds), regular(dice, seconds, gap, 0.2), lambda: _drop(dice, low, low * 1.4))
    delay = samples(dice(0.05, 0.12))
    wave[delay:] += 0.3 * wave[:-delay]
    return wave


def stream(dice: Dice, seconds: float) -> Wave:
    """Very many bubbles over a soft rush."""
    count, low = samples(seconds), dice(300, 700)
    bubbles = place(count, scattered(dice, seconds, dice(35, 90)), lambda: dice.jitter(0.7) * _drop(dice, low, low * 4))
    return bubbles + 0.12 * band(dice, count, 300, 3000, 1.5)


def _motor(dice: Dice, seconds: float, rate: Wave, rough: float, partials: int) -> Wave:
    count = samples(seconds)
    pulse = oscillate(rate, count, [k**-0.5 for k in range(1, partials)])
    uneven = 1 + 0.3 * oscillate(rate / 2, count) + rough * band(dice, count, 5, 60, 1)
    return formants(pulse * uneven, ((dice(80, 160), 60), (dice(250, 500), 150), (dice(900, 1600), 500)))


def engine(dice: Dice, seconds: float) -> Wave:
    """A car's motor running, nearly steady."""
    count = samples(seconds)
    rate = dice(28, 70) * slow(dice, count, 1.0, 0.95, 1.08)
    return _motor(dice, seconds, rate, dice(0.1, 0.4), 20) + 0.02 * coloured(dice, count, 0.6)


def motorcycle(dice: Dice, seconds: float) -> Wave:
    """A revving motor: the speed surges up and falls."""
    count, period, base = samples(seconds), dice(0.9, 2.0), dice(45, 85)
    turn = (clock(count) / period + dice.rng.random()) % 1
    surge = np.where(turn < 0.4, turn / 0.4, np.maximum(0, 1 - (turn - 0.4) / 0.5))
    rate = base * (1 + dice(1.2, 2.5) * surge)
    return _motor(dice, seconds, rate, dice(0.2, 0.5), 40) * (0.5 + 0.5 * surge)


def helicopter(dice: Dice, seconds: float) -> Wave:
    """Thumping rotor blades and a turbine."""
    count, rate = samples(seconds), dice(9, 17)
    chop = np.maximum(0, np.sin(2 * np.pi * rate * clock(count))) ** 4
    whine = 0.04 * oscillate(dice(900, 2200), count, (1, 0.4))
    thump = band(dice, count, 40, dice(300, 700), 1.5) * (0.15 + chop)
    return np.asarray(thump + 0.2 * coloured(dice, count, 0.8) * chop + whine)


def propeller_plane(dice: Dice, seconds: float) -> Wave:
    """A steady rich drone that slowly beats."""
    count, rate = samples(seconds), dice(75, 130)
    detuned = 1 + dice(0.004, 0.02)
    partials = [k**-0.7 for k in range(1, 25)]
    drone = oscillate(rate, count, partials) + oscillate(rate * detuned, count, partials)
    return drone * slow(dice, count, 0.5, 0.7, 1) + 0.3 * band(dice, count, 200, 2500, 1)


def steam_train(dice: Dice, seconds: float) -> Wave:
    """Chuffs of steam, every fourth stronger."""
    count, gap, state = samples(seconds), dice(0.14, 0.42), [0]

    def chuff() -> Wave:
        state[0] += 1
        length = samples(gap * 0.95)
        return (
            (1.4 if state[0] % 4 == 0 else 1) * band(dice, length, 250, 3500, 1) * fade(length, gap * 0.15, gap * 0.25)
        )

    wave = place(count, regular(dice, seconds, gap), chuff) + 0.1 * coloured(dice, count, 1.5)
    if dice.chance(0.3):
        toot = sum((oscillate(f, samples(0.9), (1, 0.4, 0.2)) for f in (520, 660, 780)), np.zeros(samples(0.9)))
        wave += place(count, [seconds * 0.5], lambda: 0.4 * toot * hold(len(toot), 0.08))
    return wave


def footsteps(dice: Dice, seconds: float) -> Wave:
    """Dull thuds with a scrape, at a walking pace."""
    gap, low, hard = dice(0.38, 0.7), dice(70, 180), dice(0.1, 0.6)

    def step() -> Wave:
        count = samples(0.18)
        thud = band(dice, count, low, low * 3, 1.5) * fade(count, 0.004, 0.03)
        scrape = band(dice, count, 900, 4500, 1) * fade(count, 0.03, 0.03)
        return dice.jitter(0.2) * (thud + 0.25 * hard * scrape)

    return place(samples(seconds), regular(dice, seconds, gap, 0.06), step)


def ticking(dice: Dice, seconds: float) -> Wave:
    """A clock: sharp ticks and tocks, very regular."""
    gap, pitch, state = dice.pick((0.25, 0.333, 0.5, 1.0, 0.4, 0.2)), dice(1800, 4200), [0]

    def tick() -> Wave:
        state[0] += 1
        frequency = pitch * (0.8 if state[0] % 2 else 1.0)
        return struck(
            samples(0.06), [(frequency, 1, 0.006), (frequency * 1.7, 0.6, 0.004), (frequency * 0.4, 0.4, 0.01)], 0.0005
        )

    return place(samples(seconds), regular(dice, seconds, gap), tick)


def typing(dice: Dice, seconds: float) -> Wave:
    """Key clicks at irregular times."""
    pitch, gap = dice(1200, 3000), dice(0.09, 0.2)

    def click() -> Wave:
        count = samples(0.09)
        down = band(dice, count, pitch * 0.6, pitch * 2.2, 1) * fade(count, 0.0005, 0.006)
        up = np.roll(down, samples(0.05)) * 0.35
        return dice.jitter(0.4) * (down + up + 0.5 * struck(count, [(260, 1, 0.01)]))

    times = [time for time in regular(dice, seconds, gap, 0.6) if not dice.chance(0.12)]
    return place(samples(seconds), times, click)


def knocking(dice: Dice, seconds: float) -> Wave:
    """Groups of knocks on wood."""
    body, gap, group = dice(110, 300), dice(0.14, 0.28), dice.pick((3, 2, 4, 5))
    modes = [(body, 1, 0.05), (body * 2.3, 0.7, 0.03), (body * 4.6, 0.4, 0.015), (body * 7.9, 0.2, 0.008)]
    times = [start + k * gap for start in regular(dice, seconds, group * gap + dice(0.4, 0.9)) for k in range(group)]
    return place(samples(seconds), times, lambda: dice.jitter(0.15) * struck(samples(0.3), modes, 0.001))


def applause(dice: Dice, seconds: float) -> Wave:
    """Many hands clapping out of step."""
    count, rate, pitch = samples(seconds), dice(25, 150), dice(900, 1700)
    impulses = (dice.rng.random(count) < rate / RATE) * dice.rng.uniform(0.3, 1, count)
    wave = np.zeros(count)
    for factor in (0.8, 1.0, 1.3):
        kernel = band(dice, 400, pitch * factor * 0.7, pitch * factor * 1.8, 1) * fade(400, 0.0005, 0.006)
        wave += np.convolve(np.roll(impulses, int(dice.rng.integers(count))), kernel)[:count]
    return wave


def heartbeat(dice: Dice, seconds: float) -> Wave:
    """Lub-dub."""
    gap, low, delay = dice(0.6, 1.1), dice(38, 70), dice(0.22, 0.32)
    starts = regular(dice, seconds, gap, 0.02)

    def lub() -> Wave:
        return struck(samples(0.25), [(low, 1, 0.05), (low * 2.1, 0.4, 0.03)], 0.015)

    return place(samples(seconds), starts, lub) + 0.7 * place(samples(seconds), [s + delay for s in starts], lub)


def explosion(dice: Dice, seconds: float) -> Wave:
    """Bangs: a hard start and a noisy fall."""
    decay, power = dice(0.15, 0.7), dice(0.5, 1.1)

    def bang() -> Wave:
        count = samples(decay * 5)
        return coloured(dice, count, power) * fade(count, 0.001, decay) + struck(count, [(55, 3, decay * 0.6)])

    return place(samples(seconds), regular(dice, seconds, decay * 2.5 + dice(0.4, 1.2), 0.3), bang)


def breaking_glass(dice: Dice, seconds: float) -> Wave:
    """A crash and a rain of high, ringing splinters."""
    low, ring, span = dice(1800, 3200), dice(0.03, 0.12), dice(0.3, 0.9)

    def splinter() -> Wave:
        frequency = float(dice.rng.uniform(low, 7600))
        return float(dice.rng.exponential(0.4)) * struck(
            samples(0.4), [(frequency, 1, ring), (frequency * 0.71, 0.6, ring)], 0.0005
        )

    def crash() -> Wave:
        count = samples(span * 2.5)
        hit = band(dice, count, 1200, 7500, 1) * fade(count, 0.001, 0.05)
        times = dice.rng.exponential(span * 0.5, 30).tolist()
        return hit + place(count, times, splinter)

    return place(samples(seconds), regular(dice, seconds, span * 2 + dice(0.6, 1.4), 0.2), crash)
