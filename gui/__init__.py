"""The panel: a Qt application over :mod:`core`. Nothing here computes; it shows, asks and forwards."""
