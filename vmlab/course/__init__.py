"""The course: predictions, seeded problems, checks, the judge and its sandbox, the nbgrader bridge.

What a notebook calls (everything else is for authors and instructors):

    from vmlab import course
    course.student()                        whose numbers these are
    q = course.question("06-buddy/split")   the numbers of a task, different for each student
    course.check("06-buddy/split")          try the answer now: what was tested, expected, got
    course.parsons("06-buddy/free-order")   lines to bring into order, with buttons or keys
    p = course.predict("06-split", "How many blocks …?", choices=["3", "4"]); …; p.reveal(truth)
    course.table(caption, head, rows); course.tell(tape); course.watch(m, gfp, order)    figures and steps, in lessons
"""

from vmlab.course.incell import check, parsons, question, student
from vmlab.course.lesson import table, tell, watch
from vmlab.course.predictions import Prediction, predict

__all__ = ["Prediction", "check", "parsons", "predict", "question", "student", "table", "tell", "watch"]
