"""Pages that people read: one self-contained HTML file a run, made from `results.json` alone; no torch.

build       `page_of` a result, `write_report` of a run folder
page        `render`, and what a page is made of (`blocks`)
charts      colours, shapes and the parts that Vega-Lite charts share; `bundle` is the library that draws them
text        how untrusted text is made fit to be seen
words       names, and what the jargon means

The pages themselves: `audit`, `scan`, `search`, and their sections, each in a module of its own.
"""

from __future__ import annotations
