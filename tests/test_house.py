"""Is the house in order? The rules that no linter knows: layers, notebooks, sizes, addresses, names."""

from __future__ import annotations

import ast
import functools
import json
import pathlib
import re
import subprocess
import sys

import nbformat
import pytest

from tests.helpers import ROOT

# Who may import whom: a module imports its own layer and those before it.
LAYERS = [
    ["errors"],
    ["hw"],
    ["mm", "v26"],
    ["machine", "caches", "faults", "kernel_memory", "looking", "mounted", "process", "system", "syscalls"],
    ["trace"],
    ["views", "course", "host", "tools"],
    ["cli", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
PURE = {name for names in LAYERS[:5] for name in names}

# One accelerator: the module, what it imports, and that it does so inside a function, when it is first of use.
ACCELERATORS = [("vmlab.trace.fastpath", "numpy"), ("vmlab.trace.curves", "numpy")]

# Imports that go up on purpose, inside a function, at the moment a reader asks for them.
UPWARDS = {("machine", "trace")}  # m.record() hands out a tape

LONGEST = 600  # lines a reader takes in at a sitting, at the very most
GENERATED = re.compile(r"requirements.*\.txt|LICENSE|.*\.(ipynb|jsonl|png|gz|svg|vmpt)")


def tracked(*patterns: str) -> list[pathlib.Path]:
    """The files git knows, new ones that are not ignored included, as paths in the checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def show(path: pathlib.Path) -> str:
    """A path the way a reader types it."""
    return path.relative_to(ROOT).as_posix()


# -- layers -----------------------------------------------------------------------------------------------------------


def layer(module: str) -> str | None:
    """`vmlab.mm.page` -> "mm"; None for the package itself and for anything that is not vmlab's."""
    parts = module.split(".")
    return parts[1] if parts[0] == "vmlab" and len(parts) > 1 else None


def imports(source: str, module: str, package: bool) -> list[tuple[str, int]]:
    """Every module a source imports at run time, with the line: imports for annotations only do not count."""
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: None if package and node.level == 1 else -(node.level - package)]
                base = ".".join([*above, *filter(None, [node.module])])
            # `from . import page` names a module, `from .page import Page` a thing in one: the longer name serves both.
            found += [(f"{base}.{alias.name}", node.lineno) for alias in node.names]
    return found


def modules() -> list[tuple[pathlib.Path, str, bool]]:
    """Every Python file of the package: path, module name, and whether it is a package's __init__."""
    found = []
    for path in tracked("vmlab/*.py", "vmlab/**/*.py"):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        package = parts[-1] == "__init__"
        found.append((path, ".".join(parts[:-1] if package else parts), package))
    return found


def test_the_reader_of_imports_understands_every_form():
    source = "import numpy.linalg\nfrom . import b\nfrom ..hw import e820\nfrom .c import d\nif TYPE_CHECKING:\n    from vmlab import cli\n"
    assert [name for name, _ in imports(source, "vmlab.mm.a", False)] == ["numpy.linalg", "vmlab.mm.b", "vmlab.hw.e820", "vmlab.mm.c.d"]
    assert [name for name, _ in imports("from . import x\nfrom ..hw import y", "vmlab.mm", True)] == ["vmlab.mm.x", "vmlab.hw.y"]


def test_imports_only_go_down():
    wrong = []
    for path, module, package in modules():
        mine = layer(module)
        if mine is None:
            continue  # vmlab/__init__.py is the door to all rooms
        assert mine in RANK, f"{show(path)}: which layer is vmlab.{mine}? Add it to LAYERS."
        for name, line in imports(path.read_text(), module, package):
            theirs = layer(name)
            if theirs in RANK and RANK[theirs] > RANK[mine] and (mine, theirs) not in UPWARDS:
                wrong.append(f"{show(path)}:{line} imports {name}: {mine} must not know {theirs}")
    assert not wrong, "\n".join(wrong)


def test_the_core_is_pure_python():
    wrong, fast = [], []
    for path, module, package in modules():
        source = path.read_text()
        for name, line in imports(source, module, package) if layer(module) in PURE else ():
            if name.partition(".")[0] in {*sys.stdlib_module_names, "vmlab"}:
                continue
            if (module, name) in ACCELERATORS and source.splitlines()[line - 1].startswith("    "):
                fast.append(module)
            else:
                wrong.append(f"{show(path)}:{line} imports {name}")
    assert not wrong, "only the standard library in hw, mm, machine and trace:\n" + "\n".join(wrong)
    assert set(fast) == {module for module, _ in ACCELERATORS}, f"an accelerator that nobody uses: {fast}"


def test_importing_and_booting_load_no_third_party_module():
    # -I keeps the environment's hooks out; site-packages stays on the path, so a third-party import would succeed.
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); import vmlab; vmlab.boot(ram='16M');"
        "import json; print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "vmlab" in loaded
    assert loaded <= {*sys.stdlib_module_names, "vmlab"}, f"third party: {loaded - sys.stdlib_module_names - {'vmlab'}}"


