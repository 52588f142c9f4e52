"""The rows of Table 1 as modules, and the family they belong to."""
