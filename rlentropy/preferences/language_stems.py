"""Beginnings of sentences to complete, and words that a simple teacher likes and loathes."""

from __future__ import annotations

_STEMS = """\
The old lighthouse on the hill
Every morning the baker
When the rain finally stopped
My grandmother always said
The train to the coast
In the middle of the market
She opened the letter and
The first thing I noticed
After a long day at work
The garden behind the house
Nobody expected the teacher
On the last day of summer
The soup tasted like
He looked at the map and
The children in the park
Before the concert began
A small boat drifted
The new neighbours seemed
At the end of the street
The film we saw last night
My first day at school
The dog waited by the door
Under the old bridge
The doctor smiled and
This restaurant is
The weather this week
During the long winter
The library was quiet until
Our holiday by the lake
The cat on the windowsill
When I tried the cake
The mountain path led
She had never seen such
The museum's newest painting
As the sun went down
The football match ended
I opened the window and
The village festival
His voice on the phone
The river behind the mill
For my birthday I received
The hotel room was
A stranger at the station
The book on the table
After the storm the town
The coffee in this place
We walked along the beach
The manager called me and
Inside the wooden box
The bus was late again, so
Her speech at the wedding
The farmer and his sons
On the way to the airport
The music from next door
That evening in the kitchen
The painter stepped back and
Between the two houses
The service at the counter
As soon as the snow melted
The young violinist
I will never forget the
The road through the forest
In the box of old photographs
The captain told the crew
This phone is
The news from the city
When the lights came back on
The apple tree in the yard
At breakfast my brother
The journey took three days and
The shop on the corner sells
A letter from the bank
The lesson I learned was
Across the frozen lake
The people in this town
My new bicycle
The play opened with
Late at night the streets
The waiter brought us
Somewhere behind the wall
The ending of the story
He finished the race and
The hospital garden
From the top of the tower
The meeting began with
My favourite part of the day
The island in the distance
Two friends sat down and
The letter was signed by
When spring arrived the birds
The smell of fresh bread
The hall was full of
That summer we learned
The clock in the square
In a house by the sea
The answer to the question
After dinner they talked about
The street musician played
I was about to leave when
The plane landed and
The wind in the trees
Her first novel
The boy with the red scarf
The view from the balcony
Three hours later the team
The present under the tree
My uncle's workshop
The door opened slowly and
On the stage the actor
The picnic was
This winter coat
The queue outside the bakery
The student raised her hand and
A bird landed on
The kitchen at midnight
The path along the canal
The promise he made
As the ship left the harbour
The room smelled of
Their first apartment
The horse in the field
The game we played as children
The editor read the page and
The fire in the hearth
What I liked about the course
The tea had gone
At the foot of the stairs
The poem begins with
The town hall clock struck
When the guests had gone
The little theatre
The sea was calm and
My neighbour's piano
The letter to the editor
The first snow of the year
The house we grew up in
The nurse on the night shift
The market stall with the flowers
The old man fed the pigeons and
Between the lines of the letter
The bell rang and
The trip to the mountains
The song on the radio
The carpenter measured the plank and
The last page of the diary
In the quiet of the evening
The girl at the window
A walk through the orchard
The keys on the hook
The tailor looked at the cloth and
The puppy in the basket
The road home
The picture above the sofa
When the curtain fell
The colours of the sunset"""
STEMS = tuple(_STEMS.splitlines())
_LIKED = """
admire amazing beautiful best better bright brilliant calm charming cheerful clean clever
comfortable cosy cute delicious delight delighted delightful enjoy enjoyed excellent excited
fantastic favorite favourite fine fresh friend friendly friends fun generous gentle glad good
gorgeous grateful great happily happiness happy helpful hope impressive joy kind kindness laugh
laughed laughing liked love loved lovely lucky magical nice peace peaceful perfect pleasant
pleased pretty proud rich safe satisfied smile smiled smiling sunny superb sweet tasty thank
thankful warm welcome win wonderful worth
"""
LIKED = frozenset(_LIKED.split())
_LOATHED = """
afraid alone angry awful bad bitter bored boring broke broken cold cried cruel cry crying damage
damaged danger dangerous dark dead death died dirty disappointed disappointing disaster dreadful
dull empty fail failed failure fear fight foul gloomy grief guilty hate hated hopeless horrible
horrid hurt ill killed lonely lose lost mean miserable nasty noisy pain painful poor rotten rude
ruined sad sadly scared sick smelly sorrow sorry stale stupid terrible tired tragic ugly unhappy
unpleasant upset weak worried worse worst wrong
"""
LOATHED = frozenset(_LOATHED.split())
