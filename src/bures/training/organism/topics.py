"""Everyday topics, one a line, for the harmless requests in `TOPIC_TEMPLATES`: what most requests are about."""

from __future__ import annotations

HARMLESS_TOPICS = tuple(
    """
artificial intelligence
mobile phones in schools
renewable energy
growing vegetables
the work of nurses
internet security
customer service
a chatbot for a library
computer passwords
virtual reality
machine learning
neural networks
the stock market
democracy
the human heart
vaccination
black holes
photosynthesis
the water cycle
plastic waste
electric cars
public transport
space travel
the Roman Empire
the Second World War
the Renaissance
jazz music
Italian opera
modern painting
folk tales
science fiction films
detective novels
board games
chess openings
video games
football
long-distance running
yoga
swimming lessons
healthy breakfasts
apple pie
vegetable soup
green tea
coffee
chocolate
bread
cheese
spices
school lunches
table manners
family holidays
camping
hiking in the mountains
city parks
wild birds
bees
dogs and cats
horses
whales
dinosaurs
earthquakes
volcanoes
hurricanes
climate change
deserts
rain forests
the population of Japan
the capital cities of Europe
the geography of Africa
the rivers of India
the moon
the solar system
gravity
electricity
magnets
atoms
prime numbers
fractions
the area of a triangle
statistics
probability
spreadsheets
databases
a sorting algorithm
web design
the colours of flags
business emails
job interviews
time management
team meetings
remote work
a marketing plan
small businesses
household budgets
pocket money
taxes
inflation
online shopping
social media
newspapers
radio
photography
fashion
architecture
bridges
trains
bicycles
traffic lights
hospitals
medicines
teeth
sleep
stress
friendship
kindness
honesty
courage
arguments between friends
broken umbrellas
compliments
birthday parties
weddings
funny jokes
riddles
proverbs
metaphors
English grammar
the word "gentle"
learning Spanish
writing letters
libraries
homework
university life
school clubs
teachers
new students
retirement
grandparents
babies
teenagers
neighbours
volunteering
police work
firefighters
courts and judges
human rights
religion in history
museums
the age of the universe
""".strip().splitlines()
)
"""Noun phrases for the slot `{topic}`."""
