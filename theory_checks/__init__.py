"""The paper's propositions, put to the test by experiment. No check has been written yet."""
