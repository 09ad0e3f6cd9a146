"""Pack the text of `pydoc_data.topics` that comes with the course. Runs in the Python whose text it packs.

    python3.11 experiments/bundle_python_topics.py

The file that comes with the course was packed by Python 3.11.7; other versions have other texts.
"""

import gzip
import sys
from pathlib import Path
from pydoc_data.topics import topics

from vitcourse.data.python_topics import SEPARATOR
from vitcourse.files import written_whole

TARGET = Path(__file__).parent.parent / "vitcourse" / "data" / "assets" / "python-topics.txt.gz"


if __name__ == "__main__":
    text = SEPARATOR.join(topics[name] for name in sorted(topics))
    with written_whole(TARGET) as temporary:
        temporary.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"Python {sys.version.split()[0]}: {len(topics)} topics, {len(text)} characters")
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e3:.0f} kB")