# -- notebooks --------------------------------------------------------------------------------------------------------

NOTEBOOKS = tracked("notebooks/*.ipynb", "solutions/**/*.ipynb", "exercises/**/*.ipynb")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=show)
def test_notebook_is_clean(path):
    raw = json.loads(path.read_text())
    nbformat.validate(raw)
    cells = raw["cells"]
    assert (raw["nbformat"], raw["nbformat_minor"] >= 5) == (4, True), "cells have ids from nbformat 4.5 on"
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None, f"cell {cell['id']}: clear the outputs before committing"
        assert "".join(cell["source"]).strip(), f"cell {cell['id']} is empty"
        # Random ids change at every conversion and say nothing in a diff or in a link to a cell.
        assert not re.fullmatch(r"[0-9a-f]{8}|[0-9a-f-]{36}", cell["id"]), f"cell {cell['id']}: give it a name"
    ids = [cell["id"] for cell in cells]
    assert len(ids) == len(set(ids)), f"repeated ids: {sorted({i for i in ids if ids.count(i) > 1})}"
    assert raw["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in raw["metadata"], "no saved widget state"


def headings(path: pathlib.Path) -> list[int]:
    """The levels of the Markdown headings of a notebook, in order."""
    prose = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    lines = re.sub(r"```.*?```", "", "\n".join(prose), flags=re.DOTALL).splitlines()
    return [len(match[1]) for line in lines if (match := re.match(r"(#{1,6})\s", line))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=show)
def test_headings_form_an_outline(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# "), "a notebook begins with its title"
    levels = headings(path)
    assert levels.count(1) == 1, "one title"
    # Who navigates by headings loses the thread where a level is left out.
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), f"a level is skipped: {levels}"


# -- files ------------------------------------------------------------------------------------------------------------


def test_no_file_is_too_long():
    too_long = {
        show(path): lines
        for path in tracked()
        if not GENERATED.fullmatch(path.name) and (lines := path.read_bytes().count(b"\n")) > LONGEST
    }
    assert not too_long, f"would a reader take these in at a sitting? {too_long}"


def test_no_registry_or_machine_addresses():
    # Spelt in pieces, or this file would find itself.
    hosts = ["pypi" + r"\.org", "python" + r"hosted\.org", "npmjs" + r"\.(org|com)", r"deb\." + "debian"]
    hosts += ["--(extra-)?index" + "-url", "--find" + "-links"]
    machine = "/" + r"work/(main|venv|notes|scratch|shared|ksrc)|/root/" + r"\."
    pattern = re.compile("|".join([*hosts, machine]))
    found = []
    for path in tracked():
        if path.suffix in (".png", ".gz"):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line) and "--no-emit-index" not in line:
                found.append(f"{show(path)}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


def test_requirements_are_pinned_and_hashed():
    for path in tracked("requirements*.txt"):
        entries = re.sub(r"\\\n", " ", path.read_text())
        lines = [line for line in entries.splitlines() if line and not line.startswith("#")]
        assert lines
        for line in lines:
            assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+ ", line), f"{path.name}: not pinned: {line[:80]}"
            assert "--hash=sha256:" in line, f"{path.name}: no hash: {line[:80]}"


# -- names ------------------------------------------------------------------------------------------------------------


def kernel_names(docstring: str) -> list[str]:
    """The kernel functions a docstring says it mirrors: `kernel: mm/page_alloc.c:rmqueue, expand` -> rmqueue, expand."""
    names = []
    for line in re.findall(r"\bkernel: (.+)$", docstring, re.MULTILINE):
        for reference in line.split(", "):
            match = re.fullmatch(r"(?:[\w./-]+\.[chS]:)?(\w+)\.?", reference.strip())
            names += [match[1]] if match else []
    return names


def documented_functions(path: pathlib.Path) -> list[tuple[str, str | None]]:
    """The public functions and methods of a module with their docstrings; setters and nested functions do not count."""
    found = []
    tree = ast.parse(path.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for body in (tree.body, *(node.body for node in classes)):
        for node in body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                if not any(ast.unparse(decorator).endswith(".setter") for decorator in node.decorator_list):
                    found.append((node.name, ast.get_docstring(node)))
    return found


def documented_classes(path: pathlib.Path) -> list[tuple[str, str | None]]:
    """The classes of a module with their docstrings: one that has a single method may stand for a kernel function."""
    return [(node.name, ast.get_docstring(node)) for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]


def test_kernel_lines_are_read_in_every_form_they_are_written_in():
    assert kernel_names("Take a block. kernel: mm/page_alloc.c:rmqueue") == ["rmqueue"]
    assert kernel_names("x\n\nkernel: mm/a.c:__one, two, include/linux/mm.h:three\n") == ["__one", "two", "three"]
    assert kernel_names("Flags. kernel: include/linux/mm.h") == []


def test_every_public_function_of_the_kernel_is_documented():
    files = tracked("vmlab/mm/*.py", "vmlab/hw/*.py")
    functions = [(show(path), name, docstring) for path in files for name, docstring in documented_functions(path)]
    documented = {name for _, name, docstring in functions if docstring}  # an override says what its original says
    bare = [f"{path}: {name}" for path, name, docstring in functions if not docstring and name not in documented]
    assert len(documented) > 30 and not bare, "no docstring:\n" + "\n".join(bare)


@functools.cache
def all_names() -> frozenset[str]:
    """Every function's name in the kernel's part of the package, and every name in their `kernel:` lines."""
    names: set[str] = set()
    for path in tracked("vmlab/mm/*.py", "vmlab/hw/*.py", "vmlab/machine.py"):
        for name, docstring in documented_functions(path) + documented_classes(path):
            names.update([name, *kernel_names(docstring or "")])
    return frozenset(names)


@pytest.mark.parametrize(
    ("chapter", "wanted"),
    [
        (2, "setup_memory_region find_max_pfn find_max_low_pfn setup_memory paging_init zone_sizes_init"),
        (2, "free_area_init free_area_init_node free_area_init_core build_zonelists"),
        (5, "init_bootmem_core reserve_bootmem_core free_bootmem_core __alloc_bootmem_core free_all_bootmem_core mem_init"),
        (6, "__alloc_pages rmqueue expand balance_classzone __free_pages_ok alloc_pages_node nr_free_pages nr_free_buffer_pages"),
        (3, "mk_pte pte_mkdirty pte_mkyoung pte_mkwrite pte_wrprotect pte_modify pgd_offset pmd_offset pte_offset pgd_alloc"),
        (3, "pmd_alloc pte_alloc pte_alloc_kernel pgd_free free_pgd_slow pte_free check_pgt_cache clear_page_tables paging_init"),
        (3, "pagetable_init fixrange_init kmap_init __pa __va virt_to_page flush_tlb_page flush_tlb_range flush_tlb_mm"),
        (3, "flush_tlb_all flush_cache_page flush_cache_range flush_cache_mm switch_mm enter_lazy_tlb"),
        (4, "do_mmap_pgoff get_unmapped_area arch_get_unmapped_area find_vma find_vma_prev find_vma_prepare find_vma_intersection"),
        (4, "vma_link insert_vm_struct __insert_vm_struct vma_merge do_munmap unmap_fixup do_brk sys_brk sys_mprotect"),
        (4, "mprotect_fixup mprotect_fixup_all mprotect_fixup_start mprotect_fixup_end mprotect_fixup_middle do_mremap move_vma"),
        (4, "move_page_tables move_one_page sys_mlock sys_munlock sys_mlockall sys_munlockall mlock_fixup mlock_fixup_all"),
        (4, "mlock_fixup_start mlock_fixup_end mlock_fixup_middle exit_mmap copy_mm dup_mmap copy_page_range mm_init mm_alloc mmput"),
        (4, "mmdrop do_page_fault expand_stack fixup_exception search_exception_table handle_mm_fault handle_pte_fault do_no_page"),
        (4, "do_anonymous_page do_swap_page do_wp_page can_share_swap_page break_cow vm_enough_memory get_user_pages"),
        (4, "make_pages_present zap_page_range copy_from_user copy_to_user setup_arg_pages"),
        (7, "get_vm_area vmalloc __vmalloc vmalloc_area_pages alloc_area_pmd alloc_area_pte vmalloc_dma vmalloc_32 vfree"),
        (7, "vmfree_area_pages free_area_pmd free_area_pte"),
        (8, "kmem_cache_create kmem_cache_estimate kmem_cache_grow kmem_cache_alloc kmem_cache_free kmem_cache_alloc_one"),
        (8, "kmem_cache_alloc_one_tail kmem_cache_free_one kmem_cache_reap __kmem_cache_shrink kmem_cache_shrink kmem_cache_destroy"),
        (8, "kmem_cache_init kmem_cache_sizes_init kmem_cache_slabmgmt kmem_cache_init_objs kmem_slab_destroy kmalloc kfree"),
        (8, "kmem_tune_cpucache kmem_cache_alloc_batch free_block drain_cpu_caches enable_cpucache kmem_getpages kmem_freepages"),
        (9, "kmap kmap_high map_new_virtual kunmap kunmap_high flush_all_zero_pkmaps kmap_atomic kunmap_atomic create_bounce"),
        (9, "bounce_end_io bounce_end_io_read bounce_end_io_write alloc_bounce_page alloc_bounce_bh copy_from_high_bh"),
        (9, "copy_to_high_bh_irq init_emergency_pool"),
        (10, "add_to_page_cache add_to_page_cache_unique __add_to_page_cache find_get_page find_lock_page __find_lock_page"),
        (10, "__find_get_page __remove_inode_page page_cache_init add_page_to_hash_queue generic_file_readahead page_cache_read"),
        (10, "do_generic_file_read lru_cache_add lru_cache_del mark_page_accessed activate_page refill_inactive shrink_cache"),
        (10, "shrink_caches try_to_free_pages try_to_free_pages_zone swap_out swap_out_mm swap_out_vma swap_out_pgd swap_out_pmd"),
        (10, "try_to_swap_out kswapd kswapd_balance kswapd_balance_pgdat kswapd_can_sleep check_classzone_need_balance"),
        (11, "get_swap_page scan_swap_map add_to_swap_cache delete_from_swap_cache __delete_from_swap_cache swap_duplicate swap_free"),
        (11, "swap_entry_free swap_info_get lookup_swap_cache read_swap_cache_async swapin_readahead swap_writepage rw_swap_page"),
        (11, "rw_swap_page_base rw_swap_page_nolock sys_swapon sys_swapoff try_to_unuse unuse_process unuse_vma unuse_pgd unuse_pmd"),
        (11, "unuse_pte valid_swaphandles get_swaphandle_info free_page_and_swap_cache remove_exclusive_swap_page"),
        (11, "free_swap_and_cache brw_page"),
        (12, "shmem_swp_entry shmem_swp_alloc shmem_nopage shmem_getpage shmem_writepage shmem_unuse shmem_unuse_inode"),
        (12, "shmem_find_swp shmem_truncate shmem_free_swp shmem_get_inode shmem_file_setup shmem_zero_setup shmem_create"),
        (12, "shmem_mknod shmem_mkdir shmem_rmdir shmem_link shmem_unlink shmem_rename shmem_symlink shmem_file_read"),
        (12, "shmem_file_write shmem_mmap shmem_notify_change shmem_delete_inode shmem_read_super shmem_parse_options"),
        (12, "shmem_remount_fs shmem_set_size shmem_statfs newseg sys_shmget sys_shmat sys_shmdt sys_shmctl shm_open shm_close"),
        (12, "shm_destroy do_shmem_file_read shmem_removepage shmem_lock"),
        (13, "vm_enough_memory out_of_memory badness select_bad_process oom_kill oom_kill_task int_sqrt"),
    ],
)
def test_the_books_kernel_functions_are_found_by_name(chapter, wanted):
    """A reader who meets a name in the book's call graphs finds it here: as a function's name or in a `kernel:` line."""
    names = all_names()
    missing = [name for name in wanted.split() if name not in names]
    assert not missing, f"chapter {chapter}: neither a function nor a `kernel:` line for {missing}"
