"""English needs no translation file, but it has plurals: "%n layer(s)" becomes "1 layer" or "12 layers"."""

from __future__ import annotations

from PySide6.QtCore import QTranslator


class EnglishPlurals(QTranslator):
    """Installed before any other translator, so that a translation into another language comes first."""

    def isEmpty(self) -> bool:
        return False

    def translate(
        self, _context: str, source: str, _disambiguation: str | bytes | None = None, n: int = -1
    ) -> str | None:
        """The source text with "(s)" and "(es)" resolved for ``n``; None, where there are none, asks the next one."""
        if n < 0 or ("(s)" not in source and "(es)" not in source):
            return None
        return source.replace("(s)", "" if n == 1 else "s").replace("(es)", "" if n == 1 else "es")
