"""The course: predictions, seeded problems, checks, the judge and its sandbox, the nbgrader bridge."""
