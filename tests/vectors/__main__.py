"""`python -m tests.vectors`: writes the frozen test vectors anew."""

import json

from tests.vectors import messages
from tests.vectors.cases import CASES, FOLDER

for name, compute in {**CASES, "messages": messages.draws}.items():
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(compute(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(path)
