"""Small, pure readers of the file headers by which a package tells what it is.

Each module reads one format by its specification, only the fields needed, over a bounded :class:`~.reader.Reader`:
whatever a file claims, reading it ends soon, takes little memory, and fails with :class:`~.reader.HeaderError` alone.
They know formats and refuse to know updates, architectures, paths and the rest of the library; they import nothing of
it.
"""
