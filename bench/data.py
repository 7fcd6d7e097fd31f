"""Everything that ``make bench-data`` measures: what the filters find, their and the contamination check's speed beside peers, the stage's cost."""

from __future__ import annotations

from bench import contamination, data_filters, data_quality, data_scaling, personal_data

if __name__ == "__main__":
    data_quality.main()
    personal_data.main()
    contamination.main()
    data_filters.main()
    data_scaling.main()
