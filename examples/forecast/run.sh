#!/bin/sh
# Points drawn from the law L = 1.69 + 406.4 / N^0.34 + 410.7 / D^0.28 at D = 20 N, with noise of 0.1%.
modelyard forecast points.csv --at 7.2e19 --at-tokens 1.55e10 --at-mix same --json forecast.json
