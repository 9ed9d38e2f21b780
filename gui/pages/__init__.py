"""One module a page of the panel; each page is a QWidget that takes the bridge."""
