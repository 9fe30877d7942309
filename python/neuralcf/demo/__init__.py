"""The whole way on data made on the spot, from interactions to recommendations and a report."""
