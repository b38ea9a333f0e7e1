# SPDX-License-Identifier: Apache-2.0
"""Wordings: how each task is put, several ways, in the manner of FLAN.

A wording has slots `{field}` for the parts of an instance and `{options}` for the
answers there are. All wordings of a task ask for the same thing, so any of them is a
paraphrase of any other; none denies anything or holds a number of its own, so that this
can be checked (`alignjax.perturb.flaw`).
"""

SENTIMENT = (
    "Read this review and decide which opinion it conveys.\n{text}\n"
    "Answer with {options}.",
    "{text}\nDoes the author of this review feel {options}? Reply with that word.",
    "Classify the mood of the following review as {options}.\nReview: {text}",
    "Review: {text}\nWhat is the overall opinion of the reviewer? Choose from "
    "{options}.",
    "As a critic of critics, judge whether this is {options}: {text}",
    "Someone wrote: {text}\nIs that {options}?",
    "Evaluate the review below. Say {options}.\n{text}",
    "How does this sound to you, {options}?\n{text}",
)
TOPIC = (
    "Read the following passage and choose its topic: {options}.\n{text}",
    "{text}\nWhat is this passage about? Answer with {options}.",
    "Under which heading would a newspaper put this? Pick from {options}.\n{text}",
    "Classify this text as {options}.\nText: {text}",
    "Text: {text}\nIdentify the subject. The options are {options}.",
    "You sort articles into {options}. Where does this one belong?\n{text}",
    "Decide whether the passage below deals with {options}.\n{text}",
)
GRAMMAR = (
    "Examine this sentence and decide whether its grammar is {options}.\n{text}",
    "{text}\nIs the grammar of that sentence {options}?",
    "Judge the sentence below as a teacher of English would: {options}.\n{text}",
    "Sentence: {text}\nClassify how it is built as {options}.",
    "Check how the following sentence is formed. Answer with {options}.\n{text}",
    "You proofread texts. Is this sentence {options}?\n{text}",
    "Would a careful writer find this {options}?\n{text}",
)
ENTAILMENT = (
    "Premise: {premise}\nHypothesis: {hypothesis}\n"
    "How does the hypothesis relate to the premise? Answer with {options}.",
    "Read the premise and determine its relation to the hypothesis: {options}.\n"
    "Premise: {premise}\nHypothesis: {hypothesis}",
    "Suppose that this is so: {premise}\nHow does the next line relate to it, as "
    "{options}?\n{hypothesis}",
    "{premise}\nGiven that, how would you label this statement: {hypothesis}\n"
    "Choose from {options}.",
    "Compare two texts. Is the relation from the text to the claim {options}?\n"
    "Text: {premise}\nClaim: {hypothesis}",
    "Someone reads: {premise}\nThen someone says: {hypothesis}\n"
    "Classify what is said as {options} of what was read.",
    "You check claims against a source. Decide on {options}.\n"
    "Source: {premise}\nClaim: {hypothesis}",
)
PARAPHRASE = (
    "Read two questions and decide whether they ask for the same thing. Answer with "
    "{options}.\nQuestion: {first}\nQuestion: {second}",
    "{first}\n{second}\nDo these have the same meaning? Say {options}.",
    "Would a good answer to the question \u00ab{first}\u00bb also answer "
    "\u00ab{second}\u00bb? Reply with {options}.",
    "Text: {first}\nText: {second}\nIs the one a paraphrase of the other? {options}?",
    "You look for duplicates in a forum. Is this a pair of duplicates? Choose from "
    "{options}.\nPost: {first}\nPost: {second}",
    "Compare what is meant.\nHere: {first}\nThere: {second}\n"
    "Is it the same? Answer with {options}.",
)
WORD_SENSE = (
    "Word: {word}\nSentence: {first}\nSentence: {second}\n"
    "Does the word have the same sense in these sentences? Answer with {options}.",
    "Decide whether {word} means the same thing here and there. Say {options}.\n"
    "Here: {first}\nThere: {second}",
    "{first}\n{second}\nIs {word} used in the same sense? Reply with {options}.",
    "You write a dictionary. Would these uses of {word} stand under the same entry? "
    "Choose from {options}.\n{first}\n{second}",
    "Compare the meaning of {word} in {first} and in {second} Is it the same, "
    "{options}?",
    "Read these lines.\n{first}\n{second}\nIs the sense of {word} the same? {options}?",
)
CHOICE = (
    "Choose the appropriate answer to the question from the list.\n"
    "Question: {question}\n{choices}",
    "{question}\n{choices}\nWhich of these is it? Reply with the text of that line.",
    "Question: {question}\nOptions:\n{choices}\nAnswer with the correct option.",
    "Here is a question with several options. Give the one that fits best.\n"
    "{question}\n{choices}",
    "Pick from the list below what answers the question.\nList:\n{choices}\n"
    "Question: {question}",
    "You take a test. What do you tick?\n{question}\n{choices}",
)
YES_NO = (
    "Answer the following question with {options}.\n{question}",
    "{question}\nIs it {options}?",
    "Question: {question}\nDecide on {options}.",
    "Think about this question and reply with {options}: {question}",
    "Someone asks: {question}\nWould you say {options}?",
    "You are on a quiz show and may say {options}. The question: {question}",
)
CLAIM = (
    "Decide whether this claim is {options}.\n{claim}",
    "{claim}\nIs this statement {options}?",
    "Claim: {claim}\nJudge it as {options}.",
    "You check facts for a newspaper. Mark the following as {options}: {claim}",
    "Someone tells you: {claim}\nIs what they say {options}?",
    "Verify this statement and answer with {options}.\nStatement: {claim}",
)
WORD_PROBLEM = (
    "Solve this problem and give the result as a number.\n{question}",
    "{question}\nWhat is the result? Answer with a number.",
    "Problem: {question}\nWork it out and reply with a number.",
    "Read the following exercise and write down its result as a number.\n{question}",
    "A pupil is asked: {question}\nWhich number is the correct answer?",
    "Compute what is asked here; a number is enough.\n{question}",
)
