"""The tools of the book's CD, and the one that opens the course."""
