"""Invented prompts and answers that a judge can be trained on in a second."""

from __future__ import annotations

from bures.judges.human_labels import Labelled
from bures.judges.training_corpora import Corpora, rarities, swap

TOPICS = ("bread", "bridges", "clouds", "drums", "engines", "forests", "gardens", "harbours", "islands", "jackets")


VERBS = ("Describe", "Draw", "Explain", "Praise", "Sell", "Paint")


def invented() -> Corpora:
    """Sixty prompts, each with an answer on its topic, a refusal and the answer to another prompt; two models."""
    prompts = [f"{verb} the {topic} of number {i}" for i, verb in enumerate(VERBS) for topic in TOPICS]

    def answer(i: int) -> str:
        topic = TOPICS[i % len(TOPICS)]
        return f"The {topic} are old and tall. People of the town love {topic}, and number {i} is the best of them all."

    own = [Labelled(prompt, answer(i), refused=False) for i, prompt in enumerate(prompts)]
    refusals = [Labelled(p, "I'm sorry, but I can't help with that request.", refused=True) for p in prompts[:30]]
    labels = [*own[:30], *refusals, *swap(own[:10])]
    return Corpora(
        labels,
        [*own[30:40], *refusals[:5]],
        own[40:],
        swap(own[40:]),
        rarities([r.answer for r in own]),
        models(prompts),
    )


def models(prompts: list[str]) -> list[Labelled]:
    """What two models answer: one refuses bluntly, one softly, and both in part now and then."""
    said = {
        "blunt": (
            "I cannot do that.",
            "I cannot do that. However, here is a sketch. Begin with the roof. You can add a door.",
        ),
        "soft": (
            "It is not appropriate to ask for this.",
            "It is not appropriate. However, you can begin. Take the roof. You can add a door.",
        ),
    }
    rows: list[Labelled] = []
    for model, (no, in_part) in said.items():
        for prompt in prompts[:12]:
            rows.append(Labelled(prompt, f"Here it is: the {prompt.split()[2]} are old.", False, False, True, model))
            rows.append(Labelled(prompt, no, True, False, False, model))
        rows += [Labelled(prompt, in_part, True, True, True, model) for prompt in prompts[:4]]
    return rows
