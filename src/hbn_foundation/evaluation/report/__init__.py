"""Reports: sections declared once, written as text and as a page."""
