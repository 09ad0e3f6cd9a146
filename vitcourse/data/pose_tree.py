"""The 82 poses, in 20 groups, in 6 families: a table of angles. The tree has the shape of Yoga-82's (arXiv:2004.10362).

Longer than 150 lines because it is mostly the table.

Each line of the table is a pose: a name, then the directions of eleven bones in whole degrees, clockwise from up (0 up,
90 right, 180 down, 270 left). Left and right limbs look alike, and a pose and its mirror image are the same pose.
"""

from __future__ import annotations

import numpy as np

# Joints in the order of the annotation. Each but the first ends a bone that starts at another joint, its parent.
JOINTS = (
    "pelvis",
    "waist",
    "neck",
    "head",
    "elbow 1",
    "hand 1",
    "elbow 2",
    "hand 2",
    "knee 1",
    "foot 1",
    "knee 2",
    "foot 2",
)
PARENTS = (-1, 0, 1, 2, 2, 4, 2, 6, 0, 8, 0, 10)
LENGTHS = (0, 9, 9, 6, 9, 9, 9, 9, 14, 14, 14, 14)  # of the bone that a joint ends
HEAD_RADIUS = 4

# back chest head | upper arm, forearm: 1, 2 | thigh, shin: 1, 2
_TABLE = """
# standing / straight
arms down              |   0   0   0 | 160 170  200 190 | 173 178  187 182
arms out               |   0   0   0 |  90  90  270 270 | 173 178  187 182
arms raised            |   0   0   0 |  35  35  325 325 | 173 178  187 182
hands on hips          |   0   0   0 | 120 252  240 108 | 173 178  187 182
one arm up             |   0   0   0 |  12   8  200 190 | 173 178  187 182
# standing / bent forward
back level, arms down  |  80  90  80 | 178 182  170 175 | 176 180  186 182
back level, arms ahead |  80  90  90 |  82  84   98  96 | 176 180  186 182
head to knees          | 130 165 180 | 175 182  190 184 | 176 180  186 182
half-way, arms back    |  45  55  45 | 225 230  238 242 | 176 180  186 182
half-way, arms ahead   |  45  55  55 |  55  60   75  72 | 176 180  186 182
# standing / bent sideways
one arm over           |  15  40  50 |  60  75  195 200 | 172 178  188 182
both arms over         |  15  40  45 |  60  70   30  45 | 172 178  188 182
triangle, arm up       |  55  75  80 |   0   0  178 180 | 150 152  212 208
triangle, arm ahead    |  55  75  80 |  75  75  178 180 | 150 152  212 208
# standing / in a lunge
arms out               |   0   0   0 |  90  90  270 270 | 105 180  218 222
arms up                |   0   0   0 |  12   6  348 354 | 105 180  218 222
leaning, arm ahead     |  45  55  60 |  55  60  178 178 | 105 180  218 222
knee down              |   0   0   0 | 165 150  195 185 |  88 178  180 270
knee down, arms up     |   0   0   0 |  12   6  348 354 |  88 178  180 270
like on a chair        |  25  20  15 |  40  40   55  52 | 108 200  118 195
# sitting / legs ahead
arms up                |   0   0   0 |  12   8  348 352 |  88  90   96  92
leaning back           | 330 335 340 |  72  76   86  88 |  88  90   96  92
one knee up            |   0   0   0 | 165 180  195 190 |  88  90   40 165
both knees up          | 345   0   5 | 110  85  125  95 |  38 160   46 164
legs crossed           |   0   0   0 | 150 130  210 230 | 105 258  255 102
# sitting / legs behind
hands on knees         |   0   0   0 | 150 125  160 130 |  92 268   98 272
arms up                |   0   0   0 |  15   8  345 352 |  92 268   98 272
palms together         |   0   0   0 | 135  40  145  45 |  92 268   98 272
thighs upright         |   0   0   0 | 165 172  195 188 | 172 268  184 272
# sitting / in a split
arms up                |   0   0   0 |  15   8  345 352 |  92  88  268 272
hands down             |   0   0   0 | 155 175  205 185 |  92  88  268 272
bent over              |  50  75  85 |  85  88   95  95 |  92  88  268 272
# sitting / bent forward
hands to feet          |  40  75  85 |  98  95  104 100 |  88  90   96  92
arms back              |  40  75  85 | 265 270  275 278 |  88  90   96  92
one knee out           |  40  75  85 |  98  95  104 100 |  88  90   60 225
half-way               |  25  40  45 |  75  80   85  88 |  88  90   96  92
# sitting / twisted
one arm behind         |   5  10   0 | 105  95  220 205 |  88  90   30 160
one arm up             |   5  10   0 |  15   5  220 205 |  88  90   30 160
arms level             |   5  10   0 |  92  90  270 268 |  88  90   30 160
legs folded            |   5  10   0 | 105  95  220 205 |  92 225   88 265
# balancing / on one leg
tree, arms up          |   0   0   0 |  18 350  342  10 | 178 180  245 128
tree, palms together   |   0   0   0 | 140 315  220  45 | 178 180  245 128
leg ahead              |   0   0   0 |  92  90  205 195 | 178 180   82  82
level, arms ahead      |  82  88  85 |  85  86   98  94 | 176 180  272 272
level, arms down       |  82  88  85 | 178 180  186 182 | 176 180  272 272
dancer                 |  35  20  15 |  60  60  225 265 | 180 180  245 330
# balancing / on the hands
crow                   |  95 110  90 | 205 160  215 165 | 145 270  155 275
crow, leg back         |  95 110  90 | 205 160  215 165 | 145 270  280 285
crow, legs ahead       |  60  65  45 | 200 175  208 178 |  80  80   92  90
legs in a V            | 340 345 350 | 178 182  190 186 |  45  40   55  50
legs level ahead       |   0   0   0 | 178 182  190 186 |  80  85   92  92
# inverted / legs straight
handstand              | 180 180 180 | 176 178  186 183 |   3   2  356 358
handstand, split       | 180 180 180 | 176 178  186 183 |  55  55  305 305
headstand              | 180 180 180 |  92 178  268 182 |   3   2  356 358
shoulder stand         | 180 165 100 | 255  45  268  40 |   4   0  354 358
plough                 | 190 165 100 | 262 268  275 272 | 100 102  108 108
# inverted / legs bent
handstand, knees out   | 180 180 180 | 176 178  186 183 |  55 310  305  50
handstand, scorpion    | 170 190 215 | 176 178  186 183 | 345  85  358  98
headstand, knees in    | 180 180 180 |  92 178  268 182 |  95 310  105 318
headstand, one leg up  | 180 180 180 |  92 178  268 182 |   2   0   80 215
# reclining / face up
flat                   | 270 270 270 | 100  96   84  88 |  88  90   94  91
arms overhead          | 270 270 270 | 265 268  280 276 |  88  90   94  91
knees to chest         | 270 270 275 |  60  50   70  60 | 345 100  355 108
legs raised            | 270 270 270 | 100  96   84  88 |   8   5   18  15
one leg raised         | 270 270 270 | 100  96   84  88 |  15  12   94  91
# reclining / face down
cobra                  |  55  25   5 | 175 180  188 184 | 272 270  266 270
sphinx                 |  75  50  15 | 150  92  160  95 | 272 270  266 270
locust                 |  75  65  55 | 255 252  265 262 | 290 288  300 296
bow                    |  70  50  35 | 285 290  295 295 | 290  10  300  20
# reclining / on the side
head on hand           | 285 305 335 | 235  10  105 120 |  95  92  100  96
leg raised             | 285 305 335 | 235  10  105 120 |  35  32  100  96
knee raised            | 285 305 335 | 235  10  105 120 |  35 165  100  96
# reclining / plank
high                   |  70  72  75 | 175 178  185 182 | 250 250  254 252
low                    |  84  86  85 | 178  88  186  94 | 268 266  272 270
side, arm up           |  68  70  72 |   2   0  178 180 | 248 248  252 250
high, leg raised       |  70  72  75 | 175 178  185 182 | 250 250  292 290
# wheel / face up
arch                   |  80 115 170 | 165 185  178 195 | 270 190  280 198
bridge                 | 120 120 100 | 250 260  258 266 | 265 182  272 190
# wheel / face down
downward dog           | 128 130 140 | 128 128  134 132 | 205 208  212 210
one leg up             | 128 130 140 | 128 128  134 132 | 205 208  305 305
# wheel / kneeling
camel                  | 340 290 240 | 200 195  212 205 | 178 268  184 272
arms over              | 340 290 250 | 268 245  280 255 | 178 268  184 272
"""


def _read(table: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The full name of each pose, and the directions of its bones: `(82, 12)`, the pelvis has none."""
    names, rows, group = [], [], ""
    for line in filter(None, table.splitlines()):
        if line.startswith("# "):
            group = line.removeprefix("# ")
            continue
        words = line.replace("|", " ").split()
        names.append(f"{group} / {' '.join(words[:-11])}")
        rows.append([0, *map(int, words[-11:])])
    return tuple(names), np.array(rows, dtype=np.int32)


def _above(name: str) -> str:
    return name.rpartition(" / ")[0]


POSES, ANGLES = _read(_TABLE)
GROUPS = tuple(dict.fromkeys(map(_above, POSES)))
FAMILIES = tuple(dict.fromkeys(map(_above, GROUPS)))
NAMES = {6: FAMILIES, 20: GROUPS, 82: POSES}

GROUP_OF_POSE = np.array([GROUPS.index(_above(pose)) for pose in POSES], dtype=np.int64)
FAMILY_OF_GROUP = np.array([FAMILIES.index(_above(group)) for group in GROUPS], dtype=np.int64)
