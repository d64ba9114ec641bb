"""`python -m tests.fuzz TARGET`: feeds one target for as long as it is let, guided by coverage.

It needs atheris, which not every machine has a wheel of; the tests feed the same targets without it. Inputs that found
new ways are kept in the corpus folder, which is under .hypothesis and not in the repository.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

LOOKED_AT = ["tercet", "tomllib"]  # whose branches count as coverage
CORPUS = Path(__file__).parents[2] / ".hypothesis" / "fuzz"


def main() -> None:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="coverage-guided fuzzing of one reader")
    parser.add_argument("target", help="its name, or `list`")
    parser.add_argument("--seconds", type=int, default=60, help="how long; 0 is until something is found")
    parser.add_argument("--longest", type=int, default=4096, help="bytes of an input")
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.exit("atheris is not installed: .venv/bin/python -m pip install -e '.[fuzz]'  (Linux; Python 3.11 to 3.13)")
    _fuzz(arguments)


def _fuzz(arguments: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=LOOKED_AT):
        from tests.fuzz.targets import TARGETS
    if arguments.target not in TARGETS:
        print("targets:", *TARGETS)
        sys.exit(0 if arguments.target == "list" else 2)
    target = TARGETS[arguments.target]
    corpus = CORPUS / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={arguments.seconds}", f"-max_len={arguments.longest}", "-rss_limit_mb=2048"]
    options += [f"-dict={_dictionary()}", f"-artifact_prefix={CORPUS}/{target.name}-"]
    atheris.Setup([sys.argv[0], str(corpus), *options], target.run)
    atheris.Fuzz()


def _dictionary() -> Path:
    """What readers stumble over, as libFuzzer takes it."""
    from tests.fuzz.mutate import TOKENS

    path = CORPUS / "dictionary"
    words = ["".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS if len(token) <= 64]
    path.write_text("\n".join(f'"{word}"' for word in words) + "\n")
    return path


if __name__ == "__main__":
    main()
