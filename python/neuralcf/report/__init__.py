"""Reports: HTML pages with their pictures inside, one file each, readable offline, by day and night, wide and narrow.

`page` is what every report shares, `charts` how pictures are drawn; `model_report` says what stands in that of a model,
`build` puts it together.
Pictures need matplotlib, the extra `plot`, which is imported when the first one is drawn.
"""
