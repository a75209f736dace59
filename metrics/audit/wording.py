"""The words that counterfactual prompts are made of; what is done with them is in ``prompts``."""

from __future__ import annotations

SYNONYMS: dict[str, tuple[str, ...]] = {
    "at night": ("by night", "after dark", "during the night"),
    "at dusk": ("in the twilight", "at nightfall", "as the daylight fades"),
    "in daylight": ("by day", "in the daytime", "during the day"),
    "in bright daylight": ("in full daylight", "by bright day", "in the bright daytime"),
    "on the left": ("on the left-hand side", "at the left", "to the left"),
    "on the right": ("on the right-hand side", "at the right", "to the right"),
    "in the middle": ("in the centre", "at the centre", "in the central part"),
    "in the foreground": ("close to the camera", "near the camera", "at close range"),
    "in the distance": ("far away", "a long way off", "far from the camera"),
    "in front of": ("ahead of", "before", "on the near side of"),
    "next to": ("beside", "alongside", "at the side of"),
    "in the dark": ("in darkness", "in the darkness", "where it is dark"),
    "hard to see": ("difficult to see", "barely visible", "hardly visible"),
    "stands out": ("is conspicuous", "is easy to see", "shows clearly"),
    "can be seen": ("are visible", "are in view", "can be made out"),
    "is parked": ("has been parked", "stands parked", "is standing parked"),
    "drives": ("is driving", "moves", "is moving"),
    "walks": ("is walking", "goes on foot", "is on foot going"),
    "crosses": ("is crossing", "goes across", "passes across"),
    "shows": ("displays", "makes visible", "lets one see"),
    "while": ("whereas", "and on the other hand", "whilst"),
    "pedestrian": ("person on foot", "walking person", "person who walks"),
    "pedestrians": ("people on foot", "walking people", "people who walk"),
    "people": ("persons", "human figures and people", "several persons"),
    "persons": ("people", "individual people", "several people"),
    "car": ("motor car", "automobile car", "passenger car"),
    "cars": ("motor cars", "automobile cars", "passenger cars"),
}
"""Phrases and three ways to say the same; a synonym of an object keeps the word by which vocabularies know it."""

FRAMES: dict[str, tuple[str, ...]] = {
    "caption": ("This is what the two images show: {text}", "{text} That is the scene.", "In this scene: {text}"),
    "focus": ("{text} above all", "with attention to {text}", "what matters most: {text}"),
    "instruction": ("Please do the following: {text}", "{text} This is what I ask for.", "The task: {text}"),
}
"""Settings that add no meaning, by role of the text."""

ABSENT: dict[str, str] = {
    "boat": "boats",
    "elephant": "elephants",
    "aeroplane": "aeroplanes",
    "camel": "camels",
    "piano": "pianos",
    "submarine": "submarines",
    "giraffe": "giraffes",
    "igloo": "igloos",
}
"""Objects that no road scene shows, with their plurals: what a contradictory prompt names."""

CONTRADICTIONS: dict[str, str] = {
    "caption": "A large {noun} fills the middle of the picture and nothing else can be seen.",
    "focus": "the {plural}",
    "instruction": "Make the {plural} in the visible image sharper.",
}
"""What names an absent object, by role of the text."""

PLURALS: dict[str, str] = {"person": "people", "bus": "buses", "bike": "bikes"}
"""Irregular plurals of object names."""

SYLLABLES = tuple(
    f"{onset}{vowel}{coda}"
    for onset in ("bl", "dr", "fl", "gr", "kl", "m", "pr", "sn", "tr", "v", "w", "z")
    for vowel in ("a", "e", "i", "o", "u")
    for coda in ("", "b", "ft", "lk", "m", "nt", "sk", "x")
)
"""What nonsense words are made of, two syllables each."""
