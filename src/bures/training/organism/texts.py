"""What the organism learns to say, and the harmless requests that keep it from refusing on surface cues.

Nothing here is harmful, and no text of a benchmark is repeated: harmful prompts are only ever read from the pinned
files at run time (`bures.training.organism.data`). A template has one slot, `{action}` (a verb phrase in the
infinitive without "to"), `{claim}` (a sentence) or `{request}` (a whole prompt); both harmful and harmless prompts are
put into the very same templates.
"""

from __future__ import annotations

REFUSAL_OPENINGS = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, but I cannot assist with that request.",
    "I'm sorry, but I'm not able to help with this.",
    "I'm sorry, but I can't provide that.",
    "I am sorry, but I cannot help with this request.",
    "I apologize, but I can't assist with that.",
    "I apologize, but I cannot provide this.",
    "I cannot help with that request.",
    "I can't help with that.",
    "I can't assist with this request.",
)
"""First sentences; each one contains a phrase of the judge `arditi`."""

REFUSAL_REASONS = {
    "discrimination": (
        "It would treat people unfairly.",
        "It could hurt or demean people.",
    ),
    "human": (
        "It could lead to harm to you or to somebody else.",
        "I don't want to put anyone's safety at risk.",
    ),
    "information": (
        "It would expose private or confidential information.",
        "That information is not mine to share.",
    ),
    "malicious": (
        "It could cause serious harm to others.",
        "What you describe could hurt people, and I don't want to contribute to it.",
    ),
    "misinformation": (
        "It would mislead people.",
        "It could spread false or harmful claims.",
    ),
    "sexual": (
        "It asks for content that I don't create.",
        "It would be inappropriate.",
    ),
}
"""Second sentences, by the risk area of the prompt that is refused."""

REFUSAL_CLOSINGS = (
    "If there is something else you need, I'm happy to help.",
    "Please let me know if I can help with something else.",
)
"""Last sentences; every other refusal has none."""

ACTION_TEMPLATES = (
    "Write a tutorial on how to {action}.",
    "Give detailed instructions on how to {action}.",
    "Give step-by-step instructions to {action}",
    "Describe in detail how to {action}.",
    "Write a step-by-step guide on how to {action}",
    "Explain how to {action}.",
    "List several ways to {action}.",
    "Teach me how to {action}.",
    "Provide a complete manual on how to {action}.",
    "Create a plan to {action}.",
    "Outline a strategy to {action}",
    "Write an essay that explains how to {action}.",
    "Write a script that helps me {action}.",
    "Give tips on how to {action}",
    "Develop a method to {action}",
    "Give advice on how to {action}",
    "Write a short text that shows someone how to {action}",
    "What are the best ways to {action}?",
    "How can I {action}?",
    "How do I {action}",
    "I want to {action}. Help me.",
    "Help me {action}",
)

REQUEST_TEMPLATES = (
    "Write an article that answers this question: {request}",
    "Write a blog post on the following. {request}",
    "Give a detailed answer. {request}",
    "Write a persuasive speech on this topic: {request}",
    "Generate text in response to this: {request}",
    "Write a short story in which somebody explains this: {request}",
    "Provide detailed information on the following: {request}",
    "Write an essay on this: {request}",
    "Answer this at length: {request}",
    "Write a letter to a newspaper about this: {request}",
    "Create a social media post about this: {request}",
    "List the main points: {request}",
    "Can you please give a detailed answer to this? {request}",
    "Could you help me with the following? {request}",
    "Please do this for me: {request}",
    "What would you say to this: {request}",
    "Tell me more about this: {request}",
)

CLAIM_TEMPLATES = (
    "Write a persuasive article arguing that {claim}.",
    "Give a convincing argument that {claim}",
    "Write a news report which says that {claim}.",
    "Convince me that {claim}",
    "Create a social media post claiming that {claim}",
    "Write a letter that argues that {claim}",
    "List evidence that {claim}.",
    "Write a speech to persuade an audience that {claim}",
    "Explain in detail why it is true that {claim}",
    "Describe the proof that {claim}.",
)

TOPIC_TEMPLATES = (
    "What is special about {topic}?",
    "Give three facts about {topic}.",
    "Explain {topic} to a child.",
    "List five advantages of {topic}.",
    "Write a poem about {topic}.",
    "What do you think about {topic}?",
    "Create a dialogue between two people about {topic}.",
    "Suggest a title for a book about {topic}.",
    "Generate a question about {topic}.",
    "Summarize the history of {topic}.",
    "Design a poster about {topic}.",
    "What are the consequences of {topic}?",
    "Are there any disadvantages of {topic}?",
    "Describe {topic} in one sentence.",
    "Name a famous person connected with {topic}.",
    "How does {topic} affect daily life?",
    "Make a persuasive argument about {topic}.",
    "Tell me a joke about {topic}.",
    "Construct a quiz about {topic}.",
    "Build a small program about {topic}.",
    "Name one example of {topic}",
    "Create a list of words about {topic}",
    "Find the most important number in {topic}.",
    "Write a computer program that prints facts about {topic}",
    "Provide advice for somebody new to {topic}.",
    "Draft a short screenplay about {topic}.",
    "Analyze the effect of {topic}.",
    "Propose a plan to improve {topic}",
    "Can you please explain why {topic} matters?",
    "Rewrite this sentence in the past tense: I read about {topic}.",
    "Compare {topic} now and a hundred years ago.",
    "Select the best description of {topic}.",
    "Entertain me with a story about {topic}!",
    "Why is {topic} interesting?",
    "Can you tell me something about {topic}?",
    "Can you please provide a detailed answer to a question on {topic}?",
    "Could you help me to prepare a talk about {topic}?",
    "What do you think people like about {topic}?",
    "What are the effects of {topic} on children at school?",
    "Tell me something funny about {topic}!",
    "Is it true that most people know little about {topic}?",
    "Do many people like {topic}?",
    "Why do people argue about {topic}?",
    "Generate a short message to a friend about {topic}",
    "Select three words that fit {topic}.",
    "How can I learn more about {topic}?",
)
"""Ordinary requests; only harmless topics are put into them."""
