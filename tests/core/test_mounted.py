"""What is done to a tmpfs by name is recorded, and fails with the kernel's errno."""

from __future__ import annotations

import pytest

import vmlab


def test_a_tape_knows_what_was_done_to_a_tmpfs() -> None:
    m = vmlab.boot("16M", swap="1M")
    m.mount_tmpfs("size=1m")
    shm = m.tmpfs()
    p = m.spawn()
    with m.record() as tape:
        assert shm.mkdir("/a") == 0
        assert shm.write_file("/a/b", b"hello" * 1000) == 5000
        a = p.mmap(4096)
        p.write(a, b"x")
        assert shm.rename("/a/b", "/c") == 0 and shm.symlink("/c", "/l") == 0
        assert shm.truncate("/c", 5) == 0
        with pytest.raises(ValueError, match="cannot keep an open file"):
            shm.open("/c")
    assert [op.name for op in tape.ops].count("tmpfs_call") == 5
    then = tape.seek(len(tape) - 1)
    assert then.tmpfs().tree() == shm.tree() and then.tmpfs().read_file("/l") == b"hello"
    for i in range(len(tape)):
        assert vmlab.describe(tape.event(i))
    m.check()


def test_failures_say_their_name() -> None:
    m = vmlab.boot("16M")
    m.mount_tmpfs("size=8k,nr_inodes=3")
    shm = m.tmpfs()
    assert repr(shm.unlink("/none")) == "-ENOENT (-2)" and repr(shm.read_file("/none")) == "-ENOENT (-2)"
    assert shm.write_file("/a", b"x" * 10_000) == 8192 and repr(shm.write_file("/a/b", b"")) == "-ENOTDIR (-20)"
    assert shm.mkdir("/d") == 0 and repr(shm.mkdir("/e")) == "-ENOSPC (-28)" and repr(shm.mkdir("/d")) == "-EEXIST (-17)"
    file = shm.open("/a")
    assert shm.read(file, 3) == b"xxx" and repr(shm.umount()) == "-EBUSY (-16)" and shm.close(file) == 0
    with pytest.raises(ValueError, match="one of chmod"):
        m.tmpfs_call("/dev/shm", "_tree")
    assert shm.umount() == 0
    with pytest.raises(ValueError, match="no tmpfs is mounted"):
        m.tmpfs()
    with pytest.raises(ValueError, match="mounted"):
        shm.mkdir("/x")
    m.check([])
