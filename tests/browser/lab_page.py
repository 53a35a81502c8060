"""LabPage: one JupyterLab page in Chromium, driven by mouse, keyboard and JupyterLab's own commands."""

from __future__ import annotations

import json
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator

from tests.browser.server import ROOT, LabServer

RESULTS = ROOT / "test-results"

# Console errors that are JupyterLab's own and say nothing about our views. Keep it narrow: one reason each.
HARMLESS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"^Could not restore the debugger state: Canceled future"), "a kernel restarted and ended while the debugger asked it"),
]

# The notebook in front, as JupyterLab's own object.
CURRENT = "const panel = window.jupyterapp.shell.currentWidget;"


class LabPage:
    """A page showing one notebook at a time. Playwright's own page is `.page`; console errors collect in `.errors`."""

    def __init__(self, browser: Browser, server: LabServer, width: int = 1280, height: int = 1000) -> None:
        self.server = server
        self.errors: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error.stack or error}"))

    def _on_console(self, message: ConsoleMessage) -> None:
        text = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(pattern.search(text) for pattern, _ in HARMLESS):
            self.errors.append(text)

    # -- opening ------------------------------------------------------------------------------------------------------

    def open(self, notebook: str, kernel: bool = True, timeout: float = 60) -> LabPage:
        """Open a notebook by its path in the checkout and wait until it is shown and its kernel is idle.

        Args:
            notebook: for example "notebooks/06-physical-page-allocation.ipynb"; a pristine copy is opened.
            kernel: wait for the kernel, too.
            timeout: seconds.
        """
        self.server.restore(notebook)
        self._go(notebook, timeout)
        if kernel:
            self._wait_js(
                CURRENT + "return panel.sessionContext.isReady && panel.sessionContext.session?.kernel?.status === 'idle'",
                timeout,
                f"the kernel of {notebook} to be idle",
            )
        return self

    def scratch(self, cells: Sequence[str], **options: Any) -> LabPage:
        """Make a notebook of these code cells (prose if a cell begins with `%%markdown`) and open it."""
        return self.open(self.server.write_notebook(cells), **options)

    def _go(self, path: str, timeout: float) -> None:
        if self.page.url.startswith(self.server.url):
            # JupyterLab is there already: opening one more document takes a fraction of loading it again.
            self.close_all()
            self.page.evaluate("path => window.jupyterapp.commands.execute('docmanager:open', {path})", path)
        else:
            address = f"{self.server.url}/lab/workspaces/test-{time.monotonic_ns()}/tree/{path}?token={self.server.token}"
            self.page.goto(address, wait_until="domcontentloaded")
            self._wait_js("return !!window.jupyterapp", timeout, "JupyterLab to load")
            self.page.evaluate("() => window.jupyterapp.restored.then(() => true)")
        self._wait_js(
            "const panel = window.jupyterapp.shell.currentWidget;"
            f"return panel?.context?.path === {json.dumps(path)} && panel.context.isReady"
            " && (!panel.content.model || panel.content.widgets.length === panel.content.model.cells.length)",
            timeout,
            f"{path} to open",
        )

    def close_all(self) -> None:
        """Close every document without saving and end the kernels."""
        self.page.evaluate(
            "() => { for (const widget of [...window.jupyterapp.shell.widgets('main')]) {"
            "if (widget.context?.model) widget.context.model.dirty = false;"  # or it would ask whether to save
            "widget.close(); } }"
        )
        self.server.end_kernels()

    # -- running ------------------------------------------------------------------------------------------------------

    def run_all(self, timeout: float = 120, allow_errors: bool = False) -> LabPage:
        """Run every cell and wait until all are done and painted; AssertionError if a cell failed.

        The command is repeated if nothing started: JupyterLab swallows it while the session is still connecting, so
        notebooks must stand being run twice. After a cell that failed the rest is not run, `allow_errors` or not.
        """
        deadline = time.monotonic() + timeout
        self._command("notebook:clear-all-cell-outputs")  # an earlier run's prompts would look like this one's
        while True:
            self._command("notebook:run-all-cells")
            try:
                self._wait_js(self._cells_js("some", "state.started"), 3, "a cell to start")
                break
            except TimeoutError:
                if time.monotonic() > deadline or not self._cells("some", "true"):
                    raise
        self._wait_js(self._cells_js("every", "state.done || failed"), deadline - time.monotonic(), "all cells to finish")
        if not allow_errors:
            self.assert_no_failed_cell()
        self.wait_idle()
        return self

    def run_cell(self, index: int, timeout: float = 60, allow_errors: bool = False) -> LabPage:
        """Run the cell at this index (prose counts) and wait until it is done."""
        self.page.evaluate(
            "index => {" + CURRENT + "panel.content.deselectAll(); panel.content.activeCellIndex = index; }", index
        )
        self._command("notebook:clear-cell-output")
        self._command("notebook:run-cell")
        self._wait_js(f"const only = {index};" + self._cells_js("every", "state.done"), timeout, f"cell {index} to finish")
        if not allow_errors:
            self.assert_no_failed_cell(index)
        self.wait_idle()
        return self

    def kernel(self, expression: str, timeout: float = 30) -> Any:
        """The value of a Python expression in the notebook's kernel, which must be plain data. Leaves no trace in it."""
        code = f"print('vmlab-value:' + __import__('json').dumps({expression}))"
        for line in self.execute(code, timeout).splitlines():
            if line.startswith("vmlab-value:"):
                return json.loads(line.removeprefix("vmlab-value:"))
        raise AssertionError(f"the kernel gave no value for {expression}")

    def kernel_says(self, expression: str, expected: Any, seconds: float = 5) -> None:
        """Wait until `expression` has the value `expected` in the kernel: widgets gather quick changes before they send them."""
        deadline = time.monotonic() + seconds
        while (value := self.kernel(expression)) != expected:
            assert time.monotonic() < deadline, f"{expression} is {value!r}, not {expected!r}"
            self.page.wait_for_timeout(100)

    def execute(self, code: str, timeout: float = 30) -> str:
        """Run Python in the notebook's kernel without making a cell; returns what it printed, raises what it raised."""
        text, error = self._with_timeout(
            timeout,
            "async code => {"
            + CURRENT
            + """
            let text = '', error = null;
            const future = panel.sessionContext.session.kernel.requestExecute({code, store_history: false});
            future.onIOPub = message => {
                if (message.header.msg_type === 'stream') text += message.content.text;
                if (message.header.msg_type === 'error')
                    error = message.content.ename + ': ' + message.content.evalue;
            };
            await future.done;
            return [text, error];
        }""",
            code,
        )
        if error:
            raise AssertionError(f"in the kernel: {error}\n{code}")
        return str(text)

    def wait_idle(self, timeout: float = 30) -> None:
        """Wait until the kernel has worked off everything asked of it and two frames have been painted."""
        self.execute("", timeout)  # behind whatever the page sent before
        self.page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")

    def assert_no_failed_cell(self, only: int | None = None) -> None:
        """AssertionError with the first traceback if the output of a cell (of any, or `only` that one) is an error."""
        failed = self.page.evaluate(
            "only => {"
            + CURRENT
            + """
            for (const [i, cell] of panel.content.widgets.entries())
                if (cell.model.type === 'code' && (only === null || i === only))
                    for (const output of cell.model.outputs.toJSON())
                        if (output.output_type === 'error') return [i, output.traceback.join('\\n')];
            return null; }""",
            only,
        )
        if failed:
            traceback = re.sub(r"\x1b\[[0-9;]*m", "", failed[1])
            raise AssertionError(f"cell {failed[0]} failed:\n{traceback}")

    # -- finding, pointing, typing, looking ---------------------------------------------------------------------------

    def cell(self, index: int) -> Locator:
        """The cell at this index (prose counts), input and output, as a Playwright locator."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """The output area of the cell at this index."""
        return self.cell(index).locator(".jp-OutputArea").first

    def press(self, key: str, times: int = 1) -> None:
        """Press a key, for example "ArrowRight" or "Shift+Enter", on whatever has the focus."""
        for _ in range(times):
            self.page.keyboard.press(key)

    def tab_to(self, target: Locator, limit: int = 60) -> None:
        """Reach an element by the Tab key alone, from the focus or the start of its output; AssertionError if it cannot be."""
        has_focus = "element => element === document.activeElement"
        if target.evaluate(has_focus):
            return
        inside = "element => { const area = element.closest('.jp-OutputArea'); return !!area && area.contains(document.activeElement); }"
        if not target.evaluate(inside):
            # Stand at the top of the output the way a reader who has just run the cell tabs into it.
            target.evaluate(
                "element => { const area = element.closest('.jp-OutputArea') || document.body;"
                "area.tabIndex = -1; area.focus({preventScroll: true}); }"
            )
        for _ in range(limit):
            self.page.keyboard.press("Tab")
            if target.evaluate(has_focus):
                return
        raise AssertionError(f"{limit} times Tab did not reach {target}; the focus is on {self.focused()}")

    def focused(self) -> str:
        """What has the focus: tag, role and label, for messages and assertions."""
        text: str = self.page.evaluate(
            "() => { const e = document.activeElement; return [e.tagName.toLowerCase(), e.getAttribute('role'),"
            "e.getAttribute('aria-label') || e.innerText?.slice(0, 60)].filter(Boolean).join(' · '); }"
        )
        return text

    def scroll_to_top(self) -> None:
        """Scroll the notebook to its beginning."""
        self.page.evaluate("() => document.querySelectorAll('.jp-WindowedPanel-outer').forEach(e => { e.scrollTop = 0; })")

    def theme(self, dark: bool) -> None:
        """Switch JupyterLab between its light and dark theme."""
        self._command("apputils:change-theme", {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"})
        changed = f"document.body.dataset.jpThemeLight === '{'false' if dark else 'true'}'"
        # A second change before the splash of the first has faded makes JupyterLab throw.
        self._wait_js(f"return {changed} && !document.querySelector('#jupyterlab-splash')", 10, "the theme to change")

    def screenshot(self, path: str | pathlib.Path, whole: bool = False) -> pathlib.Path:
        """Save what the page shows; a bare name goes to test-results/.

        Args:
            path: where to; the folder is made.
            whole: the whole notebook instead of the part that is scrolled into view.
        """
        target = pathlib.Path(path)
        if target.parent == pathlib.Path("."):
            target = RESULTS / target
        target.parent.mkdir(parents=True, exist_ok=True)
        size = self.page.viewport_size
        if whole and size:
            height = self.page.evaluate(
                "() => { const all = [...document.querySelectorAll("
                "'.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer')];"
                "return Math.max(0, ...all.map(e => e.scrollHeight)); }"
            )
            self.page.set_viewport_size({"width": size["width"], "height": min(max(int(height) + 140, size["height"]), 16_000)})
            self.scroll_to_top()
            self.page.wait_for_timeout(600)
        self.page.screenshot(path=target)
        if whole and size:
            self.page.set_viewport_size(size)
        return target

    # -- plumbing -----------------------------------------------------------------------------------------------------

    def _command(self, name: str, arguments: dict[str, object] | None = None) -> None:
        """Start one of JupyterLab's commands without waiting for its end."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args); }", [name, arguments or {}])

    @staticmethod
    def _cells_js(quantifier: str, condition: str) -> str:
        """JavaScript asking whether some/every code cell with a source fulfils a condition on `state` and `failed`."""
        cells = """
            const cells = panel.content.widgets.filter((cell, i) => cell.model.type === 'code'
                && (typeof only === 'undefined' || i === only) && cell.model.sharedModel.getSource().trim());
            const failed = cells.some(cell => cell.model.outputs.toJSON().some(o => o.output_type === 'error'));
            const fulfils = cell => {
                // A folded cell has no prompt on the page, but its input area still has one.
                const prompt = (cell.inputArea?.promptNode ?? cell.node.querySelector('.jp-InputPrompt'))?.textContent ?? '';
                const state = {started: /\\[(\\*|\\d+)\\]/.test(prompt), done: /\\[\\d+\\]/.test(prompt)};
                return CONDITION;
            };"""
        return CURRENT + cells.replace("CONDITION", condition) + f"return cells.{quantifier}(fulfils);"

    def _cells(self, quantifier: str, condition: str) -> bool:
        return bool(self.page.evaluate("() => {" + self._cells_js(quantifier, condition) + "}"))

    def _wait_js(self, body: str, seconds: float, what: str) -> None:
        """Poll a JavaScript function body until it returns true; TimeoutError says what was waited for."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate("() => {" + body + "}"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:.0f} s for {what}")
            self.page.wait_for_timeout(50)

    def _with_timeout(self, seconds: float, function: str, argument: object) -> Any:
        """Evaluate an async JavaScript function, giving up after some seconds."""
        race = "([arg, ms]) => Promise.race([(%s)(arg), new Promise((_, no) => setTimeout(() => no('timeout'), ms))])"
        return self.page.evaluate(race % function, [argument, seconds * 1000])

    def close(self) -> None:
        """Close the page and its context."""
        self.context.close()
