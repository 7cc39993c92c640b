"""Fuzzing takes minutes: it runs where it is asked for by its path, as `nox -s fuzz` does."""

from pathlib import Path

HERE = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--fuzz-messages", type=int, default=3_000_000, help="messages of the loop (default: %(default)s)")
    parser.addoption("--fuzz-examples", type=int, default=20_000, help="examples of hypothesis (default: %(default)s)")
    parser.addoption("--fuzz-seed", type=int, help="seed of both (default: a new one, which is printed)")


def pytest_ignore_collect(config):
    asked = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    return None if any(path.resolve().is_relative_to(HERE) for path in asked) else True
