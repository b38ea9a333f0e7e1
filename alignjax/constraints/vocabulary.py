# SPDX-License-Identifier: Apache-2.0
"""Words and phrases that constraints and repairs are made of."""

from __future__ import annotations

_KEYWORDS = """
sunlight comfort safety water time people energy nature example reason change light
world family friend music garden money health science history morning summer winter
river mountain bridge window color story memory learning teacher city country travel
food kitchen market paper machine computer phone weather forest ocean animal planet
journey balance practice patience kindness question answer method result difference
beginning
"""
KEYWORDS = tuple(_KEYWORDS.split())

_COMMON_WORDS = """
very many important people because also like good make help different first often
usually always could should would more most these those some there which when where
while about into from such other really just
"""
COMMON_WORDS = tuple(_COMMON_WORDS.split())

_FIRST_WORDS = """
Today Well Certainly Briefly Usually Generally Imagine Basically Perhaps Consider
First Honestly Simply
"""
FIRST_WORDS = tuple(_FIRST_WORDS.split())

_LAST_WORDS = """
today done indeed finished always together complete everyone tomorrow enough forever
thanks
"""
LAST_WORDS = tuple(_LAST_WORDS.split())

_SENTENCE_STARTS = """
Well So Also Maybe Clearly Now Indeed Perhaps
"""
SENTENCE_STARTS = tuple(_SENTENCE_STARTS.split())

OPENINGS = (
    "Here is my answer:",
    "Answer:",
    "Sure, here it is:",
    "Good question!",
    "Let me explain.",
    "In short,",
    "Here is what I think:",
    "Thank you for asking.",
    "To answer your question:",
    "Short answer:",
)

CLOSINGS = (
    "Hope this helps!",
    "That is all.",
    "Thank you for asking.",
    "Let me know if you need more.",
    "Have a nice day!",
    "End of answer.",
    "I hope this answers your question.",
    "Good luck!",
    "Thanks for reading.",
    "Any other questions?",
)

PHRASES = (
    "for example",
    "in other words",
    "on the other hand",
    "as a result",
    "in my opinion",
    "first of all",
    "at the same time",
    "to be clear",
)

LABELS = ("Answer", "Note", "Reply", "Summary", "Advice", "Idea")

POSTSCRIPTS = (
    "P.S. Thanks for asking.",
    "P.S. Take your time with this.",
    "P.S. Feel free to ask again.",
    "P.S. Have a good day.",
)

QUESTIONS = (
    "Does that make sense?",
    "What do you think?",
    "Would you like to know more?",
    "Have you seen this yourself?",
    "Is this what you had in mind?",
    "What would you do?",
)

EXCLAMATIONS = (
    "It is worth it!",
    "Give it a try!",
    "That is really useful!",
    "You can do it!",
    "Have fun!",
)

FILLERS = (
    "This is the main point to keep in mind.",
    "A small example can make it easier to see.",
    "It often helps to look at the details one by one.",
    "There is usually more than one way to look at this.",
    "With a little practice it becomes quite clear.",
    "Most people find this useful in daily life.",
    "It is a good idea to check this again later.",
    "The basic idea stays the same in other cases.",
    "That is why it is worth knowing about.",
    "Small steps are often enough to get started.",
    "Taking a moment to think it over can help.",
    "In the end it depends on what you need.",
)

SHORT_FILLERS = (
    "It is that simple.",
    "Take your time.",
    "It often works.",
    "Try it out.",
    "Start small.",
    "Ask for help.",
)

MENTIONS = (
    "One key word here is {word}.",
    "It helps to keep {word} in mind.",
    "Much of this comes back to {word}.",
    "Another part of it is {word}.",
    "We should not forget {word}.",
)

PLACEHOLDERS = (
    "You can ask [name] for more.",
    "Write to [address] about the details.",
    "Please check this again on [date].",
    "The place to start is [location].",
    "Call [phone number] if you need help.",
)

NUMBER_SENTENCES = (
    "There are 3 things to keep in mind.",
    "It helps to read this 2 times.",
    "It takes about 10 minutes to try.",
    "At least 4 people should look at it.",
    "In 5 days you will see how it goes.",
)

LETTER_WORDS = {
    "b": "about right",
    "f": "useful",
    "g": "good",
    "j": "just so",
    "k": "known",
    "p": "simple",
    "q": "quite so",
    "v": "very true",
    "w": "how it was",
    "x": "next",
    "y": "my view",
    "z": "the size",
}

JSON_KEYS = ("answer", "reason", "summary", "topic", "example", "title", "advice")

TABLE_HEADERS = (
    ("Point", "Detail"),
    ("Question", "Answer"),
    ("Step", "Action"),
    ("Topic", "Fact"),
    ("Idea", "Reason"),
)

