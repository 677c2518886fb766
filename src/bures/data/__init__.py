"""What goes in: pinned assets, prompt sets, corpora, what installed packages add; and the packaged weights."""
