"""The desk: labelers, red teamers and releasers at one web application, on the serving application's database."""
