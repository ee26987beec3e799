"""Reports, declared as sections and rendered as text, Markdown or HTML."""
