"""What people come for: pictures from words, in another style, larger, mended, translated, told in words.

Each application is a package here with the doors of a family (`gencore.families`) if it trains networks of its own; the
command line offers what people use (`gencore.cli`). Only this room may compose families.
"""
