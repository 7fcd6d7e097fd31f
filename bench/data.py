"""Everything that ``make bench-data`` measures: the whole stage by step and beside datatrove, screening by corpus and language, what the filters
find, their speed beside peers, the look-up of duplicates on workers, the cost of size."""

from __future__ import annotations

import sys

from bench import contamination, data_deduplication, data_filters, data_quality, data_scaling, data_screen, data_stage, personal_data
from bench.program import program


def main() -> None:
    """Measure and print all of it."""
    data_stage.main()
    data_screen.main()
    data_quality.main()
    personal_data.main()
    contamination.main()
    data_filters.main()
    data_deduplication.main()
    data_scaling.main()


if __name__ == "__main__":
    sys.exit(program(main))
