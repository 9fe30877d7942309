"""Reports: HTML pages with their pictures inside, one file each, readable offline, by day and night, wide and narrow.

`page` is what every report shares, `charts` how pictures are drawn; `demo` and `run` say what stands in theirs.
Pictures need matplotlib, the extra `plot`, which is imported when the first one is drawn.
"""
