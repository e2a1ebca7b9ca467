"""Read files of users: one module for each kind of file.

A reader returns the right value or raises a ``UserError`` that names the file, the place in it,
what was expected, what was found and how to fix it. Nothing else comes out of a reader, whatever
the bytes of the file are.
"""
