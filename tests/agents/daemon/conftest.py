"""Each test of agents has the command line's switches between threads."""

from tests.agents.scenes import quick_switches as quick_switches  # a fixture
