"""The paper's propositions, put to the test by experiment: one module per statement, one record per claim."""