TAGS = ("answer", "response", "result", "reply", "output")

LETTER_SENTENCES = {
    "j": "Enjoy the journey and the joy of it.",
    "q": "A quick question is quite unique.",
    "x": "Relax and fix the next extra example.",
    "z": "A lazy breeze can puzzle and amaze.",
}

LINE_OPENERS = {
    "a": "Also",
    "b": "Briefly",
    "c": "Clearly",
    "d": "Definitely",
    "e": "Evidently",
    "f": "Furthermore",
    "g": "Generally",
    "h": "Hence",
    "i": "Indeed",
    "j": "Justly",
    "k": "Keenly",
    "l": "Likewise",
    "m": "Meanwhile",
    "n": "Now",
    "o": "Overall",
    "p": "Perhaps",
    "q": "Quite simply",
    "r": "Really",
    "s": "So",
    "t": "Then",
    "u": "Usually",
    "v": "Visibly",
    "w": "Well",
    "x": "Xenially",
    "y": "Yes",
    "z": "Zealously",
}

ACROSTICS = ("TREE", "WISE", "IDEA", "STAR", "NOTE", "CALM", "MINT", "BOLD", "RAIN")

SEMICOLON_SENTENCES = (
    "Start small; the rest follows.",
    "It takes time; it is worth it.",
    "Look closely; much is easy to miss.",
    "Ask others; they may know more.",
)

EMOJI = ("🙂", "🌟", "🎉", "👍", "💡", "🌿", "🚀", "📌")

PHRASE_CHOICES = (
    ("I am certain.", "I am fairly sure.", "I am only guessing."),
    ("This is a fact.", "This is an opinion."),
    ("Difficulty: easy", "Difficulty: medium", "Difficulty: hard"),
    ("Good for beginners.", "Good for experts."),
    ("It takes minutes.", "It takes hours.", "It takes days."),
    ("My answer is yes.", "My answer is no.", "My answer is maybe."),
)

REQUESTS = (
    "Please answer the question above.",
    "Explain this in your own words.",
    "Tell me what matters most here.",
)

SECTION_MARKERS = ("Section", "Part", "Chapter", "Step", "Day", "Scene")

CSV_COLUMNS = ("point", "detail", "reason", "example", "note", "topic", "idea")

_COUNTED_WORDS = """
strawberry banana committee mississippi assessment raspberry bookkeeper parallel
occurrence elephant millennium balloon coffee referee tomorrow
"""
COUNTED_WORDS = tuple(_COUNTED_WORDS.split())

GOODS = ("apples", "notebooks", "tickets", "pencils", "cups", "books", "lamps")

WEEKDAYS = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)

TABLE_TOPICS = (
    (
        ("City", "Visitors", "Hotels", "Parks", "Museums"),
        ("Lima", "Oslo", "Cairo", "Kyoto", "Quito", "Porto", "Dakar", "Hanoi"),
    ),
    (
        ("Shop", "Apples", "Pears", "Plums", "Lemons"),
        ("North", "South", "East", "West", "Central", "Harbour"),
    ),
    (
        ("Team", "Wins", "Draws", "Losses", "Goals"),
        ("Foxes", "Hawks", "Bears", "Wolves", "Otters", "Eagles"),
    ),
    (
        ("Month", "Sales", "Orders", "Returns", "Calls"),
        ("January", "February", "March", "April", "June", "July"),
    ),
)

SCHEMA_TEXTS = ("summary", "title", "reason", "advice", "example", "topic")
SCHEMA_LISTS = ("points", "steps", "examples", "tags")
SCHEMA_NUMBERS = ("confidence", "difficulty", "score", "minutes")
SCHEMA_FACTS = ("helpful", "certain", "beginner")
SCHEMA_ENUMS = (
    ("tone", ("formal", "casual", "neutral")),
    ("level", ("easy", "medium", "hard")),
    ("kind", ("fact", "opinion", "story")),
)

_STOPWORDS = """
about above after again against also although always another anything around away
back because been before being below between both came cannot come comes could does
doing done down during each either else enough even ever every explain few from
further give given gives goes going good have having here hers herself himself into
itself just keep kind know less like likely made main make makes making many maybe
might more most much must need needs never next none nothing often once one only onto
other others ours over own perhaps please quite rather really same several shall
should show since some someone something sometimes soon still such take takes tell
than that their them then there these they thing things this those though through
thus together under until upon usually very want well were what when where whether
which while who whom whose will with within without would write your yours yourself
describe brief briefly short sentence sentences using used uses main word words
answer
"""
STOPWORDS = frozenset(_STOPWORDS.split())
