"""One data source per file. Each module is a :class:`vitrail.data.source.SourceModule`; a third party's is named by its
dotted name.
"""
