"""Labels are explained by their knobs, each knob told once."""

from reports.legend import legend_notes

ONE = {"optimiser.kind": "sgd", "optimiser.learning_rate": "0.1", "optimiser.momentum": "0.0", "steps": "1"}


def test_the_first_label_is_told_in_full_and_others_by_what_differs() -> None:
    notes = list(legend_notes("Recipe", {"one": ONE, "twenty": ONE | {"steps": "20"}, "again": dict(ONE)}))
    assert notes == [
        "Recipe one: optimiser.kind=sgd, optimiser.learning_rate=0.1, optimiser.momentum=0.0, steps=1.",
        "Recipe twenty: as one, but steps=20.",
        "Recipe again: as one.",
    ]


def test_knobs_of_another_kind_of_optimiser_take_the_place_of_the_first_ones() -> None:
    adam = {"optimiser.kind": "adamw", "optimiser.learning_rate": "0.1", "optimiser.beta1": "0.9", "steps": "1"}
    _, note = legend_notes("Recipe", {"one": ONE, "adam": adam})
    assert note == "Recipe adam: as one, but optimiser.kind=adamw, optimiser.beta1=0.9."


def test_a_label_of_another_kind_or_with_a_knob_less_is_told_in_full() -> None:
    vit, small = {"kind": "vit", "depth": "4"}, {"kind": "convnet", "depth": "4"}
    assert list(legend_notes("Model", {"vit": vit, "small": small}))[1] == "Model small: kind=convnet, depth=4."
    less = {name: value for name, value in ONE.items() if name != "optimiser.momentum"}
    assert list(legend_notes("Recipe", {"one": ONE, "less": less}))[1].count("=") == 3


def test_a_label_without_knobs_says_so() -> None:
    assert list(legend_notes("Prior", {"none": {}})) == ["Prior none: no knobs."]
