"""What the documentation site has beside the pages in docs: references made from the code, and an index of decisions."""
