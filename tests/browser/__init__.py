"""Driving JupyterLab in a real Chromium. What a test needs is the `lab` fixture, a LabPage:

    def test_allocating_by_hand_moves_the_machine(lab):
        lab.scratch(["import vmlab; from vmlab import views", "m = vmlab.boot(ram='64M'); views.buddy(m)"])
        lab.run_all()
        before = lab.kernel("m.nr_free_pages()")                     # a value out of the notebook's kernel
        lab.cell(1).get_by_role("button", name="Allocate").click()   # the mouse (Playwright's own API)
        lab.tab_to(lab.cell(1).get_by_role("button", name="Free"))   # … or the keyboard alone
        lab.wait_idle()
        assert lab.kernel("m.nr_free_pages()") < before
        lab.screenshot("buddy.png")                                  # to look at: test-results/buddy.png

The fixture fails the test if the browser's console showed an error. The server, the browser and the page live for the
whole session; each test gets its own kernel and a pristine copy of the notebook it opens.
"""
