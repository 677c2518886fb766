"""What pages are made of: charts, the chart library, blocks, text made fit to be seen, and the page itself."""
