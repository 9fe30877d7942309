"""HTML reports: one file each, charts included; they work offline, in light and dark mode, on wide and narrow screens.

`page` has the HTML elements that all reports share, `charts` draws SVG, `model_report` defines the report on a model,
and `build` measures what it shows. Charts need matplotlib (the extra `plot`), which is imported on first use.
"""
