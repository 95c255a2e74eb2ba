"""What people come for: pictures from words, in another style, larger, mended, translated, told in words.

Each application is a package here with the doors of a family (`gencore.families`) if it trains networks of its own, and
with a module ``command`` if the command line offers it. Only this room may compose families.
"""
