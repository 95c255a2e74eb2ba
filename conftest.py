"""pytest from the repository's root knows how to validate notebooks: ``pytest --nbval notebooks``."""

pytest_plugins = ["tests.nbval_figures"]
