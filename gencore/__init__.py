"""gencore: the library under the book *Drawn from Noise*.

Folders carry the names of the book's parts. Importing this package changes no global setting.
"""

__version__ = "0.1.0"
