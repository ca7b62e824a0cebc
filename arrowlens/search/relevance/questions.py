"""Ordinary questions: what people ask a collection of pictures and recordings for, in everyday words.

What a model makes of them tells what its scores mean. They are part of the measure: a change of them asks for new
coefficients (``training/fit_relevance.py``).
"""

from __future__ import annotations

_PEOPLE = """a person; a man; a woman; a child; a baby; an old man; an old woman; a group of friends; a family photo;
a crowd of people; two people talking; people at a table; a portrait; a selfie; a smiling face; someone laughing; a
couple holding hands; a bride and groom; a teacher; a doctor; a nurse; a cook; a farmer; a police officer; a soldier;
a singer; a dancer; a musician; a painter; a football player; a runner; a cyclist; a swimmer; a worker with a helmet;
hands; a hand holding something; an eye; hair; feet; a beard; a boy playing football; a girl with a balloon; children
on a playground; people in a meeting; a person at a computer; someone reading a book; a person cooking"""
_ANIMALS = """an animal; a dog; a cat; a puppy; a kitten; a horse; a cow; a pig; a sheep; a goat; a chicken; a
rooster; a duck; a goose; a bird; birds in the sky; an owl; an eagle; a parrot; a penguin; a swan; a fish; a shark; a
whale; a dolphin; a turtle; a frog; a snake; a lizard; a spider; a butterfly; a bee; an ant; a fly; a mosquito; a
snail; a mouse; a rabbit; a squirrel; a hedgehog; a fox; a wolf; a bear; a deer; a lion; a tiger; an elephant; a
giraffe; a zebra; a monkey; a camel; a kangaroo; a crab; an octopus; an insect; a farm animal; a wild animal; a pet; a
dinosaur; a dragon"""
_NATURE = """a tree; a forest; a flower; a rose; a bunch of flowers; grass; a leaf; autumn leaves; a garden; a field;
a meadow; a mountain; mountains with snow; a hill; a valley; a canyon; a desert; a beach; the sea; the ocean; a wave;
a river; a stream; a waterfall; a lake; an island; a cave; a rock; sand; mud; ice; snow; rain; fog; clouds; a blue
sky; a storm; lightning; a rainbow; a sunset; a sunrise; the sun; the moon; stars at night; a fire; smoke; a volcano;
a landscape; a path through a wood; a cactus; a palm tree; a mushroom; a seed; a planet; outer space; the earth"""
_FOOD = """food; breakfast; lunch; dinner; a plate of food; a cake; a birthday cake; bread; cheese; butter; an egg;
meat; a sausage; a steak; a fish on a plate; soup; a salad; rice; noodles; a pizza; a hamburger; french fries; a
sandwich; an apple; a banana; an orange; a lemon; a strawberry; grapes; a pineapple; a melon; a tomato; a potato; a
carrot; an onion; corn; garlic; a pepper; nuts; chocolate; a biscuit; ice cream; sweets; honey; coffee; a cup of tea;
milk; water; juice; wine; beer; a cocktail; a bottle; a glass; a cup; a bowl; a spoon; a fork; a knife; a pan; a
restaurant; a market; a kitchen"""
_PLACES = """a house; a building; a tall building; a city; a city at night; a street; a village; a bridge; a tower; a
castle; a church; a temple; a mosque; a school; a hospital; a factory; a shop; a supermarket; an office; a library; a
museum; a theatre; a stadium; a swimming pool; a park; a playground; a farm; a barn; a hotel; a bedroom; a bathroom; a
living room; a garage; a cellar; a door; a window; a staircase; a roof; a wall; a fence; a gate; a fountain; a statue;
ruins; a harbour; an airport; a railway station; a tunnel; a road; a crossroads; a car park; a camp site; a
graveyard"""
_TRAFFIC = """a car; a red car; a bus; a lorry; a van; a taxi; a tractor; a motorcycle; a bicycle; a train; a tram; an
aeroplane; a helicopter; a rocket; a boat; a ship; a sailing boat; a canoe; a submarine; an ambulance; a fire engine;
a police car; a wheel; a traffic light; a road sign; a traffic jam; an accident; a parachute; a hot air balloon; a
kite"""
_THINGS = """a chair; a table; a sofa; a bed; a lamp; a candle; a mirror; a clock; a watch; a key; a lock; a box; a
bag; a suitcase; a basket; a bucket; a broom; a rope; a ladder; a hammer; a saw; a screwdriver; scissors; a needle; a
book; a newspaper; a letter; a pen; a pencil; a map; a calendar; a computer; a laptop; a telephone; a mobile phone; a
camera; a television; a radio; headphones; a microphone; a loudspeaker; a battery; a light bulb; a machine; a robot; a
tool; a toy; a doll; a teddy bear; a ball; a game; chess; cards; dice; a puzzle; a balloon; a present; a trophy; a
medal; a flag; a crown; a ring; jewels; a necklace; glasses; a hat; a coat; a dress; a shirt; trousers; shoes; boots;
gloves; socks; a scarf; an umbrella; a towel; soap; a toothbrush; a pill; a syringe; a microscope; a telescope; money;
a coin; a credit card; a gun; a sword; a bomb; a shield; a vase; a painting; a photograph; a drawing; a mask; a drum;
a guitar; a piano; a violin; a trumpet"""
_MATTERS = """a wedding; a birthday party; a concert; a football match; a race; a war; a demonstration; a holiday;
christmas; halloween; easter; new year; carnival; summer; winter; spring; autumn; morning; night; sport; music;
dancing; swimming; skiing; climbing; hiking; fishing; gardening; cooking; shopping; work; school; travel; love; fear;
anger; joy; sadness; loneliness; freedom; time; death; luck; health; science; history; religion; politics; nature;
art; fashion; architecture; technology; a screenshot; a document; a receipt; handwriting; a table of numbers; a chart;
a logo; a map of a country; a black and white photo; an old photo; a blurry picture; a pattern; something red;
something blue; something green; something yellow; a white background; three of the same thing; a small thing;
something round"""
_SOUNDS = """music; classical music; rock music; a song; someone singing; a choir; a piano playing; a guitar playing;
drums; a flute; a violin playing; a trumpet playing; an organ; a voice; someone speaking; people talking; a whisper; a
scream; a baby crying; someone coughing; snoring; laughter; applause; footsteps; a door closing; knocking; a doorbell;
a bell; church bells; a telephone ringing; an alarm; a siren; a car horn; an engine; a car driving by; a motorcycle
engine; a train passing; an aeroplane overhead; a helicopter flying; a lawn mower; a drill; hammering; a clock
ticking; typing; a dog barking; a cat meowing; a cow mooing; a bird singing; an owl hooting; frogs croaking; crickets;
a bee buzzing; rain falling; thunder; wind blowing; waves on a shore; a stream flowing; dripping water; a fire
crackling; an explosion; a gunshot; fireworks; breaking glass; a whistle; a beep; a hum; noise; static; silence; a
heartbeat"""


def questions() -> tuple[str, ...]:
    """The questions, each once, in a fixed order."""
    parts = (_PEOPLE, _ANIMALS, _NATURE, _FOOD, _PLACES, _TRAFFIC, _THINGS, _MATTERS, _SOUNDS)
    texts = (" ".join(text.split()) for part in parts for text in part.split(";"))
    return tuple(dict.fromkeys(texts))
