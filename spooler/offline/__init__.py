"""A site without a line: its day bag, the book of what was entered, and the desk where it is entered."""
