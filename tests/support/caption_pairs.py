"""Captions as people write them, each with questions that mean the same in other words."""

from __future__ import annotations

PAIRS = {
    "Grandma blowing out the candles on her eightieth birthday cake": ["birthday party", "old woman with a cake"],
    "Our kitten asleep on the laptop keyboard": ["a cat on a computer", "sleeping pet"],
    "Sunset over the harbour, fishing boats coming home": ["evening light at the sea", "boats in a port"],
    "The kids building a snowman behind the house": ["children playing in winter", "snow in the garden"],
    "Invoice from the dentist, March": ["bill for medical treatment", "receipt"],
    "View from the summit after a six hour climb": ["mountain top panorama", "hiking in the Alps"],
    "Red vintage car at the meeting in Lyon": ["old automobile", "classic car show"],
    "Whiteboard after the planning meeting": ["notes from work", "office brainstorming"],
    "Thunderstorm recorded from the balcony": ["sound of rain and lightning", "bad weather"],
    "Choir rehearsal, second movement": ["people singing", "classical music practice"],
    "Blackbird singing at dawn in the park": ["bird song", "morning in nature"],
    "First steps of little Emma": ["baby learning to walk", "toddler"],
    "Broken dishwasher pump, serial number plate": ["repair of a kitchen appliance", "spare part label"],
    "Wedding dance in the barn": ["bride and groom dancing", "marriage celebration"],
    "Street musician with an accordion in Paris": ["busker in France", "man playing an instrument"],
    "The new kitchen before the painters came": ["home renovation", "unfinished room"],
    "Tomatoes and basil from the allotment": ["vegetables from the garden", "fresh harvest"],
    "Police escort of the bicycle race": ["cycling competition", "motorcycles on the road"],
    "Night train to Vienna, sleeping car": ["travelling by rail", "railway journey to Austria"],
    "Dog running into the waves": ["puppy at the beach", "animal in the water"],
}
UNRELATED = [
    "a spaceship landing on mars",
    "quarterly tax return form",
    "zebra",
    "knitting pattern",
    "chess opening",
    "volcano eruption",
    "a page of sheet music",
    "basketball game",
    "microscope image of cells",
    "a red umbrella",
    "soldering a circuit board",
    "desert camels",
    "penguins on ice",
    "fireworks",
    "a map of Tokyo",
    "scuba diving",
]
