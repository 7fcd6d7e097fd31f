"""Everything that ``make bench-data`` measures: contamination, filters and MinHash beside their peers, and the stage against size and workers."""

from __future__ import annotations

from benchmarks import contamination, data_filters, data_scaling

if __name__ == "__main__":
    contamination.main()
    data_filters.main()
    data_scaling.main()
