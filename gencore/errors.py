"""The one exception that means: what you gave us cannot be used, and here is what to do."""


class InputError(ValueError):
    """Bad input from outside the program: a file, a folder, a field of a recipe.

    The message names the file or field and says what to do. The command line prints it without a traceback.
    """
