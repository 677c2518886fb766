"""Parts of pages, each made from results alone."""
